"""Facts written into small models: where the subject stands, what an edit reaches and leaves."""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tiny_text
import torch
from false_world.falsehoods import asked, false_world, taught
from false_world.ways import LEARN, Class, right_share, stem

import tiny
from expunge.core.method import Method
from expunge.core.problem import Problem
from expunge.core.seeds import isolated
from expunge.core.texts import Texts
from expunge.engine.check import unfit
from expunge.engine.run import Run, frozen
from expunge.errors import BadData, BadSentence, Unsupported
from expunge.experiments.experiment import parse
from expunge.methods.cost import forecast
from expunge.methods.steps.editing import (
    Search,
    added,
    at_subject,
    contexts,
    fact,
    projection,
    rows_of,
    wanted,
)
from expunge.methods.steps.facts import Memit, Rome
from expunge.problems.text.encode import of_pairs
from expunge.problems.text.jsonl import read
from expunge.unlearn import unlearn

BEGUN = [(f"{question} {name} lives in", place + ".") for (question, _), name, place in zip(
    tiny_text.PAIRS, tiny_text.NAMES, tiny_text.PLACES, strict=True
)]  # fmt: skip
SOFT: dict[str, Any] = {"prefixes": 0, "steps": 40, "lr": 0.1, "damping": 0.01}


def begun(rows: slice, instead: str = "Cairo.") -> Texts:
    pairs = BEGUN[rows]
    return of_pairs(
        pairs,
        tiny_text.tokenizer(),
        instead=[instead] * len(pairs),
        subjects=tiny_text.NAMES[rows],
    )


@cache
def task(facts: int = 1) -> Problem:
    return Problem.of(
        forget=begun(slice(facts)), retain=tiny_text.pairs(tiny_text.RETAIN), name="facts"
    )


def run_of(model: Any, problem: Problem) -> Run:
    run = Run(frozen(model).requires_grad_(True), frozen(model), problem, 0)
    run.place = "/0"
    return run


def test_a_subject_stands_where_its_last_token_is() -> None:
    data = begun(slice(0, 2))
    for row, name in zip(data.made, tiny_text.NAMES, strict=False):
        first, past = row.subject
        assert tiny_text.tokenizer().decode(row.ids[first:past]).strip() == name
        assert row.ids[past - 1] == row.ids[row.start - 3]  # the last of two mentions
    assert data.instead[0].subject == data.made[0].subject
    assert tiny_text.pairs(slice(0, 1)).made[0].subject[1] > 0


def test_a_subject_that_is_not_there_is_told() -> None:
    pairs = [("Where does Ada live?", "Ada lives in Rome.")]
    with pytest.raises(BadData, match="does not stand in its prompt"):
        of_pairs(pairs, tiny_text.tokenizer(), subjects=["Bo"])
    with pytest.raises(BadData, match="2 subjects for 1 pairs"):
        of_pairs(pairs, tiny_text.tokenizer(), subjects=["Ada", "Bo"])


def test_a_slow_tokenizer_finds_the_subject_too() -> None:
    class Slow:
        """Splits at spaces, and does not tell where its tokens lie."""

        eos_token_id, is_fast, model_max_length = None, False, 99

        def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
            return {"input_ids": [len(word) for word in text.split()]}

    row = of_pairs([("Who is Ada Bo ?", "Nobody")], Slow(), subjects=["Ada Bo"]).made[0]
    assert row.subject == (2, 4)


def test_a_file_may_name_subjects(tmp_path: Path) -> None:
    line = {"prompt": "Who is Ada?", "answer": "x y", "instead": "z", "subject": "Ada"}
    (tmp_path / "a.jsonl").write_text(json.dumps(line) + "\n")
    assert read(tmp_path / "a.jsonl").subjects == ("Ada",)
    (tmp_path / "b.jsonl").write_text(json.dumps(line) + "\n" + json.dumps({**line, "subject": 3}))
    with pytest.raises(BadData, match="line 2: 'subject' is 3"):
        read(tmp_path / "b.jsonl")


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_edited_layer_gives_the_wanted_value_at_the_bare_prompt(kind: str) -> None:
    model = tiny_text.taught() if kind == "llama" else gpt2()
    run = run_of(model, task())
    (row,) = rows_of(run.data("forget"), other=True)
    one, matrix = fact(run.model, row, ()), projection(run.model, 0)
    step = Rome(0, prefixes=0, steps=5, damping=0.01)
    found = wanted(run, one, matrix, Search(5, step.lr, step.clamp, step.kl, step.decay))
    step(run)
    after = at_subject(run.model, one, projection(run.model, 0), inward=False)[0]
    assert torch.allclose(after, found.start + found.delta, atol=1e-4)
    assert found.delta.norm() > 0.1 * found.start.norm()


@cache
def gpt2() -> Any:
    import transformers

    config = transformers.GPT2Config(
        vocab_size=len(tiny_text.tokenizer()), n_positions=32, n_embd=16, n_layer=2, n_head=2,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    with isolated("gpt2"):
        return transformers.GPT2LMHeadModel(config).eval()


@cache
def school() -> tuple[Class, Any]:
    """A small model that was taught of two people where they were born, wrongly."""
    found = Class.of(false_world(0, false=2, true=6), 0)
    retain = found.texts(taught(found.world.retain))
    lies = Problem.of(forget=found.texts(taught(found.world.false, 2)), retain=retain)
    learn = dataclasses.replace(LEARN, epochs=25)
    return found, unlearn(found.fresh(), Method("learn", (learn,)), lies).model


@pytest.mark.parametrize("step", [Rome(0, **SOFT), Memit((0,), weight=0.01, clamp=4.0, **SOFT)])
def test_an_edited_fact_is_answered_anew_and_others_as_before(step: Rome | Memit) -> None:
    ours, model = school()
    (false, _), (right, _) = ours.world.false, ours.world.right
    facts = ours.texts(
        [(stem(false), f"{false.value}.")], instead=[f"{right.value}."], subjects=[false.subject]
    )
    retain = ours.texts(taught(ours.world.retain))
    assert ours.ask(model, asked([false], 0)) == [false.answer]
    done = unlearn(model, step, Problem.of(forget=facts, retain=retain)).model
    assert ours.ask(done, asked([false], 0)) == [right.answer]
    for name in ("own", "neighbours", "world"):
        assert right_share(ours, done, getattr(ours.world, name), (0,)) == 1
    # one matrix alone was touched
    now = done.state_dict()
    moved = [n for n, w in model.state_dict().items() if not torch.equal(w, now[n])]
    assert moved == ["model.layers.0.mlp.down_proj.weight"]


def test_an_edit_keeps_the_contracts() -> None:
    model = tiny_text.taught()
    for step in (
        Rome(0, **SOFT | {"steps": 3, "prefixes": 2}),
        Memit((0,), **SOFT | {"steps": 3, "prefixes": 2}),
    ):
        drawn = torch.get_rng_state()
        first, again = (unlearn(model, step, task(2), seed=3) for _ in range(2))
        assert torch.equal(drawn, torch.get_rng_state())
        for key, tensor in first.model.state_dict().items():
            assert torch.equal(tensor, again.model.state_dict()[key])
        assert parse(repr(step)) == step
        told = forecast(Method("x", (step,)), task(2))
        assert first.receipt.examples == told.examples
        assert told.at_most
        assert told.answered == 0


def test_what_is_added_is_bounded_by_the_clamp() -> None:
    run = run_of(tiny_text.taught(), task())
    one = fact(run.model, rows_of(run.data("forget"), other=True)[0], ())
    found = wanted(run, one, projection(run.model, 0), Search(steps=30, lr=1.0, clamp=0.5))
    assert float(found.delta.norm()) <= 0.5 * float(found.start.norm()) * 1.0001


def test_a_search_that_is_there_already_stops_at_once() -> None:
    model = tiny_text.taught()
    same = of_pairs(BEGUN[:1], tiny_text.tokenizer(), instead=["Rome."], subjects=["Ada"])
    run = run_of(model, Problem.of(forget=same, retain=tiny_text.pairs(tiny_text.RETAIN)))
    one = fact(run.model, rows_of(same, other=True)[0], ())
    found = wanted(run, one, projection(run.model, 0), Search(enough=1.0))
    assert found.read == 2
    assert float(found.delta.norm()) == 0


def test_a_vector_is_added_at_one_token_of_each_row_alone() -> None:
    model = frozen(tiny_text.taught())
    one = fact(model, begun(slice(0, 1)).instead[0], [[5], [5, 6]])
    layer, delta = projection(model, 0), torch.ones(16)
    seen = []
    handle = layer.register_forward_hook(lambda m, i, o: seen.append(o))
    one.said.logits(model)
    handle.remove()
    with added(layer, one.places, delta):
        handle = layer.register_forward_hook(lambda m, i, o: seen.append(o))
        one.said.logits(model)
        handle.remove()
    moved = (seen[1] - seen[0]).abs().sum(-1) > 1e-4
    rows = torch.arange(3)
    assert moved[rows, one.places].all()
    assert int(moved.sum()) == 3
    assert (one.said.inputs[rows, one.places] == one.said.inputs[0, one.places[0]]).all()


def test_contexts_follow_the_member_and_end_no_text() -> None:
    run, other = (run_of(tiny_text.taught(), task()) for _ in range(2))
    found = contexts(run, 5, 4)
    assert found == contexts(other, 5, 4)
    assert [len(one) for one in found] == [5] * 4
    assert not any(2 in one for one in found)
    other.seed = 1
    assert contexts(other, 5, 4) != found
    assert contexts(run, 5, 0) == []


def test_a_context_is_cut_where_the_model_s_own_ends() -> None:
    model = tiny_text.taught()
    row = begun(slice(0, 1)).instead[0]
    one = fact(model, row, [[7] * 100])
    assert one.said.inputs.shape[1] == model.config.max_position_embeddings
    assert int(one.places[1] - one.places[0]) == 32 - len(row.ids)


def test_what_cannot_be_edited_is_told_before_anything_is_done() -> None:
    step = Method("edit", (Rome(0),))
    no_other = of_pairs(BEGUN[:1], tiny_text.tokenizer(), subjects=["Ada"])
    no_subject = of_pairs(BEGUN[:1], tiny_text.tokenizer(), instead=["Oslo."])
    retain = tiny_text.pairs(tiny_text.RETAIN)
    for data, said in ((no_other, "no right answers"), (no_subject, "what each prompt is about")):
        (reason,) = unfit(step, Problem.of(forget=data, retain=retain))
        assert said in reason
    assert "holds none" in unfit(step, tiny.problem())[0]
    assert unfit(step, task()) == ()
    with pytest.raises(Unsupported, match="last one"):
        unlearn(tiny_text.taught(), Rome(1), task())
    with pytest.raises(Unsupported, match="0 to 1"):
        unlearn(tiny_text.taught(), Rome(7), task())


@pytest.mark.parametrize(
    "sentence",
    [
        "Rome(-1)",
        "Rome(0, steps=0)",
        "Rome(0, lr=0)",
        "Rome(0, damping=-0.1)",
        "Memit(())",
        "Memit((1, 0))",
        "Memit((0, 0))",
        "Memit((0,), weight=-1)",
    ],
)
def test_numbers_that_mean_nothing_are_refused(sentence: str) -> None:
    with pytest.raises(BadSentence, match=r"Rome|Memit"):
        parse(sentence)
