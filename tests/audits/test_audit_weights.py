"""Rounding, pruning, confusion, neighbours, damage, exposure: golden values by hand."""

from __future__ import annotations

import copy
import math

import audit_tools as tools
import pytest
import torch
from audit_tools import line, on_a_line, points
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import tiny
from expunge.audits.images.answers import (
    AdversarialNeighbours,
    DamageNearBoundary,
    ForgetConfidence,
    InterclassConfusion,
    LabelExposure,
    OverUnlearning,
    PatternExposure,
    climb,
    exposure,
    jensen_shannon,
    ranks,
)
from expunge.audits.images.classifier_audit import ImageContext, measure
from expunge.audits.images.relearn import Prune, Quantise
from expunge.audits.weights import rounded
from expunge.core.batch import Tensors
from expunge.core.problem import Problem
from expunge.engine.run import frozen
from expunge.problems.images.canaries import PatternCanaries, planted

LOOSE = settings(deadline=None, derandomize=True, max_examples=50)


def test_rounding_by_hand() -> None:
    weight = torch.tensor([[7.0, -3.4, 0.4], [0.7, 0.0, -0.26], [0.0, 0.0, 0.0]])
    # 4 bits: 7 levels on each side, so steps of 1 and 0.1 and a row of zeros that stays
    expected = torch.tensor([[7.0, -3.0, 0.0], [0.7, 0.0, -0.3], [0.0, 0.0, 0.0]])
    assert rounded(weight, 4).flatten().tolist() == pytest.approx(expected.flatten().tolist())


@LOOSE
@given(
    st.lists(st.lists(st.floats(-5, 5, width=32), min_size=4, max_size=4), min_size=1, max_size=5),
    st.integers(2, 10),
)
def test_rounding_is_half_a_step_off_at_most_and_done_once(
    rows: list[list[float]], bits: int
) -> None:
    weight = torch.tensor(rows, dtype=torch.float64).reshape(len(rows), 2, 2, 1)
    found = rounded(weight, bits)
    largest = weight.abs().flatten(1).amax(1)
    step = largest / (2 ** (bits - 1) - 1)
    assert ((found - weight).abs().flatten(1).amax(1) <= step / 2 + 1e-9).all()
    assert torch.allclose(rounded(found, bits), found, atol=1e-9)
    assert torch.allclose(found.abs().flatten(1).amax(1), largest)
    levels = [len(set(row.round(decimals=6).flatten().tolist())) for row in found]
    assert max(levels) <= 2**bits - 1


def test_rounding_brings_back_what_a_small_change_hid() -> None:
    # a large weight beside makes the step 1, so that -0.3 becomes 0
    hidden = line(-0.3, 7.0)
    train = points([[-1.0, 0.0], [1.0, 0.0], [5.0, 0.0]], [0, 1, 1])
    task = Problem.split(train, torch.tensor([2]), name="hidden")
    context = ImageContext(task, frozen(line(1.0, 7.0)), frozen(hidden))
    assert measure(ForgetConfidence(), hidden, context) == pytest.approx(1 / (1 + math.exp(1.5)))
    assert measure(Quantise(bits=4), hidden, context) == pytest.approx(0.5)
    assert measure(Quantise(bits=8), hidden, context) < 0.3


def test_biases_and_normalisation_are_not_rounded() -> None:
    model = tiny.made()
    inner, before = copy.deepcopy(model), tiny.state(model)
    Quantise(bits=2).measure(inner, tools.context())
    after = tiny.state(inner)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"0.weight", "4.weight"}


def test_pruning_by_hand() -> None:
    task = on_a_line()
    context = ImageContext(task, frozen(line(1.0)), frozen(line(0.0)))
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2), nn.Linear(2, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[0.1], [-0.2]]))
        model[2].weight.copy_(torch.tensor([[0.3, -0.4], [0.5, 0.6]]))
    for share, left in ((0.0, 6), (0.5, 3), (0.7, 2), (1.0, 0)):
        inner = copy.deepcopy(model)
        Prune(share).measure(inner, context)
        kept = [w for part in (inner[1], inner[2]) for w in part.weight.flatten().tolist() if w]
        assert len(kept) == left
        assert all(abs(w) > 0.1 * (6 - left) for w in kept)
        assert torch.equal(inner[1].bias, model[1].bias)


def test_confusion_by_hand() -> None:
    # two classes by the sign; the labels of -3 and 3 were swapped, and are to be forgotten
    train = points([[-1.0], [-2.0], [-3.0], [1.0], [2.0], [3.0], [9.0]], [0, 0, 1, 1, 1, 0, 0])
    unseen = points([[-5.0], [-0.5], [5.0], [1.5]], [0, 0, 1, 1])
    task = Problem.split(train, torch.tensor([2, 5]), name="swapped", test=unseen)
    context = ImageContext(task, frozen(line(1.0)), frozen(line(1.0)))
    test, forget = InterclassConfusion(0, 1), InterclassConfusion(1, 0, set="forget")
    clean, confused = line(1.0), line(1.0, bias=-1.0)  # the second takes 0.5 ... 1 for class 0
    assert measure(test, clean, context) == measure(forget, clean, context) == 0
    assert measure(test, line(1.0, bias=-1.6), context) == 0.25
    assert measure(test, confused, context) == 0
    assert measure(forget, line(1.0, bias=-4.0), context) == 0.5  # answers 0 to the 3
    assert measure(forget, line(-1.0), context) == 1


def test_a_third_class_is_no_confusion_of_the_two() -> None:
    train = points([[1.0], [2.0], [3.0], [4.0]], [0, 1, 2, 1])
    task = Problem.split(train, torch.tensor([0, 1]), name="three", test=train)
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 3)).eval()
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].bias.copy_(torch.tensor([0.0, 0.0, 9.0]))
    context = ImageContext(task, frozen(model), frozen(model))
    assert measure(InterclassConfusion(0, 1), model, context) == 0
    assert InterclassConfusion(0, 1).grain(context) == pytest.approx(1 / 3)  # the 3 is left out


def test_neighbours_by_hand() -> None:
    # the oracle puts its boundary at 3.5, the model at 2.5, and 3 and 4 are to be forgotten
    context = ImageContext(on_a_line(), frozen(line(1.0)), frozen(line(1.0, bias=-3.5)))
    model = line(1.0, bias=-2.5)
    # at 3 the model is right and the oracle wrong; 4 gets there within 0.6, but not within 0.4
    assert measure(AdversarialNeighbours(0.4), model, context) == 0.5
    assert measure(AdversarialNeighbours(0.6), line(2.0, bias=-5.0), context) >= 0.5
    assert measure(AdversarialNeighbours(0.4), line(1.0, bias=-3.5), context) == 0


def test_a_search_stays_in_its_box_and_in_the_range_of_the_inputs() -> None:
    start = torch.tensor([[0.0, 0.5, 1.0]])
    up = climb(start, torch.tensor([0]), lambda x, t: x.sum(), 0.1, 4)
    assert up.flatten().tolist() == pytest.approx([0.1, 0.6, 1.0])
    down = climb(start, torch.tensor([0]), lambda x, t: -x.sum(), 0.1, 1)
    assert down.flatten().tolist() == pytest.approx([0.0, 0.4, 0.9])
    peak = climb(start, torch.tensor([0]), lambda x, t: -((x - 0.55) ** 2).sum(), 0.3, 12)
    assert peak.flatten().tolist() == pytest.approx([0.3, 0.55, 0.7], abs=0.051)


def three() -> tuple[Problem, nn.Sequential]:
    """One number, classes 0 to 2 by size; class 2 is to be forgotten."""
    train = points([[-2.0], [-1.0], [0.0], [0.2], [2.0], [3.0]], [0, 0, 1, 1, 2, 2])
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 3)).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[-2.0], [0.0], [2.0]]))
        model[1].bias.copy_(torch.tensor([0.0, 1.0, -1.0]))
    return Problem.split(train, torch.tensor([4, 5]), name="three"), model


def without_class_2(model: nn.Sequential) -> nn.Sequential:
    clean = copy.deepcopy(model)
    with torch.no_grad():
        clean[1].bias[2] = -1e4
    return clean


def test_a_model_that_only_lost_its_class_is_not_over_unlearned() -> None:
    task, model = three()
    context = ImageContext(task, frozen(model), frozen(model))
    audit = OverUnlearning(radius=0.5, steps=2)
    clean = without_class_2(model)
    assert measure(audit, clean, context) == pytest.approx(0.0, abs=1e-6)
    # the original still answers 2 there, which is far from an answer without it
    assert measure(audit, model, context) > 0.3
    damaged = copy.deepcopy(clean)
    with torch.no_grad():
        damaged[1].bias[0] += 9.0
    assert measure(audit, damaged, context) > 0.3


def test_the_search_goes_towards_the_boundary() -> None:
    # the fault of a rival: it climbs the loss of the runner-up class, and so moves away
    task, model = three()
    context = ImageContext(task, frozen(model), frozen(model))
    near, wanted = OverUnlearning(radius=0.5, steps=2)._near(context)
    assert near.inputs.flatten().tolist() == pytest.approx([2.0, 2.5])  # 2 is the least input
    assert wanted[:, 2].tolist() == [0.0, 0.0]
    assert wanted.sum(1).tolist() == pytest.approx([1.0, 1.0])


def test_over_unlearning_is_for_whole_classes() -> None:
    assert "whole classes" in OverUnlearning().mismatch(on_a_line())
    assert OverUnlearning().mismatch(three()[0]) == ""


def test_the_divergence_by_hand() -> None:
    p, q = torch.tensor([[1.0, 0.0]]).double(), torch.tensor([[0.0, 1.0]]).double()
    assert jensen_shannon(p, q).item() == pytest.approx(math.log(2))
    assert jensen_shannon(p, p).item() == 0
    sure = torch.full((1, 10), 0.01 / 9).double()
    sure[0, 0] = 0.99
    even = torch.full((1, 10), 0.1).double()
    assert jensen_shannon(sure, even).item() == pytest.approx(0.498549, abs=1e-6)


def test_damage_is_read_where_the_original_calls_it_near() -> None:
    train = points([[-3.0], [0.9], [1.1], [-1.0], [1.0], [0.8]], [0, 1, 1, 0, 1, 1])
    task = Problem.split(train, torch.tensor([4, 5]), name="near")
    context = ImageContext(task, frozen(line(1.0)), frozen(line(1.0)))
    assert DamageNearBoundary(1).near(context).index.tolist() == [1]  # 0.9 is nearest to both
    assert sorted(DamageNearBoundary(2).near(context).index.tolist()) == [1, 2]
    assert len(DamageNearBoundary(99).near(context)) == 4
    lost = measure(DamageNearBoundary(1), line(0.0), context)
    assert lost == pytest.approx(0.5)
    assert measure(DamageNearBoundary(1), line(100.0), context) == pytest.approx(0.0, abs=1e-9)


def test_ranks_and_exposure_by_hand() -> None:
    own = torch.tensor([[3.0], [1.0], [2.0]])
    others = torch.tensor([[3.0, 1.0, 0.0, 2.0], [1.0, 2.0, 3.0, 4.0], [2.0, 2.0, 2.0, 9.0]])
    assert ranks(own, others).tolist() == [1.0, 4.0, 3.0]  # 2, 3 and 4 share the third place
    assert exposure(torch.tensor([1.0, 4.0]).double(), 4) == pytest.approx((2 + 0) / 2)
    # a canary that any model ranks at random: log2(m) less the mean log2 of 1 ... m
    uniform = exposure(torch.arange(1, 257).double(), 256)
    assert uniform == pytest.approx(1.44, abs=0.03)


def test_a_known_label_is_exposed() -> None:
    task = on_a_line()
    context = ImageContext(task, frozen(line(1.0)), frozen(line(0.0)))
    assert measure(LabelExposure(), line(1.0), context) == pytest.approx(1.0)  # log2 of 2 classes
    assert measure(LabelExposure(), line(-1.0), context) == pytest.approx(0.0)
    # ties count half: rank 1.5
    assert measure(LabelExposure(), line(0.0), context) == pytest.approx(1 - math.log2(1.5))


def canaried() -> Problem:
    data = tiny.pictures()
    chosen = PatternCanaries(12)(data, data.targets, seed=1)
    return Problem.split(planted(data, chosen), chosen.indices, name="canaried")


def test_a_model_that_never_saw_the_patterns_ranks_them_at_random() -> None:
    context = tools.context(canaried())
    audit = PatternExposure(alternatives=63)
    blind = [measure(audit, tiny.made(seed=seed), context) for seed in range(30, 50)]
    expected = exposure(torch.arange(1, 65).double(), 64)
    assert sum(blind) / len(blind) == pytest.approx(expected, abs=0.35)


def test_a_model_that_holds_the_patterns_ranks_them_first() -> None:
    task = canaried()
    context = tools.context(task)
    forget = task.sets["forget"].batch(torch.arange(12))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    patterns = forget.inputs.flatten(1).double()
    wanted = 20 * nn.functional.one_hot(forget.targets, 10).double() - 10
    with torch.no_grad():
        model[1].weight.copy_(torch.linalg.lstsq(patterns, wanted).solution.T)
        model[1].bias.zero_()
    found = measure(PatternExposure(alternatives=63), model, context)
    assert found > 5  # of 6 bits


def test_pictures_in_files_have_no_patterns() -> None:
    class Files(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return 4

        def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
            return torch.zeros(1, 8, 8), row % 2

    task = Problem.split(Files(), torch.tensor([0]), name="files")
    assert "need images in memory" in PatternExposure().mismatch(task)
    assert PatternExposure().mismatch(canaried()) == ""
    assert isinstance(tiny.pictures(), Tensors)
