"""Relearning: golden values on one weight, disjoint parts, caps, and the faults of rivals."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import audit_tools as tools
import pytest
import torch
from audit_tools import line, on_a_line, points
from torch import nn

import tiny
from expunge.audits.images.answers import ForgetConfidence
from expunge.audits.images.classifier_audit import (
    ImageContext,
    accuracy_on,
    examples,
    measure,
    split_forget,
)
from expunge.audits.images.relearn import Anamnesis, RecoveryArea, Relearn
from expunge.core.problem import Problem
from expunge.core.schedules import SGD
from expunge.engine.run import frozen

PLAIN = SGD(momentum=0.0)


def one_number() -> Problem:
    """One number, 1, of class 1, is to be forgotten."""
    train = points([[-2.0], [1.0]], [0, 1])
    return Problem.split(train, torch.tensor([1]), name="one number")


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def at_one(original: nn.Module, oracle: nn.Module) -> ImageContext:
    return ImageContext(one_number(), frozen(original), frozen(oracle))


def test_one_step_by_hand() -> None:
    # zero weights answer 1/2; the slope of the loss is (1/2, -1/2) for both weights and biases
    relearn = Relearn(steps=1, share=1.0, retain=0.0, lr=0.3, optimiser=PLAIN)
    context = at_one(line(5.0), line(0.0))
    area = measure(RecoveryArea(relearn), line(0.0), context)
    assert area == pytest.approx((0.5 + sigmoid(4 * 0.3 * 0.5)) / 2)


def test_the_retain_set_pulls_with_its_weight() -> None:
    # the retain set is -2 of class 0: its slopes add to those of the weights, and oppose the biases
    context = at_one(line(5.0), line(0.0))
    for weight in (1.0, 0.5):
        relearn = Relearn(steps=1, share=1.0, retain=weight, lr=0.3, optimiser=PLAIN)
        area = measure(RecoveryArea(relearn), line(0.0), context)
        moved = 2 * 0.3 * 0.5 * ((1 + 2 * weight) + (1 - weight))
        assert area == pytest.approx((0.5 + sigmoid(moved)) / 2)


def test_steps_are_counted_until_the_original_s_accuracy_is_back() -> None:
    # the logit starts at -1 and gains 4 lr sigmoid(-logit) a step
    lr, logit, steps = 0.1, -1.0, 0
    while logit <= 0:
        logit, steps = logit + 4 * lr * sigmoid(-logit), steps + 1
    relearn = Relearn(steps=50, share=1.0, retain=0.0, lr=lr, optimiser=PLAIN)
    context = at_one(line(5.0), line(0.0))
    # equal answers go to class 0, so that the logit has to be above 0
    slow = line(-0.5, bias=-0.5)
    assert measure(relearn, slow, context) == steps
    assert measure(relearn, line(5.0), context) == 0
    assert measure(replace(relearn, steps=steps - 2), slow, context) == steps - 2  # capped


def test_alpha_is_the_share_of_the_original_s_accuracy_that_may_be_missing() -> None:
    task = on_a_line()  # 3 and 4 are to be forgotten
    strict = Relearn(steps=1, share=1.0, lr=1e-6, alpha=0.0)
    half = line(1.0, bias=-3.5)  # knows the 4 alone
    context = ImageContext(task, frozen(line(1.0)), frozen(line(0.0)))
    assert measure(strict, half, context) == 1
    assert measure(replace(strict, alpha=0.5), half, context) == 0
    # an original that knows half itself is reached by one that knows half
    assert measure(strict, half, ImageContext(task, frozen(half), frozen(line(0.0)))) == 0


def test_only_the_taught_part_is_taught_and_only_the_rest_is_measured() -> None:
    read: list[torch.Tensor] = []

    class Noted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = tiny.made()

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            read.append((inputs.detach(), self.training))
            return self.inner(inputs)

    context = tools.context(tools.classes(), Noted(), Noted())
    taught, rest = split_forget(context, 0.25)
    pictures = [part.batch(torch.arange(len(part))).inputs for part in (taught, rest)]
    read.clear()
    relearn = Relearn(steps=3, share=0.25, batch=4, retain=0.0)
    list(relearn.lessons(Noted(), context))
    shown = torch.cat([inputs for inputs, training in read if training])
    assert {tuple(x.flatten().tolist()) for x in shown} == {
        tuple(x.flatten().tolist()) for x in pictures[0]
    }
    for audit in (RecoveryArea(relearn), replace(relearn, alpha=0.0)):
        context.once((relearn, "known"), lambda: 1.0)
        context.once((audit, "known"), lambda: 1.0)
        read.clear()
        measure(audit, Noted(), context)
        seen = [inputs for inputs, training in read if not training]
        assert len(seen) == 4  # before, and after each of three steps
        assert all(torch.equal(inputs, pictures[1]) for inputs in seen)


def test_all_models_meet_the_same_lessons() -> None:
    drawn: list[list[float]] = []

    class Noted(nn.Module):
        def __init__(self, scale: float) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(scale))

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            drawn[-1] += inputs.flatten(1).sum(1).tolist()
            return self.weight * inputs.flatten(1)[:, :10]

    context = tools.context(tools.classes(), Noted(1.0), Noted(2.0))
    for scale in (0.5, -3.0):
        drawn.append([])
        measure(RecoveryArea(Relearn(steps=2, batch=5)), Noted(scale), context)
    assert drawn[0] == drawn[1]


def test_a_model_that_only_hides_recovers_sooner() -> None:
    torch.manual_seed(0)  # of the test's own data; nothing of the product reads it
    inputs = torch.randn(60, 6)
    targets = (inputs[:, 0] > 0).long()
    task = Problem.split(points(inputs.tolist(), targets.tolist()), torch.arange(30), name="two")
    knows, blank = line(4.0, 0, 0, 0, 0, 0), line(0.0, 0, 0, 0, 0, 0)
    hides = line(-0.2, 0, 0, 0, 0, 0)
    context = ImageContext(task, frozen(knows), frozen(blank))
    area = [measure(RecoveryArea(), model, context) for model in (knows, hides, blank)]
    assert area[0] > area[2] > area[1]


def epochs(index: float, gold: float) -> float:
    return index * (gold + 0.01) - 0.01


def test_the_anamnesis_index_by_hand() -> None:
    lessons = Relearn(steps=60, share=1.0, retain=0.0, lr=0.05, batch=1, optimiser=PLAIN)
    task = on_a_line()
    context = ImageContext(task, frozen(line(5.0)), frozen(line(-2.0)))
    gold = measure(lessons, line(-2.0), context) / 2  # two examples, one a step: 2 steps an epoch
    mine = measure(lessons, line(-1.0), context) / 2
    assert gold > mine > 0
    index = Anamnesis(lessons)
    assert measure(index, line(-1.0), context) == pytest.approx((mine + 0.01) / (gold + 0.01))
    assert measure(index, line(-2.0), context) == pytest.approx(1.0)
    assert measure(index, line(5.0), context) == pytest.approx(0.01 / (gold + 0.01))
    assert index.grain(context) == pytest.approx(0.5 / (gold + 0.01))


def test_the_fault_of_a_rival_that_divides_a_time_by_itself() -> None:
    # ERASURE takes both times from the unlearned model, which it also leaves relearned
    context = ImageContext(on_a_line(), frozen(line(5.0)), frozen(line(-2.0)))
    index = Anamnesis(Relearn(steps=60, share=1.0, retain=0.0, lr=0.05, optimiser=PLAIN))
    fast = line(-0.5)
    first = measure(index, fast, context)
    assert first < 0.9
    assert measure(index, fast, context) == first
    assert accuracy_on(fast, examples(context, "forget")) == 0


def test_the_index_tells_what_relearn_time_tells() -> None:
    from expunge.audits.images.classifier_audit import run_audit

    lessons = Relearn(steps=60, share=1.0, retain=0.0, lr=0.02, optimiser=PLAIN)
    subjects, originals = [line(-w) for w in (0.5, 0.7, 0.6)], [line(w) for w in (5.0, 6.0)]
    oracles = [line(-w) for w in (2.0, 2.2, 1.9, 2.1, 2.3)]
    found = [
        run_audit(audit, subjects, oracles, originals, on_a_line())
        for audit in (lessons, Anamnesis(lessons))
    ]
    values: list[Any] = [one.recovered for one in found]
    for name in ("value", "low", "high"):
        assert getattr(values[0], name) == pytest.approx(getattr(values[1], name))
    assert found[0].word == found[1].word


def test_the_oracle_of_the_scene_is_not_taught() -> None:
    context = ImageContext(on_a_line(), frozen(line(5.0)), frozen(line(-2.0)))
    twin = copy.deepcopy(context.oracle)
    measure(Anamnesis(Relearn(steps=9, share=1.0)), line(-1.0), context)
    assert tiny.same(twin, context.oracle)


def test_confidence_by_hand() -> None:
    context = ImageContext(on_a_line(), frozen(line(1.0)), frozen(line(0.0)))
    by_hand = (sigmoid(3 * 0.5) + sigmoid(4 * 0.5)) / 2
    assert measure(ForgetConfidence(), line(0.5), context) == pytest.approx(by_hand)
