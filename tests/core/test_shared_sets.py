"""Members that are trained on rows of their own, as shadow models are, stacked and alone."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import tiny
from expunge.core.batch import Subset
from expunge.core.method import Method
from expunge.core.problem import Problem
from expunge.engine.run import Run, frozen
from expunge.engine.stacking import CannotStack, Looped, Vmapped, shared, stackable, unlearn_runs
from expunge.engine.training import Train
from expunge.methods.losses.answers import CE

SEEDS = (3, 4, 5)
TRAINING = Method("training", (Train(CE("train"), epochs=2, batch=8, lr=0.05),))


def half(seed: int, n: int = 20) -> Tensor:
    return torch.randperm(60, generator=torch.Generator().manual_seed(seed))[:n]


def runs(rows: dict[int, Tensor]) -> list[Run]:
    whole, original = tiny.problem(), frozen(tiny.made())
    made = []
    for seed, chosen in rows.items():
        own = {**whole.sets, "train": Subset(whole.sets["train"], chosen)}
        task: Problem = replace(whole, sets=own)
        made.append(Run(copy.deepcopy(original).requires_grad_(True), original, task, seed))
    return made


def test_stacked_as_alone() -> None:
    rows = {seed: half(seed) for seed in SEEDS}
    assert stackable(runs(rows), TRAINING) == ""
    *_, stacked = unlearn_runs(runs(rows), TRAINING, Vmapped())
    *_, alone = unlearn_runs(runs(rows), TRAINING, Looped())
    for one, other in zip(stacked, alone, strict=True):  # type: ignore[arg-type]
        assert one.receipt.engine == "stacked of 3"
        assert one.receipt.examples == other.receipt.examples == {"train": 40}
        there = other.model.state_dict()
        for name, tensor in one.model.state_dict().items():
            torch.testing.assert_close(tensor, there[name], atol=1e-5, rtol=1e-4)


def test_a_member_is_trained_on_its_own_rows() -> None:
    *_, mine = unlearn_runs(runs({3: half(3), 4: half(4)}), TRAINING, Vmapped())
    *_, other = unlearn_runs(runs({3: half(3), 4: half(9)}), TRAINING, Vmapped())
    first, second = zip(mine, other, strict=True)  # type: ignore[arg-type]
    for name, tensor in first[0].model.state_dict().items():
        torch.testing.assert_close(tensor, first[1].model.state_dict()[name])
    assert not tiny.same(second[0].model, second[1].model)


def test_unequal_sets_are_looped_with_the_reason() -> None:
    uneven = {3: half(3), 4: half(4, 21)}
    assert "no equally large subsets" in stackable(runs(uneven), TRAINING)
    *_, made = unlearn_runs(runs(uneven), TRAINING, Vmapped())
    assert [one.receipt.engine for one in made] == ["alone", "alone"]  # type: ignore[union-attr]


def test_rows_of_two_data_sets_are_not_taken_for_one() -> None:
    first, second = tiny.pictures(), copy.copy(tiny.pictures())
    with pytest.raises(CannotStack, match="no equally large"):
        shared([Subset(first, half(1)), Subset(second, half(2))])
    with pytest.raises(CannotStack, match="no equally large"):
        shared([first, Subset(first, half(2))])
    base, rows = shared([Subset(first, half(1)), Subset(first, half(2))])
    assert base is first
    assert rows is not None
    assert torch.equal(rows, torch.stack([half(1), half(2)]))
    assert shared([first, first]) == (first, None)
