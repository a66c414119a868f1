"""The pool: all that a loader found, split into train, val and test, with nothing forgotten."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from expunge.core.batch import Data, Indexed, Subset, Tensors, all_targets
from expunge.errors import BadData


@dataclass(frozen=True, eq=False)
class Pool:
    """A labelled image data set in three disjoint parts.

    Args:
        name: what the report calls it.
        train: examples a model is trained on; forget and retain sets are cut from these.
        val: held out, may be looked at while a method is tuned.
        test: held out, looked at once.
        classes: class names; a target is a position in this tuple.
        shape: channels, height, width of one image.
    """

    name: str
    train: Data
    val: Data
    test: Data
    classes: tuple[str, ...]
    shape: tuple[int, int, int]


def with_targets(data: Data, targets: Tensor) -> Data:
    """The same images in the same order under other targets, for an original trained on mistakes.

    Args:
        data: images in memory, a ``Dataset``, or a subset of either.
        targets: int64 [n].

    Raises:
        BadData: not one target an example, or a kind of data that cannot be relabelled.
    """
    if targets.shape != (len(data),):
        raise BadData(
            f"Got targets of shape {tuple(targets.shape)} for {len(data)} examples; "
            "expected one target an example."
        )
    if isinstance(data, Tensors):
        return replace(data, targets=targets)
    if isinstance(data, Indexed):
        return Indexed(Relabelled(data.dataset, targets.tolist()))
    if isinstance(data, Subset):
        patched = all_targets(data.base).clone()
        patched[data.index] = targets
        return Subset(with_targets(data.base, patched), data.index)
    raise BadData(f"A {type(data).__name__} cannot be relabelled; give Tensors, Indexed or Subset.")


class Relabelled(Dataset[Any]):
    """A map-style data set with its targets replaced; images are still read when asked for."""

    def __init__(self, dataset: Dataset[Any], targets: list[int]) -> None:
        self.dataset = dataset
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, row: int) -> tuple[Any, int]:
        return self.dataset[row][0], self.targets[row]


def stratified_rank(targets: Tensor, draws: torch.Generator) -> Tensor:
    """A random rank in (0, 1) for every example, evenly spaced inside each class.

    Sorting by it gives an order of which every prefix holds the classes in proportion, and
    prefixes are nested; no class lies wholly below 0.5, so a cut under that empties no class.

    Args:
        targets: int64 [n].
        draws: a CPU generator.
    """
    rank = torch.empty(len(targets), dtype=torch.float64)
    for label in targets.unique():
        rows = (targets == label).nonzero().flatten()
        shuffled = rows[torch.randperm(len(rows), generator=draws)]
        rank[shuffled] = (torch.arange(len(rows), dtype=torch.float64) + 0.5) / len(rows)
    return rank
