"""Canaries: examples planted at training time, whose chance of being known is known exactly.

Whether a model was trained on a record cannot be proven where records are what they are. Of a
canary it can: it was drawn at random among alternatives, so that a model that never saw it ranks it
as any of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from expunge.core.batch import Data, Subset, Tensors, check_indices
from expunge.core.seeds import stream
from expunge.errors import BadData, BadSentence, Unsupported
from expunge.problems.forget_sets import ForgetSet
from expunge.problems.images.pool import with_targets


@dataclass(frozen=True)
class Canaries:
    """Random training examples under random wrong labels: forget them.

    Each is an example that only memory explains. The alternatives are the other classes, so the
    audit `LabelExposure` has as many as there are classes.

    Source: Carlini et al., The Secret Sharer, arXiv 1802.08232, for canaries; Feldman and Zhang,
    arXiv 2008.03703, for wrong labels as what must be memorised.
    """

    count: int

    def __post_init__(self) -> None:
        _at_least_one("Canaries", self.count)

    def __call__(self, train: Data, targets: Tensor, *, seed: int) -> ForgetSet:
        """Draw the rows, and for each a label among the other classes that occur."""
        draws = stream("forget", seed)
        rows = _drawn(self.count, len(train), draws)
        labels = targets.unique()
        if len(labels) < 2:
            raise BadData("Canaries need at least two classes, so that a label can be wrong.")
        place = torch.searchsorted(labels, targets[rows])
        shift = torch.randint(1, len(labels), (len(rows),), generator=draws)
        planted = targets.clone()
        planted[rows] = labels[(place + shift) % len(labels)]
        return ForgetSet(rows, planted)


@dataclass(frozen=True)
class PatternCanaries:
    """Random training examples, whose images become random patterns under random labels.

    Far from all data, with alternatives without end: the audit `PatternExposure` ranks each among
    fresh patterns of the same distribution. `planted` puts the patterns in.

    Source: Carlini et al., The Secret Sharer, arXiv 1802.08232.
    """

    count: int

    def __post_init__(self) -> None:
        _at_least_one("PatternCanaries", self.count)

    def __call__(self, train: Data, targets: Tensor, *, seed: int) -> ForgetSet:
        """Draw rows, labels and patterns."""
        draws = stream("forget", seed)
        rows, labels = _drawn(self.count, len(train), draws), targets.unique()
        changed = targets.clone()
        picked = torch.randint(len(labels), (len(rows),), generator=draws)
        changed[rows] = labels[picked]
        return ForgetSet(rows, changed, patterns(stored(train).inputs, len(rows), draws))


def planted(train: Data, chosen: ForgetSet) -> Data:
    """The training set as the original meets it: with the targets and images of a forget set.

    Args:
        train: the pool's training set; images can be replaced in memory alone.
        chosen: what a forget set's word chose.

    Raises:
        Unsupported: images are to be replaced in data that are read from files.
    """
    labelled = with_targets(train, chosen.targets)
    if chosen.images is None:
        return labelled
    base = stored(labelled)
    inputs = base.inputs.clone()
    rows = labelled.index[chosen.indices] if isinstance(labelled, Subset) else chosen.indices
    inputs[rows] = chosen.images
    changed = replace(base, inputs=inputs)
    return Subset(changed, labelled.index) if isinstance(labelled, Subset) else changed


def patterns(like: Tensor, count: int, draws: torch.Generator) -> Tensor:
    """Independent uniform noise in the range of some stored images, [count, c, h, w].

    Args:
        like: stored images, uint8 or float, before scaling.
        count: how many.
        draws: a CPU generator.
    """
    shape = (count, *like.shape[1:])
    if like.dtype == torch.uint8:
        return torch.randint(256, shape, generator=draws, dtype=torch.uint8)
    low, high = like.min(), like.max()
    return low + (high - low) * torch.rand(shape, generator=draws, dtype=like.dtype)


def stored(data: Data) -> Tensors:
    """The images in memory that a set reads from.

    Raises:
        Unsupported: it reads from files.
    """
    if isinstance(data, Tensors):
        return data
    if isinstance(data, Subset) and isinstance(data.base, Tensors):
        return data.base
    raise Unsupported(
        f"Pattern canaries need images in memory, got {type(data).__name__}; "
        "use Canaries, which change labels alone."
    )


def _drawn(count: int, n: int, draws: torch.Generator) -> Tensor:
    """Sorted random rows, of which some are left."""
    return check_indices(torch.randperm(n, generator=draws)[:count], n)


def _at_least_one(owner: str, count: int) -> None:
    if count < 1:
        raise BadSentence(f"{owner} got count={count}; expected 1 or more.")
