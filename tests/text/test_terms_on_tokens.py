"""Every term on tokens: padding, prompts and the order of rows change nothing, or it refuses."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import tiny_text
import torch
from torch import Tensor

from contracts import TERMS
from expunge.core.batch import UNSCORED, Batch, Tokens
from expunge.core.method import words_of
from expunge.core.term import Pooled, Sum, Term, leaves
from expunge.core.view import View
from expunge.engine.loop import known_to
from expunge.engine.memory import microbatches
from expunge.engine.run import Run, sharing
from expunge.engine.training import Train
from expunge.errors import BadSentence, Unsupported
from expunge.methods.losses.answers import CE, KL, Entropy
from expunge.methods.losses.classes import WeightedCE
from expunge.methods.losses.likelihood import NPO, WGA
from expunge.methods.losses.other_answers import DPO, FLAT, Instead, RandomAnswers
from expunge.methods.losses.representation import AdaptiveSteer, LogLens, Match, NoiseMatch, Steer
from expunge.methods.losses.teachers import Undial

TEXT_TERMS: tuple[Term, ...] = (
    CE("retain") - 0.3 * KL("forget"),
    DPO("forget"),
    Instead(CE("forget")),
    Steer("forget", layer=1),
    FLAT("forget"),
    FLAT("forget", divergence="js"),
    RandomAnswers("forget", "retain", answers=2),
    AdaptiveSteer("forget", layer=1, scale=2.0),
    NoiseMatch("forget", layers=2),
    LogLens("forget", layers=2),
    Match("forget", layer=0, teacher="random"),
)
# Terms for one answer an example, which say so of tokens.
REFUSING = {
    "AdaptiveCE", "AnyClass", "BalancedCE", "Centroid", "Gumbel", "Jittered", "Lipschitz",
    "Nearest", "Predicted", "Reference", "Relabel", "Repel",
}  # fmt: skip
ALL = [*TERMS, *TEXT_TERMS]


def names(term: Term) -> set[str]:
    return {type(inner).__name__ for inner in _inside(term)}


def _inside(term: Term) -> list[Term]:
    words = (word for word in words_of(term) if isinstance(word, Term))
    return [word for word in words if not isinstance(word, Sum | Pooled)]


RIGHT = [term for term in ALL if not names(term) & REFUSING and "oracle" not in term.teachers]
WRONG = [term for term in ALL if names(term) & REFUSING]


def run(side: str = "right") -> Run:
    task = tiny_text.problem()
    sets = {n: dataclasses.replace(task.data(n), side=side) for n in ("forget", "retain")}
    task = dataclasses.replace(task, sets={**task.sets, **sets})
    return Run(sharing(tiny_text.taught()), sharing(tiny_text.fresh(3)), task, 0)


def batches(at: Run, term: Term, order: Tensor | None = None) -> dict[str, Batch]:
    rows = torch.arange(3) if order is None else order
    return {name: at.data(name).batch(rows) for name in term.sets}


def value(at: Run, term: Term, shown: dict[str, Batch]) -> float:
    teachers = {name: at.teacher(name) for name in term.teachers}
    weights = dict(at.model.named_parameters())
    view = View(at.model, shown, teachers, weights, 0.25, at.seed, known_to(term, at))
    return float(term(view))


def close(a: float, b: float) -> bool:
    return a == pytest.approx(b, rel=2e-4, abs=2e-5)


@pytest.mark.parametrize("term", RIGHT, ids=repr)
def test_padding_prompts_and_order_change_nothing(term: Term) -> None:
    at = run()
    told = value(at, term, batches(at, term))
    left = run("left")
    assert close(value(left, term, batches(left, term)), told)
    turned = torch.tensor([2, 0, 1])
    assert close(value(at, term, batches(at, term, turned)), told)
    wide = {n: garbled(b) for n, b in batches(at, term).items()}
    assert close(value(at, term, wide), told)


def garbled(batch: Any) -> Tokens:
    """More padding, with ids that mean something in it."""
    other = garbled(batch.instead) if batch.instead else None
    wide = batch.widened(batch.inputs.shape[1] + 4)
    return dataclasses.replace(wide, inputs=wide.inputs.where(wide.mask, 7), instead=other)


LOOKING = [CE("forget"), KL("forget", teacher="random"), NPO("forget"), Undial("forget")]


@pytest.mark.parametrize("term", [*LOOKING, WGA("forget"), Entropy("forget")], ids=repr)
def test_other_targets_in_the_prompt_would_count_if_they_were_scored(term: Term) -> None:
    """The law above could hold for a term that looks at nothing: scoring more must show."""
    at = run()
    shown = batches(at, term)
    scored = {n: dataclasses.replace(b, labels=b.inputs.clone()) for n, b in shown.items()}
    assert not close(value(at, term, shown), value(at, term, scored))


@pytest.mark.parametrize("term", WRONG, ids=repr)
def test_terms_for_one_answer_an_example_refuse_tokens(term: Term) -> None:
    at = run()
    with pytest.raises(Unsupported):
        for leaf in leaves(term):
            if said := leaf.unfit(at.problem) if hasattr(leaf, "unfit") else "":
                raise Unsupported(said)
        value(at, term, batches(at, term))


def test_what_is_no_mean_cannot_be_cut() -> None:
    uncut = {name for t in RIGHT if t not in CUT for name in names(t)}
    assert uncut >= {"WeightedCE", "Mistakes"}
    with pytest.raises(BadSentence, match="WeightedCE"):
        Train(WeightedCE("forget"), accumulate=2)


def test_every_term_is_in_one_of_the_two_lists() -> None:
    held = set().union(*map(names, ALL))
    right = set().union(*map(names, RIGHT))
    assert held - REFUSING == right
    assert {"Mistakes", "Without", "WeightedCE", "EntropyMatch", "OneClass", "Tempered"} <= right


CUT = [t for t in RIGHT if all(inner.mean_over or not inner.sets for inner in _inside(t))]


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("term", CUT, ids=repr)
def test_pieces_add_up_to_the_whole(term: Term, count: int) -> None:
    at = run()
    shown = batches(at, term)
    whole = value(at, term, shown)
    parts = [value(at, part, piece) for part, piece in microbatches(term, shown, count)]
    assert len(parts) > 1
    assert close(sum(parts), whole)


def test_unscored_is_what_torch_leaves_out() -> None:
    empty = torch.nn.functional.cross_entropy(
        torch.zeros(2, 5), torch.tensor([UNSCORED, 1]), reduction="none"
    )
    assert empty[0] == 0
