"""Two groups compared: a test of no difference, and an equivalence test with a stated margin."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.stats import fisher_exact
from scipy.stats import t as student

from expunge.errors import BadEvidence
from expunge.statistics.checks import Floats, counted, inside, positive, values
from expunge.statistics.counts import lower_limit, upper_limit
from expunge.statistics.power import (
    detectable_auc,
    detectable_mean,
    detectable_rate,
    excludable_auc,
    excludable_mean,
    excludable_rate,
)
from expunge.statistics.result import Effect

LEAST_LEVEL = 1e-12


def compare_means(
    first: ArrayLike, second: ArrayLike, *, margin: float, alpha: float = 0.05, name: str = "mean"
) -> Effect:
    """Compare the means of two groups of independent units, whose spreads may differ.

    Args:
        first, second: float [unit], one value a model (or an original, where models share one).
        margin: the smallest difference of means that matters, in the unit of the values.
        alpha: level of each test.
        name: of the measure.

    Returns:
        The mean of the first less that of the second; Welch's t test, and two one-sided ones.

    Raises:
        BadEvidence: fewer than 2 units a group, no variation at all, values that are not finite.
        ExpungeError: alpha outside (0, 1), a margin that is not above 0.

    Source: Welch (1947); Schuirmann (1987).
    """
    a, b = values("first", first, least=2), values("second", second, least=2)
    parts = np.array([a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)])
    error = _spread(math.sqrt(parts.sum()), float(np.abs(np.concatenate([a, b])).max()))
    freedom = parts.sum() ** 2 / (parts**2 / [len(a) - 1, len(b) - 1]).sum()
    gap = float(a.mean() - b.mean())
    return _by_t(name, gap, error, float(freedom), margin, alpha, (len(a), len(b)))


def compare_pairs(
    first: ArrayLike, second: ArrayLike, *, margin: float, alpha: float = 0.05, name: str = "pairs"
) -> Effect:
    """Compare pairs, such as unlearned and retrained models of one original, by their differences.

    Args:
        first, second: float [pair].
        margin, alpha, name: as for `compare_means`.

    Raises, Source: as for `compare_means`; BadEvidence for groups of unequal size.
    """
    a, b = values("first", first, least=2), values("second", second, least=2)
    if len(a) != len(b):
        raise BadEvidence(f"Got {len(a)} and {len(b)} values; expected one pair for each.")
    apart = a - b
    error = float(apart.std(ddof=1)) / math.sqrt(len(a))
    error = _spread(error, float(np.abs(np.concatenate([a, b])).max()))
    return _by_t(name, float(apart.mean()), error, len(a) - 1.0, margin, alpha, (len(a),))


def compare_auc(
    positives: ArrayLike, negatives: ArrayLike, *, margin: float, alpha: float = 0.05,
    name: str = "AUC",
) -> Effect:  # fmt: skip
    """Compare the area under the ROC curve with 0.5.

    At each value that the area might have, its error is the larger of DeLong's and of Newcombe's
    for that value: DeLong's is 0 where the groups are apart or all tied, Newcombe's is too small
    where one group is far narrower than the other. Interval and p-values turn on the same error,
    and on Student's t of the smaller group, since a normal limit finds too much in ten units.

    Args:
        positives, negatives: float [unit], scores of independent units; ties count half.
        margin: the smallest distance from 0.5 that matters.
        alpha: level of each test.
        name: of the attack.

    Returns:
        The area less 0.5.

    Raises:
        BadEvidence: fewer than 2 units a group, scores that are not finite.
        ExpungeError: alpha outside (0, 1), a margin that is not above 0.

    Source: DeLong et al. (1988); Newcombe (2006), method 5; Schuirmann (1987).
    """
    _levels(margin, alpha)
    a, b = values("positives", positives, least=2), values("negatives", negatives, least=2)
    area, delong = _delong(a, b)
    n, m = len(a), len(b)

    def z(truth: float) -> float:
        return (area - truth) / math.sqrt(max(delong, _newcombe(truth, n, m)))

    freedom = min(n, m) - 1
    limit = float(student.isf(alpha, freedom))
    # Beyond the ends of the scale nothing is possible; a margin of 0.5 or more is always kept.
    low = 0.0 if area == 0 else _cross(lambda at: z(at) - limit, 0.0, area)
    high = 1.0 if area == 1 else _cross(lambda at: z(at) + limit, area, 1.0)
    p = 2 * float(student.sf(abs(z(0.5)), freedom))
    above = 0.0 if margin > 0.5 else float(student.cdf(z(0.5 + margin), freedom))
    below = 0.0 if margin > 0.5 else float(student.sf(z(0.5 - margin), freedom))
    return Effect(
        name, "AUC", area - 0.5, low - 0.5, high - 0.5, p, max(above, below), margin, alpha, (n, m),
        detectable_auc(n, m, alpha), excludable_auc(n, m, alpha),
    )  # fmt: skip


def compare_rates(
    hits: tuple[int, int], trials: tuple[int, int], *, margin: float, alpha: float = 0.05,
    name: str = "rate",
) -> Effect:  # fmt: skip
    """Compare two shares, such as how many models of each group answer rightly.

    Args:
        hits, trials: counts of independent trials in the first and second group.
        margin: the smallest difference of shares that matters.
        alpha: level of each test.
        name: of the measure.

    Returns:
        The first share less the second; Fisher's exact test, and an interval made of the exact
        limits of both shares at alpha / 2 each. It is wide, and misses no more often than it
        says: shorter ones, of the MOVER family, missed in 7 % where 5 % were allowed.

    Raises:
        BadEvidence: counts that cannot be.
        ExpungeError: alpha outside (0, 1), a margin that is not above 0.

    Source: Fisher (1935); Clopper and Pearson (1934), Bonferroni over the two shares.
    """
    _levels(margin, alpha)
    k, n = counted(hits, trials)
    gap, pooled = float(k[0] / n[0] - k[1] / n[1]), float(k.sum() / n.sum())
    low, high = _apart(hits, trials, alpha)
    p = float(fisher_exact([k.astype(int), (n - k).astype(int)])[1])
    p_equivalent = _level_that_meets(margin, gap, hits, trials)
    return Effect(
        name, "share", gap, low, high, p, p_equivalent, margin, alpha, (int(n[0]), int(n[1])),
        detectable_rate(pooled, *trials, alpha), excludable_rate(pooled, *trials, alpha),
    )  # fmt: skip


def _by_t(
    name: str, gap: float, error: float, freedom: float, margin: float, alpha: float,
    n: tuple[int, ...],
) -> Effect:  # fmt: skip
    """A difference with a standard error, judged by Student's t."""
    _levels(margin, alpha)
    p = 2 * float(student.sf(abs(gap) / error, freedom))
    below = float(student.sf((gap + margin) / error, freedom))
    above = float(student.cdf((gap - margin) / error, freedom))
    half = float(student.isf(alpha, freedom)) * error
    return Effect(
        name, "mean", gap, gap - half, gap + half, p, max(below, above), margin, alpha, n,
        detectable_mean(error, freedom, alpha), excludable_mean(error, freedom, alpha),
    )  # fmt: skip


def _spread(error: float, largest: float) -> float:
    """Refuse a spread of nothing but rounding: copies of one model prove nothing of others."""
    if error <= 1e-12 * largest or error == 0:
        raise BadEvidence(
            "All values of both groups are the same, so that their spread is not known; "
            "expected units that differ. Compare shares with `compare_rates`."
        )
    return error


def _levels(margin: float, alpha: float) -> None:
    """Refuse a margin or level that makes no sense."""
    positive("margin", margin)
    inside("alpha", alpha)
    # The interval that an equivalence test stands for has the level 1 - 2 alpha.
    inside("2 alpha", 2 * alpha)


def _delong(a: Floats, b: Floats) -> tuple[float, float]:
    """The area, ties counting half, and DeLong's variance of it."""
    one, other = np.sort(a), np.sort(b)
    above = np.searchsorted(other, a, "left") + np.searchsorted(other, a, "right")
    below = np.searchsorted(one, b, "left") + np.searchsorted(one, b, "right")
    first, second = above / (2 * len(b)), 1 - below / (2 * len(a))
    return float(first.mean()), float(first.var(ddof=1) / len(a) + second.var(ddof=1) / len(b))


def _newcombe(area: float, n: int, m: int) -> float:
    """The variance of an area of this size; 1 / (12 n m) times (n + m + 1) at 0.5."""
    half, rest = (n + m) / 2 - 1, 1 - area
    shape = 1 + half * rest / (1 + rest) + half * area / (1 + area)
    return max(area * rest * shape / (n * m), 1e-300)


def _cross(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function is 0, or the end that it does not reach."""
    if function(low) <= 0:
        return low
    return high if function(high) >= 0 else float(brentq(function, low, high, xtol=1e-14))


def _apart(hits: tuple[int, int], trials: tuple[int, int], alpha: float) -> tuple[float, float]:
    """The interval of level 1 - 2 alpha of a difference, from exact limits at alpha / 2 each."""
    low, high = lower_limit(hits, trials, alpha / 2), upper_limit(hits, trials, alpha / 2)
    return float(low[0] - high[1]), float(high[0] - low[1])


def _level_that_meets(
    margin: float, gap: float, hits: tuple[int, int], trials: tuple[int, int]
) -> float:
    """The alpha at which the interval just fits the margin: the p-value of equivalence."""
    if abs(gap) >= margin:
        return 0.5

    def outside(log_level: float) -> float:
        low, high = _apart(hits, trials, math.exp(log_level))
        return max(-low, high) - margin

    lowest, highest = math.log(LEAST_LEVEL), math.log(0.5 - 1e-9)
    return math.exp(_cross(outside, lowest, highest))
