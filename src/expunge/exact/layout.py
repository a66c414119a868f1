"""Shards and slices: which part of an ensemble may see which training example."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from expunge.errors import BadData, BadSentence
from expunge.streams import stream

# A model cannot be trained on fewer: no statistics can be taken over one example.
ENOUGH = 2


@dataclass(frozen=True)
class Layout:
    """An assignment of rows to shards and slices, drawn once; no deletion changes it.

    Args:
        n: training examples before any deletion.
        shards: models, each trained on its own rows alone.
        slices: parts of a shard, added one after the other with a checkpoint after each.
        seed: draws the assignment; nothing of the examples is looked at.

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
