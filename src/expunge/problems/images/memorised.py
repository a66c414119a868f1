"""Forget sets by what models make of their examples: strata of memorisation, and the worst case.

What they choose by comes from shadow models, as arrays; `expunge.metrics.attacks.signals` makes
them.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from expunge.core.batch import Data, check_indices
from expunge.core.seeds import stream
from expunge.core.vocabulary import word
from expunge.errors import BadData, BadSentence
from expunge.problems.forget_sets import ForgetSet

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
