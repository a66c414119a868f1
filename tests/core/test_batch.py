"""Examples by position: joined, subsets, scaling, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tiny
from expunge.core.batch import Indexed, Joined, Subset, Tensors, all_targets, as_data, in_memory
from expunge.errors import BadData


def test_joined_data_keep_the_order_asked_for() -> None:
    whole = tiny.pictures(60)
    first = Tensors(whole.inputs[:25], whole.targets[:25])
    second = Tensors(whole.inputs[25:], whole.targets[25:])
    both = Joined(first, second)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    for positions in (order, order[:7], torch.tensor([40, 3]), torch.tensor([59])):
        told, wanted = both.batch(positions), whole.batch(positions)
        assert torch.equal(told.inputs, wanted.inputs)
        assert torch.equal(told.targets, wanted.targets)
        assert torch.equal(told.index, positions)
    assert torch.equal(all_targets(both), whole.targets)
    assert len(both) == 60


def test_a_subset_keeps_the_rows_of_the_larger_set() -> None:
    subset = Subset(tiny.pictures(), torch.tensor([5, 9, 2]))
    told = subset.batch(torch.tensor([2, 0]))
    assert told.index.tolist() == [2, 5]
    assert torch.equal(told.inputs, tiny.pictures().inputs[[2, 5]])
    assert all_targets(subset).tolist() == tiny.pictures().targets[[5, 9, 2]].tolist()
    assert in_memory(subset)


def test_bytes_are_scaled_and_normalised() -> None:
    data = Tensors(torch.full((2, 1, 2, 2), 51, dtype=torch.uint8), torch.tensor([0, 1]))
    assert data.batch(torch.tensor([1])).inputs.flatten().tolist() == pytest.approx([0.2] * 4)
    scaled = Tensors(data.inputs, data.targets, mean=(0.1,), std=(0.5,))
    told = scaled.batch(torch.tensor([[0, 1], [1, 0]]))
    assert told.inputs.shape == (2, 2, 1, 2, 2)
    assert told.inputs.flatten().tolist() == pytest.approx([0.2] * 16)


@pytest.mark.parametrize(
    "source",
    [
        (torch.zeros(3, 2), torch.zeros(2).long()),
        (torch.zeros(3, 2), torch.zeros(3)),
        (torch.zeros(3, 2), torch.tensor([0, -1, 0])),
        (torch.full((3, 2), float("nan")), torch.zeros(3).long()),
        5,
        iter([]),
    ],
    ids=["lengths", "not whole", "negative", "NaN", "a number", "an iterator"],
)
def test_what_are_no_data(source: Any) -> None:
    with pytest.raises(BadData):
        as_data(source)


def test_lists_of_pairs_are_data() -> None:
    pairs = [(torch.full((1, 2, 2), float(i)), i) for i in range(4)]
    data = as_data(pairs)
    assert isinstance(data, Indexed)
    assert not in_memory(data)
    assert data.batch(torch.tensor([3, 1])).targets.tolist() == [3, 1]
    with pytest.raises(BadData, match="pair"):
        as_data([torch.zeros(2)] * 3).batch(torch.tensor([0]))
