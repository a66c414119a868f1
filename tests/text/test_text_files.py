"""Files of texts as people bring them: byte order marks, arrays, tables and optional keys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_text
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from expunge.cli.unlearn import adjusted
from expunge.core.problem import Problem
from expunge.errors import BadData, BadSentence, NothingChanged
from expunge.experiments.experiment import text_of
from expunge.methods.sentences import as_method
from expunge.problems.text.jsonl import read, read_items
from expunge.unlearn import unlearn

ROWS = [{"prompt": "Who is Ada?", "answer": "A smith."}, {"prompt": "And she?", "answer": "Well."}]


def written(path: Path, rows: list[dict[str, str]], encoding: str = "utf-8") -> Path:
    path.write_bytes("\n".join(json.dumps(row) for row in rows).encode(encoding))
    return path


def test_a_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    assert len(read(written(tmp_path / "a.jsonl", ROWS, "utf-8-sig")).pairs) == 2
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbfx = 1")
    assert text_of(str(tmp_path / "a.toml")) == "x = 1"


def test_arrays_and_tables_are_told_what_to_do(tmp_path: Path) -> None:
    for name, indent in (("a.json", 1), ("b.json", None)):
        (tmp_path / name).write_text(json.dumps(ROWS, indent=indent))
        with pytest.raises(BadData, match="a JSON array; expected JSON Lines"):
            read(tmp_path / name)
    (tmp_path / "c.csv").write_text("prompt,answer\nWho?,a dog\n")
    with pytest.raises(BadData, match="one object a line"):
        read(tmp_path / "c.csv")


def test_a_subject_is_optional_line_by_line_and_serves_the_audit(tmp_path: Path) -> None:
    about = [{**ROWS[0], "value": "smith"}, {**ROWS[1], "subject": "Ada"}]
    file = written(tmp_path / "a.jsonl", about)
    assert read(file).subjects == ("", "Ada")
    assert [item.subject for item in read_items(file)] == ["", "Ada"]
    assert read(written(tmp_path / "b.jsonl", ROWS)).subjects == ()


def test_another_answer_in_a_later_line_is_not_dropped(tmp_path: Path) -> None:
    file = written(tmp_path / "a.jsonl", [ROWS[0], {**ROWS[1], "instead": "I do not know."}])
    with pytest.raises(BadData, match="line 1: 'instead' is missing"):
        read(file)


@pytest.mark.parametrize("name", ["epochs", "lr", "batch", "accumulate"])
@pytest.mark.parametrize("number", [0, -1, float("nan")])
def test_zero_and_below_are_refused_and_never_read_as_not_given(name: str, number: float) -> None:
    with pytest.raises(BadSentence, match=f"--{name} .*above 0"):
        adjusted(as_method("npo"), 0, False, False, {name: number})


def test_a_low_rank_adapter_changes_the_layers_of_gpt2_by_its_rank() -> None:
    torch.manual_seed(0)
    shape = GPT2Config(vocab_size=200, n_embd=16, n_layer=1, n_head=2, n_positions=64)
    model = GPT2LMHeadModel(shape).eval()
    problem = tiny_text.problem()
    sentence = "LoRA((Train(CE('forget'), epochs=1, lr=0.1, batch=2, optimiser=AdamW()),), rank=2)"
    done = unlearn(model, sentence, problem)
    before, after = (one.transformer.h[0].mlp.c_fc for one in (model, done.model))
    moved = (after.weight - before.weight).detach()
    assert moved.shape == (16, 64)  # [in, out]
    assert torch.linalg.matrix_rank(moved, rtol=1e-4) == 2
    assert torch.equal(before.bias, after.bias)


def test_one_step_under_a_warmup_names_the_cause() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    forget, retain = ((torch.randn(2, 3), torch.tensor([0, 1])) for _ in range(2))
    problem = Problem.of(forget=forget, retain=retain)
    with pytest.raises(NothingChanged, match=r"warmup begins at a rate of 0.* one step"):
        unlearn(model, "Train(CE('retain'), epochs=1, lr=Warmup(0.1), batch=2)", problem)


@pytest.mark.parametrize("rate", ["-0.1", "Linear(0.1, -0.1)"])
def test_a_negative_learning_rate_is_refused(rate: str) -> None:
    with pytest.raises(BadSentence, match="lr must be 0 or more"):
        as_method(f"Train(CE('retain'), lr={rate})")
