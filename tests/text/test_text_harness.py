"""lm-evaluation-harness in a child process: a stand-in writes files in the harness's form."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from expunge.errors import BadData, BadEvidence, Unsupported
from expunge.experiments import harness

# As EleutherAI/lm-evaluation-harness@4e7e0d4 writes them (evaluator_utils.py, result_schema.py).
RESULTS: dict[str, Any] = {
    "results": {
        "mmlu_virology": {
            "name": "mmlu_virology", "alias": "virology", "sample_len": 166,
            "acc,none": 0.25, "acc_stderr,none": 0.02,
        },
        "gsm": {
            "alias": "gsm", "exact_match,strict-match": 0.5, "exact_match_stderr,strict-match":
            "N/A", "exact_match,flexible": 0.75, "exact_match_stderr,flexible": 0.01,
        },
        "mmlu": {"alias": "mmlu", "acc,none": 0.3, "acc_stderr,none": 0.004},
    },
    "groups": {"mmlu": {"alias": "mmlu", "acc,none": 0.3, "acc_stderr,none": 0.004}},
    "n-samples": {
        "mmlu_virology": {"original": 166, "effective": 20}, "gsm": {"original": 9, "effective": 9},
    },
    "lm_eval_version": "0.4.13.dev0",
    "config": {"model": "hf"},
}  # fmt: skip

# Writes what it is told where the harness does, keeps the words it got, and fails if asked to.
STAND_IN = """
import json, sys
from pathlib import Path
here = Path(__file__).parent
words = sys.argv[1:]
(here / "words.json").write_text(json.dumps(words))
told = dict(zip(words[::2], words[1::2]))
tasks = told["--tasks"].split(",")
if unknown := [name for name in tasks if name.startswith("no_")]:
    raise ValueError(f"Tasks not found: {', '.join(unknown)}")
if "crash" in tasks:
    print("out of memory, alas", file=sys.stderr)
    sys.exit(7)
if "sleep" in tasks:
    import time
    time.sleep(60)
name = told["--model_args"].split("pretrained=")[1].split(",")[0].replace("/", "__")
out = Path(told["--output_path"]) / name
out.mkdir(parents=True)
if "silent" not in tasks:
    (out / "results_2026-01-01T00-00-00.000000.json").write_text((here / "told.json").read_text())
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package called lm_eval that the child finds, and no other."""
    package = tmp_path / "site" / "lm_eval"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(STAND_IN)
    (package / "told.json").write_text(json.dumps(RESULTS))
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    return package


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def test_every_number_comes_back_with_its_error(stand_in: Path, model: Path) -> None:
    found = harness.evaluate(model, ["mmlu", "gsm"], shots=5, limit=20, batch=2)
    told = {(one.task, one.metric, one.filter): one for one in found}
    assert len(told) == len(found) == 4
    one = told["mmlu_virology", "acc", "none"]
    assert (one.value, one.stderr, one.n, one.version) == (0.25, 0.02, 20, "0.4.13.dev0")
    assert one.interval == pytest.approx((0.25 - 0.0392, 0.25 + 0.0392), abs=1e-4)
    strict = told["gsm", "exact_match", "strict-match"]
    assert (strict.value, strict.stderr, strict.interval) == (0.5, None, None)
    assert told["gsm", "exact_match", "flexible"].stderr == 0.01
    assert told["mmlu", "acc", "none"].n == 0
    words = json.loads((stand_in / "words.json").read_text())
    given = dict(zip(words[::2], words[1::2], strict=True))
    assert given.pop("--output_path")
    assert given == {
        "--model": "hf", "--model_args": f"pretrained={model},dtype=float32",
        "--tasks": "mmlu,gsm", "--batch_size": "2", "--device": "cpu", "--num_fewshot": "5",
        "--limit": "20",
    }  # fmt: skip


def test_a_task_s_own_numbers_of_shots_and_questions_are_left_alone(
    stand_in: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    harness.main([str(model), "mmlu"])
    words = json.loads((stand_in / "words.json").read_text())
    assert "--num_fewshot" not in words
    assert "--limit" not in words
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "mmlu_virology: acc 0.2500 [0.2108, 0.2892], n = 20"
    assert said[1] == "gsm: exact_match, strict-match 0.5000 (no standard error), n = 9"
    assert said[3] == "mmlu: acc 0.3000 [0.2922, 0.3078], n = unknown"


def test_a_missing_harness_says_what_to_install(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    # without site-packages nothing is installed, whatever this environment holds
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(Unsupported, match=r"not installed.*pip install 'lm_eval\[hf\]'"):
        harness.evaluate(model, ["mmlu"], python=str(bare))
    with pytest.raises(Unsupported, match=r"Cannot start .*nowhere: No such file"):
        harness.evaluate(model, ["mmlu"], python=str(tmp_path / "nowhere"))


def test_a_module_beside_the_model_never_stands_in(
    tmp_path: Path, model: Path, stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (model / "lm_eval.py").write_text("raise SystemExit(99)")
    monkeypatch.chdir(model)
    assert harness.evaluate(model, ["mmlu"])


def test_a_crash_is_told_with_its_exit_code_and_last_words(stand_in: Path, model: Path) -> None:
    with pytest.raises(Unsupported, match=r"exit code 7.*out of memory, alas"):
        harness.evaluate(model, ["crash"])
    with pytest.raises(Unsupported, match=r"ended after 0\.5 s"):
        harness.evaluate(model, ["sleep"], seconds=0.5)


def test_an_unknown_task_is_named(stand_in: Path, model: Path) -> None:
    with pytest.raises(BadData, match="knows no task no_such, no_other;"):
        harness.evaluate(model, ["no_such", "mmlu", "no_other"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"results": {', "is no JSON"),
        ("[]", "no JSON object"),
        ("{}", "hold no number"),
        ('{"results": []}', "'results' is no JSON object"),
        ('{"results": {"mmlu": 0.3}}', "of mmlu are no JSON object"),
        ('{"results": {"mmlu": {"alias": "mmlu", "acc,none": NaN}}}', "acc of mmlu is nan"),
        ('{"results": {"mmlu": {"alias": "mmlu", "acc,none": "0.3"}}}', "hold no number"),
    ],
)
def test_broken_results_are_refused(stand_in: Path, model: Path, text: str, said: str) -> None:
    (stand_in / "told.json").write_text(text)
    with pytest.raises(BadEvidence, match=said):
        harness.evaluate(model, ["mmlu"])


def test_no_results_at_all_are_refused(stand_in: Path, model: Path) -> None:
    with pytest.raises(BadEvidence, match="wrote no results"):
        harness.evaluate(model, ["silent"])


def test_what_is_no_named_task_and_no_model_never_starts_a_child(
    tmp_path: Path, model: Path
) -> None:
    for task in ("evil.yaml", "../tasks", "a,b", "--model_args", "", "mmlu\n"):
        with pytest.raises(BadData, match="expected names such as"):
            harness.evaluate(model, [task], python="/nowhere")
    with pytest.raises(BadData, match="Got tasks none"):
        harness.evaluate(model, [], python="/nowhere")
    with pytest.raises(BadData, match="no model in"):
        harness.evaluate(tmp_path, ["mmlu"], python="/nowhere")
    comma = tmp_path / "a,b"
    comma.mkdir()
    (comma / "config.json").write_text("{}")
    with pytest.raises(BadData, match="has a comma"):
        harness.evaluate(comma, ["mmlu"], python="/nowhere")
