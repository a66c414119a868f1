"""Loading and saving: what is refused by name, whole folders, and the command that does it all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_text
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from expunge import unlearn
from expunge.cli.main import app
from expunge.cli.unlearn import adjusted
from expunge.engine.training import Train
from expunge.errors import BadData, StoreError, Unsupported
from expunge.methods.losses.answers import CE
from expunge.methods.sentences import as_method
from expunge.methods.steps.adapter import LoRA
from expunge.problems.text import models as room
from expunge.problems.text.models import load, save


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tiny_text.taught(), tiny_text.tokenizer(), tmp_path_factory.mktemp("m") / "model")


def test_what_is_saved_is_what_transformers_loads(tmp_path: Path) -> None:
    done = unlearn(tiny_text.taught(), Train(-CE("forget"), lr=0.1), tiny_text.problem())
    place = save(done.model, tiny_text.tokenizer(), tmp_path / "out", done.receipt)
    again = AutoModelForCausalLM.from_pretrained(place)
    assert all(
        torch.equal(a, b) for a, b in zip(again.parameters(), done.model.parameters(), strict=True)
    )
    text = tiny_text.PAIRS[0][1]
    told = AutoTokenizer.from_pretrained(place)(text)["input_ids"]
    assert told == tiny_text.tokenizer()(text)["input_ids"]
    receipt = json.loads((place / "receipt.json").read_text())
    assert receipt["method"] == done.receipt.method
    assert not list(place.glob("*.bin"))


def test_loading_gives_a_model_a_tokenizer_and_its_context(folder: Path) -> None:
    loaded = load(folder)
    assert not loaded.model.training
    assert loaded.context == 32
    assert len(loaded.tokenizer) == len(tiny_text.tokenizer())
    fresh = loaded.untrained()
    assert fresh.state_dict().keys() == loaded.model.state_dict().keys()
    assert load(folder, dtype=torch.bfloat16).model.dtype == torch.bfloat16


def test_a_folder_is_never_written_over(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="already"):
        save(tiny_text.taught(), None, folder)


def test_a_folder_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Breaking:
        def save_pretrained(self, place: Path) -> None:
            (place / "half").write_text("x")
            raise OSError("disk full")

    with pytest.raises(StoreError, match="disk full"):
        save(tiny_text.taught(), Breaking(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_pickled_weights_are_refused_by_name(folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"not read")
    with pytest.raises(BadData, match=r"pytorch_model\.bin is pickled"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_code_that_comes_with_a_model_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    told = json.loads((tmp_path / name).read_text())
    (tmp_path / name).write_text(json.dumps({**told, "auto_map": {"AutoModel": "evil.Model"}}))
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(BadData, match=f"{name} asks for code"):
        load(tmp_path)


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="Cannot load"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(BadData, match="no object"):
        load(tmp_path)
    for name in ("nowhere", "./nowhere", "/no/where/at/all"):
        with pytest.raises(BadData, match="no folder"):
            load(name)


def damaged(weights: Path, how: str) -> None:
    if how == "cut short":
        weights.write_bytes(weights.read_bytes()[:500])
    elif how == "no safetensors":
        weights.write_text("garbage")
    else:
        tensors = load_file(weights)
        name = next(name for name in tensors if "norm" in name)
        norm = tensors.pop(name)
        more = {name: norm[:2].clone()} if how == "other shapes" else {}
        save_file({**tensors, **more}, weights, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("cut short", "damaged or cut short"),
        ("no safetensors", "damaged or cut short"),
        ("other shapes", "Cannot load a language model"),
        ("a weight is missing", "lacks 1 of the model's weights"),
    ],
)
def test_weights_that_are_not_whole(folder: Path, tmp_path: Path, how: str, told: str) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    damaged(tmp_path / "model.safetensors", how)
    with pytest.raises(BadData, match=told):
        load(tmp_path)


def test_without_the_extra_it_says_how_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr("expunge.core.machine.importlib.import_module", missing)
    with pytest.raises(Unsupported, match=r"pip install 'expunge\[lm\]'"):
        room.load("owner/name")


def files(folder: Path) -> list[str]:
    """Options that name the two files."""
    said = []
    for name, rows in (("forget", tiny_text.FORGET), ("retain", tiny_text.RETAIN)):
        lines = [json.dumps({"prompt": p, "answer": a}) for p, a in tiny_text.PAIRS[rows]]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
        said += [f"--{name}", str(folder / f"{name}.jsonl")]
    return said


def run(*words: str) -> Any:
    return CliRunner().invoke(app, ["unlearn", *words])


@pytest.mark.parametrize("more", [[], ["--lora", "2", "--bf16", "--checkpointing"]])
def test_the_command_writes_a_model_with_its_receipt(
    folder: Path, tmp_path: Path, more: list[str]
) -> None:
    out = tmp_path / "out"
    said = ["--method", "npo_kl", "--epochs", "2", "--lr", "0.01", "--batch", "4", *more]
    done = run(str(folder), *files(tmp_path), "--out", str(out), *said)
    assert done.exit_code == 0, done.output
    assert f"Written: {out}" in done.output
    model = AutoModelForCausalLM.from_pretrained(out)
    receipt = json.loads((out / "receipt.json").read_text())
    assert "NPO('forget')" in receipt["method"]
    assert receipt["method"].startswith("LoRA") == bool(more)
    pairs = zip(model.parameters(), tiny_text.taught().parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)


def test_the_command_refuses_before_it_works(folder: Path, tmp_path: Path) -> None:
    said = files(tmp_path)
    done = run(str(folder), *said, "--out", str(folder))
    assert isinstance(done.exception, StoreError)
    done = run(str(folder), said[0], said[1], "--retain", said[1], "--out", str(tmp_path / "o"))
    assert isinstance(done.exception, BadData)
    assert "3 texts" in str(done.exception)
    done = run(str(folder), *said, "--out", str(tmp_path / "o"), "--method", "idk_dpo")
    assert isinstance(done.exception, Unsupported)
    assert not (tmp_path / "o").exists()


def test_numbers_from_the_command_reach_every_train() -> None:
    named: dict[str, float | None] = {"epochs": 3, "lr": 0.5, "batch": 2, "accumulate": None}
    changed = adjusted(as_method("npo"), 0, True, False, named)
    (step,) = changed.steps
    assert isinstance(step, Train)
    assert (step.epochs, step.batch, step.accumulate, step.precision) == (3, 2, 4, "bf16")
    assert not isinstance(step.lr, float)
    assert max(step.lr(place / 100) for place in range(101)) == pytest.approx(0.5)
    inner = adjusted(as_method("muse_task_vector"), 0, False, True, named).steps[0]
    assert inner.train.checkpointing  # type: ignore[attr-defined]
    (lora,) = adjusted(as_method("npo"), 4, False, False, named).steps
    assert isinstance(lora, LoRA)
    assert (lora.rank, lora.alpha) == (4, 8.0)
