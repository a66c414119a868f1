"""Forget sets that are planted at training time, or chosen by what models make of examples.

Whether a model was trained on a record cannot be proven where records are what they are. Of a
canary it can: it was drawn at random among alternatives, so that a model that never saw it ranks it
as any of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from expunge.core.batch import Data, Subset, Tensors, check_indices
from expunge.core.seeds import stream
from expunge.core.vocabulary import check_fields, word
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
        check_fields(self, "count")
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


Floats = NDArray[np.float64]


STRATA = ("low", "mid", "high")


@word
class Memorised:
    """The least, the middle, or the most memorised training examples.

    Low is a negative control: what is not memorised is answered alike without training on it, so
    there is nothing to forget. Among equal scores the draw decides; three strata of one seed, one
    score and at most a third of the set each do not overlap. An experiment scores low by the
    largest memorisation that the models leave open, so there low and mid may share examples.

    Args:
        stratum: "low", "mid" (around the median) or "high".
        size: how many; the authors take 3,000 of CIFAR-10.

    Source: Zhao et al., arXiv 2406.01257 (RUM); scores of Feldman and Zhang,
    arXiv 2008.03703.
    """

    stratum: str
    size: int

    def check(self) -> None:
        if self.stratum not in STRATA:
            raise BadSentence(f"Memorised: expected one of {STRATA}, got {self.stratum!r}.")
        _some("Memorised", self.size)

    def __call__(self, train: Data, targets: Tensor, *, seed: int, scores: Floats) -> ForgetSet:
        """Choose by `memorisation(...).score`, float64 [n]."""
        found = _checked(scores, len(train), 1)
        refuse_whole("Memorised", self.size, len(train))
        drawn = torch.randperm(len(train), generator=stream("forget", seed)).numpy()
        order = drawn[np.argsort(found[drawn], kind="stable")]
        first = {"low": 0, "mid": (len(order) - self.size) // 2, "high": len(order) - self.size}
        start = first[self.stratum]
        return ForgetSet(check_indices(order[start : start + self.size], len(train)), targets)


@word
class WorstCase:
    """The examples that lose most when all of them are left out together, found greedily.

    The proxy: the predicted fall of the set's own mean signal if the whole set is removed, to first
    order the sum of what its examples add to one another. Single rare examples count, and so do
    groups whose members stand in for each other as long as one of them stays. Each step takes the
    example that adds most; the first is the most memorised one.

    Args:
        size: how many.

    Source: own proxy, for the aim of Fan et al., arXiv 2403.07362, who search by bilevel
    optimisation; influences of Feldman and Zhang, arXiv 2008.03703.
    """

    size: int

    def check(self) -> None:
        _some("WorstCase", self.size)

    def __call__(self, train: Data, targets: Tensor, *, seed: int, scores: Floats) -> ForgetSet:
        """Choose by `influence(...)`, float64 [n, n]; nothing is drawn."""
        found = _checked(scores, len(train), 2)
        refuse_whole("WorstCase", self.size, len(train))
        return ForgetSet(check_indices(greedy(found, self.size), len(train)), targets)


def greedy(influence: Floats, size: int) -> list[int]:
    """Rows in the order in which they were taken; among equal gains the lowest row.

    Args:
        influence: [n, n], what the presence of the first adds to the second.
        size: how many, at most n.
    """
    both = influence + influence.T
    gain, taken = np.diag(influence).copy(), []
    for _ in range(size):
        best = int(np.argmax(gain))
        taken.append(best)
        gain = gain + both[best]
        gain[taken] = -np.inf
    return taken


def _checked(scores: Floats, n: int, axes: int) -> Floats:
    found = np.asarray(scores, dtype=np.float64)
    if found.shape != (n,) * axes or not np.isfinite(found).all():
        raise BadData(
            f"Got scores of shape {found.shape} for {n} training examples; expected finite "
            f"numbers of shape {(n,) * axes}."
        )
    return found


def _some(owner: str, size: int) -> None:
    if size < 1:
        raise BadSentence(f"{owner} got size={size}; expected 1 or more.")


def refuse_whole(owner: str, size: int, n: int) -> None:
    """Refuse a size that leaves nothing to retain.

    Raises:
        BadData: so.
    """
    if size >= n:
        raise BadData(
            f"{owner} got size={size}, but the training set has {n} examples; expected fewer, so "
            "that something is retained."
        )
