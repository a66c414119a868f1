from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset

from expunge.core.batch import Indexed, Subset, Tensors, all_targets
from expunge.core.seeds import stream
from expunge.errors import BadData
from expunge.problems.images.pool import stratified_rank, with_targets


class Counting(Dataset[Any]):
    """Ten one-pixel images whose value is their row."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return torch.full((1, 1, 1), float(row)), row % 3


def tensors() -> Tensors:
    return Tensors(torch.arange(10.0).reshape(10, 1, 1, 1), torch.arange(10) % 3)


@pytest.mark.parametrize("data", [tensors(), Indexed(Counting())], ids=["tensors", "indexed"])
def test_with_targets_changes_targets_and_nothing_else(data: Any) -> None:
    changed = with_targets(data, torch.arange(10) % 2)
    found = changed.batch(torch.tensor([7, 2]))
    assert found.inputs.flatten().tolist() == [7.0, 2.0]
    assert found.targets.tolist() == [1, 0]
    assert found.index.tolist() == [7, 2]
    assert all_targets(changed).tolist() == [0, 1] * 5
    assert data.batch(torch.tensor([7, 2])).targets.tolist() == [1, 2]


def test_with_targets_of_a_subset_keeps_the_rows_of_the_base() -> None:
    base = tensors()
    changed = with_targets(Subset(base, torch.tensor([8, 3])), torch.tensor([5, 6]))
    found = changed.batch(torch.tensor([0, 1]))
    assert found.inputs.flatten().tolist() == [8.0, 3.0]
    assert found.targets.tolist() == [5, 6]
    assert found.index.tolist() == [8, 3]
    assert base.targets[8] == 2


def test_with_targets_refuses_another_number_of_targets() -> None:
    with pytest.raises(BadData, match=r"shape \(9,\) for 10 examples"):
        with_targets(tensors(), torch.zeros(9, dtype=torch.int64))


def test_with_targets_refuses_what_it_does_not_know() -> None:
    with pytest.raises(BadData, match="A list cannot be relabelled"):
        with_targets([1, 2], torch.zeros(2, dtype=torch.int64))  # type: ignore[arg-type]


def test_stratified_rank_of_a_hand_computed_case() -> None:
    rank = stratified_rank(torch.tensor([4, 7, 4, 4, 9, 7]), stream("x", 0))
    assert sorted(rank[[0, 2, 3]].tolist()) == pytest.approx([1 / 6, 1 / 2, 5 / 6])
    assert sorted(rank[[1, 5]].tolist()) == [0.25, 0.75]
    assert rank[4] == 0.5


@given(
    counts=st.lists(st.integers(1, 30), min_size=2, max_size=6),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 2**40),
)
@settings(deadline=None, derandomize=True, max_examples=60)
def test_every_prefix_holds_the_classes_in_proportion(
    counts: list[int], share: float, seed: int
) -> None:
    targets = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    order = stratified_rank(targets, stream("x", seed)).argsort(stable=True)
    assert order.sort()[0].tolist() == list(range(len(targets)))
    length = round(share * len(targets))
    held = targets[order[:length]].bincount(minlength=len(counts))
    for got, count in zip(held.tolist(), counts, strict=True):
        assert abs(got - count * length / len(targets)) <= 1.5


def test_a_cut_below_one_half_empties_no_class() -> None:
    targets = torch.tensor([0, 1, 1, 2, 2, 2] + [3] * 50)
    kept = targets[stratified_rank(targets, stream("x", 3)) >= 0.5]
    assert kept.unique().tolist() == [0, 1, 2, 3]
