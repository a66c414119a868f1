"""Shards and slices: which model of an ensemble may see which training example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from expunge.core.batch import Joined, Subset, check_indices
from expunge.core.problem import Problem
from expunge.core.seeds import stream
from expunge.errors import BadData, BadSentence

# A model cannot be trained on fewer: no statistics can be taken over one example.
ENOUGH = 2

NO_ROWS = torch.zeros(0, dtype=torch.int64)


@dataclass(frozen=True)
class Layout:
    """Assign rows to shards and slices at random, once; no deletion changes the assignment.

    Args:
        n: training examples before any deletion.
        shards: models, each trained on its own rows alone.
        slices: parts of a shard, added one after the other with a checkpoint after each.
        seed: draws the assignment, without a look at the examples.

    Raises:
        BadSentence: shards or slices below 1.
        BadData: fewer than two examples a slice.

    Source: Bourtoule et al., Machine Unlearning, arXiv 1912.03817 (uniform assignment).
    """

    n: int
    shards: int
    slices: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("shards", "slices"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise BadSentence(f"{name} must be a whole number of 1 or more, got {value!r}.")
        if self.n < ENOUGH * self.shards * self.slices:
            raise BadData(
                f"{self.shards} shards of {self.slices} slices need {ENOUGH} examples a slice, "
                f"{ENOUGH * self.shards * self.slices} in all; the training set has {self.n}. "
                "Take fewer shards or slices."
            )

    @cached_property
    def parts(self) -> list[list[Tensor]]:
        """The rows of each slice of each shard, sorted, int64 [m]; sizes differ by one at most."""
        order = torch.randperm(self.n, generator=stream("sisa", self.seed, "assignment"))
        shards = order.tensor_split(self.shards)
        return [[rows.sort()[0] for rows in own.tensor_split(self.slices)] for own in shards]

    @cached_property
    def shard_of(self) -> Tensor:
        """The shard of each row, int64 [n]."""
        found = torch.empty(self.n, dtype=torch.int64)
        for shard, slices in enumerate(self.parts):
            found[torch.cat(slices)] = shard
        return found

    def sizes(self, gone: Tensor | None = None) -> Tensor:
        """Rows in each slice that are not gone, int64 [shard, slice]."""
        kept = torch.ones(self.n, dtype=torch.int64)
        if gone is not None:
            kept[gone] = 0
        return torch.tensor([[int(kept[rows].sum()) for rows in own] for own in self.parts])


Rows = Sequence[int] | Tensor | np.ndarray


def requested(rows: Rows, n: int, gone: Tensor) -> Tensor:
    """Check a deletion request, and return its rows, sorted, int64 [r].

    Args:
        rows: positions in the training set, any order.
        n: examples in the training set before any deletion.
        gone: int64 [g], rows that were deleted before.

    Raises:
        BadData: no row, one twice or deleted before, unknown rows, or nothing would be left.
    """
    found = check_indices(rows, n)
    again = found[torch.isin(found, gone)]
    if len(again):
        raise BadData(
            f"Row {int(again[0])} was deleted before ({len(again)} of the {len(found)} rows were). "
            "Name only rows that are still there."
        )
    if len(found) + len(gone) >= n:
        raise BadData(
            f"The request names all {len(found)} rows that are left; expected at least one to keep."
        )
    return found


def forget_rows(problem: Problem) -> Tensor:
    """Return the rows of a problem's set "train" that are its forget set, int64 [f].

    Raises:
        BadData: the forget set is not part of the set "train".
    """
    train, forget = problem.sets.get("train"), problem.sets["forget"]
    if isinstance(forget, Subset) and forget.base is train:
        return forget.index
    if isinstance(train, Joined) and train.second is forget:
        return torch.arange(len(train.first), len(train))
    raise BadData(
        f"The forget set of {problem.name} is not cut from its set 'train', so its rows are not "
        "known. Make the problem with Problem.split or Problem.of."
    )
