"""Requests one after another: what each meets, and what is left of the first."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

import tiny
from expunge.audits.images.answers import ForgetConfidence
from expunge.audits.images.classifier_audit import (
    ClassifierAudit,
    ImageContext,
    confidence_on,
    examples,
)
from expunge.audits.images.requests import carried_out, requests, retrained, sequential
from expunge.core.batch import all_targets
from expunge.core.method import Method
from expunge.core.problem import Problem
from expunge.core.seeds import derived
from expunge.core.vocabulary import word
from expunge.engine.stacking import Vmapped
from expunge.engine.training import Train, from_scratch
from expunge.errors import BadData
from expunge.methods.losses.answers import CE
from expunge.methods.steps.edits import Noise
from expunge.unlearn import unlearn

LATER = (torch.tensor([0, 5, 7]), torch.tensor([1, 2]))
BRIEF = Method("brief", (Noise(0.02), Train(CE("retain"), batch=24, lr=0.02)))


def pictures_of(data: Any) -> set[tuple[float, ...]]:
    inputs = data.batch(torch.arange(len(data))).inputs
    return {tuple(picture.flatten().tolist()) for picture in inputs}


def test_each_request_meets_what_the_ones_before_left() -> None:
    task = tiny.problem()
    first, second, third = requests(task, LATER)
    assert first is task
    retain = all_targets(task.sets["retain"])
    assert all_targets(second.sets["forget"]).tolist() == retain[[0, 5, 7]].tolist()
    assert [len(p.sets["retain"]) for p in (first, second, third)] == [48, 45, 43]
    assert [len(p.sets["train"]) for p in (second, third)] == [48, 45]
    gone = [pictures_of(p.sets["forget"]) for p in (first, second, third)]
    for before in gone[:2]:
        assert not before & pictures_of(third.sets["train"])
    assert gone[2] <= pictures_of(third.sets["train"])
    assert second.sets["val"] is task.sets["val"]


@pytest.mark.parametrize(
    ("later", "said"),
    [
        ((torch.tensor([0, 5]), torch.tensor([5])), "in two requests"),
        ((torch.tensor([48]),), "rows 0 to 47"),
        ((torch.tensor([]).long(),), "empty"),
        ((torch.arange(40), torch.arange(40, 48)), "nothing to retain"),
    ],
)
def test_requests_that_cannot_be(later: tuple[torch.Tensor, ...], said: str) -> None:
    with pytest.raises(BadData, match=said):
        requests(tiny.problem(), later)


def test_the_first_model_is_that_of_unlearn_and_each_goes_on_from_the_one_before() -> None:
    asked, original = requests(tiny.problem(), LATER), tiny.made()
    twin = copy.deepcopy(original)
    chain = carried_out(original, BRIEF, asked, seed=4)
    assert tiny.same(original, twin)
    assert tiny.same(chain[0], unlearn(original, BRIEF, asked[0], seed=4).model)
    again = carried_out(original, BRIEF, asked, seed=4)
    assert all(tiny.same(a, b) for a, b in zip(chain, again, strict=True))
    # the second request starts where the first ended, and draws anew
    own = derived("request", 1, 4)
    assert tiny.same(chain[1], unlearn(chain[0], BRIEF, asked[1], seed=own).model)
    other = carried_out(original, BRIEF, asked, seed=5)
    assert not tiny.same(chain[1], other[1])


def test_oracles_are_those_of_an_experiment_and_never_saw_what_was_asked() -> None:
    from expunge.engine.loop import SingleModel
    from expunge.engine.run import Run, frozen, run_steps

    task = requests(tiny.problem(), LATER)[1]
    (made,) = retrained(task, [3])
    start = task.untrained("oracle", 3)
    run = Run(start, frozen(start), task, 3, "oracle")
    for _ in run_steps(from_scratch(task, "retain", "oracle").steps, SingleModel(run)):
        continue
    assert tiny.same(made, run.model)
    assert run.counts.examples == {"retain": 45}
    stacked = retrained(task, [3, 4], Vmapped())
    assert torch.allclose(stacked[0][4].weight, made[4].weight, atol=1e-5)


def trained(task: Problem, on: str, seeds: range) -> list[Any]:
    """Models of a longer recipe, that know what they were trained on."""
    return [
        unlearn(
            task.untrained("start", seed),
            Train(CE(on), epochs=6, batch=16, lr=0.05),
            task,
            seed=seed,
        ).model
        for seed in seeds
    ]


def test_the_first_request_is_asked_about_after_each() -> None:
    recipe = Method("recipe", (Train(CE("train"), epochs=6, lr=0.05, batch=16),))
    task = tiny.classwise(recipe=recipe)
    later = (torch.arange(6),)
    originals = trained(task, "train", range(3))
    hide = Method("hide", (Train(-0.1 * CE("forget") + CE("retain"), epochs=4, batch=8, lr=0.01),))
    found = sequential(ForgetConfidence(), hide, task, later, originals, oracles=4)
    asked = requests(task, later)
    chains = [
        carried_out(model, hide, asked, seed=derived("member", 0, place))
        for place, model in enumerate(originals)
    ]
    for number, one in enumerate(found):
        # the first request's examples, whatever was asked since
        own = tuple(confidence_on(chain[number], task.sets["forget"]) for chain in chains)
        assert one.first.subject == own
        seeds = [derived("oracle", 0, place) for place in range(4)]
        references = retrained(asked[number], seeds)
        theirs = tuple(confidence_on(model, task.sets["forget"]) for model in references[1:])
        assert one.first.oracle == theirs
        # what is kept: all 42 or 48 of it, and by retrained models, the yardstick among them
        kept = asked[number].sets["retain"]
        told = [confidence_on(chain[number], kept) for chain in chains]
        assert one.kept == pytest.approx(sum(told) / 3)
        told = [confidence_on(model, kept) for model in references]
        assert one.kept_retrained == pytest.approx(sum(told) / 4)
    assert found[0].first.original == found[1].first.original  # the anchor is what never forgot
    assert sequential(ForgetConfidence(), hide, task, later, originals, oracles=4) == found


def test_what_is_retained_shrinks_with_each_request() -> None:
    seen = []

    @word
    class Sizes(ClassifierAudit):
        unit: ClassVar[str] = "examples"
        more: ClassVar[Any] = "knows more"

        def measure(self, model: nn.Module, context: ImageContext) -> float:
            seen.append((len(examples(context, "forget")), len(examples(context, "retain"))))
            return float(model[4].bias[0])

    originals = [tiny.made(seed=seed) for seed in (1, 2)]
    sequential(Sizes(), BRIEF, tiny.problem(), LATER, originals, oracles=3)
    assert sorted(set(seen)) == [(12, 43), (12, 45), (12, 48)]
