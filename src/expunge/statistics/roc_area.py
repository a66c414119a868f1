"""The area under the ROC curve: counted by rank, weighted, and tested against chance."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.stats import t as student

from expunge.errors import BadEvidence
from expunge.statistics.power import detectable_auc, excludable_auc
from expunge.statistics.result import Effect, Floats, check_fraction, check_positive, finite_array

Flags = NDArray[np.bool_]

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RankedScores:
    """Scores sorted within each column, so that weights may change without another sort.

    Args:
        order: int64 [trial, column], the trial at each rank.
        start, stop: int64 [trial, column], ranks of the first of a tie and of the one behind it.
        positives, negatives: float64 [trial, column], the weight of each trial, by rank.
    """

    order: Ints
    start: Ints
    stop: Ints
    positives: Floats
    negatives: Floats

    def auc(self) -> Floats:
        """Return the chance that a positive scores above a negative, ties counted half, [column].

        Source: Mann and Whitney (1947), the statistic U over the number of pairs.
        """
        lower = _below(self.negatives, self.start) + _below(self.negatives, self.stop)
        pairs = self.positives.sum(axis=0) * self.negatives.sum(axis=0)
        found: Floats = (self.positives * lower).sum(axis=0) / 2 / pairs
        return found

    def placements(self) -> tuple[Floats, Floats]:
        """Return which share of the negatives lies below each trial, and of the positives above.

        Returns:
            float64 [trial, column] each, by rank, ties counted half. The area is the mean of the
            first over positives, and of the second over negatives; their spread is DeLong's error.
        """
        below = [
            (_below(side, self.start) + _below(side, self.stop)) / 2
            for side in (self.positives, self.negatives)
        ]
        ones, zeros = self.positives.sum(axis=0), self.negatives.sum(axis=0)
        return below[1] / zeros, (ones - below[0]) / ones

    def rates(self) -> tuple[Floats, Floats]:
        """Return true and false positive rates of "above this score", [trial, column] each."""
        true = 1 - _below(self.positives, self.stop) / self.positives.sum(axis=0)
        false = 1 - _below(self.negatives, self.stop) / self.negatives.sum(axis=0)
        return true, false


def rank_scores(scores: Floats, positives: Flags, negatives: Flags) -> RankedScores:
    """Sort scores within each column; every trial weighs 1 on its side.

    Args:
        scores: float [trial, column].
        positives, negatives: bool [trial, column].
    """
    order = np.argsort(scores, axis=0, kind="stable")
    rising = np.take_along_axis(scores, order, axis=0)
    ranks = np.arange(len(rising))[:, None]
    new = np.ones(rising.shape, dtype=np.bool_)
    new[1:] = rising[1:] > rising[:-1]
    start = np.maximum.accumulate(np.where(new, ranks, 0), axis=0)
    last = np.vstack([new[1:], np.ones((1, rising.shape[1]), dtype=np.bool_)])
    stop = np.where(last, ranks + 1, len(rising))
    stop = np.minimum.accumulate(stop[::-1], axis=0)[::-1]
    sides = [
        np.take_along_axis(one, order, axis=0).astype(np.float64) for one in (positives, negatives)
    ]
    return RankedScores(order, start, stop, sides[0], sides[1])


def auc(positives: ArrayLike, negatives: ArrayLike) -> Floats:
    """Return the area under the ROC curve: how often a positive scores above a negative.

    Args:
        positives, negatives: float [unit] or [unit, column]; ties count half.

    Returns:
        float64 [] or [column], from 0 to 1; 0.5 where the scores tell nothing.

    Raises:
        BadEvidence: a side without units, other columns, scores that are NaN or infinite.

    Source: as for `RankedScores.auc`.
    """
    ones = finite_array("positives", positives, axes=(1, 2))
    zeros = finite_array("negatives", negatives, axes=(1, 2))
    if ones.shape[1:] != zeros.shape[1:]:
        raise BadEvidence(
            f"Got positives {ones.shape} and negatives {zeros.shape}; expected the same columns."
        )
    return _ranked(ones, zeros).auc().reshape(ones.shape[1:])


def compare_auc(
    positives: ArrayLike, negatives: ArrayLike, *, margin: float, alpha: float = 0.05,
    name: str = "AUC",
) -> Effect:  # fmt: skip
    """Compare the area under the ROC curve with 0.5.

    At each value that the area might have, its error is the larger of DeLong's and of Newcombe's
    for that value: DeLong's is 0 where the groups are apart or all tied, Newcombe's is too small
    where one group is far narrower than the other. Interval and p-values use the same error, and
    Student's t of the smaller group, since a normal limit finds too much in ten units.

    Args:
        positives, negatives: float [unit], scores of independent units; ties count half.
        margin: the smallest distance from 0.5 that matters.
        alpha: level of each test.
        name: of the attack.

    Returns:
        The area less 0.5.

    Raises:
        BadEvidence: fewer than 2 units a group, scores that are not finite.
        ExpungeError: alpha outside (0, 0.5), a margin that is not above 0.

    Source: DeLong et al. (1988); Newcombe (2006), method 5; Schuirmann (1987).
    """
    check_positive("margin", margin)
    check_fraction("alpha", alpha)
    # The interval of an equivalence test has the level 1 - 2 alpha.
    check_fraction("2 alpha", 2 * alpha)
    a, b = (
        finite_array("positives", positives, least=2),
        finite_array("negatives", negatives, least=2),
    )
    n, m = len(a), len(b)
    ranked = _ranked(a, b)
    area = float(ranked.auc()[0])
    above, below = ranked.placements()
    delong = float(
        above[ranked.positives > 0].var(ddof=1) / n + below[ranked.negatives > 0].var(ddof=1) / m
    )

    def z(truth: float) -> float:
        return (area - truth) / math.sqrt(max(delong, _newcombe(truth, n, m)))

    freedom = min(n, m) - 1
    limit = float(student.isf(alpha, freedom))
    # Beyond the ends of the scale nothing is possible; a margin of 0.5 or more is always kept.
    low = 0.0 if area == 0 else _cross(lambda at: z(at) - limit, 0.0, area)
    high = 1.0 if area == 1 else _cross(lambda at: z(at) + limit, area, 1.0)
    p = 2 * float(student.sf(abs(z(0.5)), freedom))
    p_above = 0.0 if margin > 0.5 else float(student.cdf(z(0.5 + margin), freedom))
    p_below = 0.0 if margin > 0.5 else float(student.sf(z(0.5 - margin), freedom))
    return Effect(
        name, "AUC", area - 0.5, low - 0.5, high - 0.5, p, max(p_above, p_below), margin, alpha,
        (n, m), detectable_auc(n, m, alpha), excludable_auc(n, m, alpha),
    )  # fmt: skip


def _ranked(ones: Floats, zeros: Floats) -> RankedScores:
    """Return positives and negatives, [unit] or [unit, column], ranked together."""
    scores = np.concatenate([ones, zeros]).reshape(len(ones) + len(zeros), -1)
    side = np.broadcast_to((np.arange(len(scores)) < len(ones))[:, None], scores.shape)
    return rank_scores(scores, side, ~side)


def _below(weight: Floats, ranks: Ints) -> Floats:
    """Return the summed weight of all trials below the given ranks."""
    total = np.cumsum(np.vstack([np.zeros(weight.shape[1]), weight]), axis=0)
    return np.take_along_axis(total, ranks, axis=0)


def _newcombe(area: float, n: int, m: int) -> float:
    """Return the variance of an area of this size; 1 / (12 n m) times (n + m + 1) at 0.5."""
    half, rest = (n + m) / 2 - 1, 1 - area
    shape = 1 + half * rest / (1 + rest) + half * area / (1 + area)
    return max(area * rest * shape / (n * m), 1e-300)


def _cross(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where a falling function is 0, or the end that it does not reach."""
    if function(low) <= 0:
        return low
    return high if function(high) >= 0 else float(brentq(function, low, high, xtol=1e-14))
