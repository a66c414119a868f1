"""Exact intervals of shares and rates, and bands around distribution functions."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv
from scipy.stats import binom, ks_2samp, norm

from expunge.errors import BadEvidence
from expunge.statistics.result import (
    Effect,
    Floats,
    Interval,
    check_fraction,
    check_positive,
    checked_counts,
    finite_array,
)


def lower_limit(hits: ArrayLike, trials: ArrayLike, alpha: float) -> Floats:
    """Return the exact one-sided lower limit of a share: above the truth with at most alpha.

    Args:
        hits, trials: counts, of any shape that broadcasts.
        alpha: the share of misses that is allowed.

    Raises:
        BadEvidence, ExpungeError: counts that cannot be, alpha outside (0, 1).

    Source: Clopper and Pearson (1934); the beta form as in SciPy.
    """
    check_fraction("alpha", alpha)
    k, n = checked_counts(hits, trials)
    # No hit leaves 0 possible; the beta distribution has no such parameter.
    found = betaincinv(np.maximum(k, 1), n - k + 1, alpha)
    return np.where(k == 0, 0.0, found)


def upper_limit(hits: ArrayLike, trials: ArrayLike, alpha: float) -> Floats:
    """Return the exact one-sided upper limit of a share: below the truth with at most alpha.

    Args, Raises, Source: as for `lower_limit`.
    """
    k, n = checked_counts(hits, trials)
    return 1.0 - lower_limit(n - k, n, alpha)


def clopper_pearson(hits: int, trials: int, alpha: float = 0.05) -> Interval:
    """Return a share with its exact interval, alpha / 2 at each end.

    Args:
        hits, trials: counts of independent trials.
        alpha: the share of misses that is allowed.

    Raises:
        BadEvidence, ExpungeError: as for `lower_limit`.

    Source: Clopper and Pearson (1934); SciPy's `binomtest` gives the same, for one count.
    """
    check_fraction("alpha", alpha)
    low, high = lower_limit(hits, trials, alpha / 2), upper_limit(hits, trials, alpha / 2)
    return Interval(hits / trials, float(low), float(high), alpha, int(trials))


def negatives_needed(fpr: float, alpha: float = 0.05) -> int:
    """Return how many negatives can show a false positive rate of at most this, at best.

    With none of n above a threshold the rate is at most fpr if (1 - fpr)^n <= alpha: 29 for 10 %,
    299 for 1 %, 2,995 for 0.1 %.

    Raises:
        ExpungeError: fpr or alpha outside (0, 1).
    """
    check_fraction("fpr", fpr)
    check_fraction("alpha", alpha)
    # log1p keeps the digits of a small rate; a whole number must not be rounded up once more.
    return math.ceil(round(math.log(alpha) / math.log1p(-fpr), 9))


def tpr_at(positives: ArrayLike, negatives: ArrayLike, fpr: float, alpha: float = 0.05) -> Interval:
    """Return the true positive rate at a false positive rate, with the threshold's own error.

    The ends rest on two thresholds: one whose false positive rate is at most `fpr`, and one whose
    rate is at least that, each but for alpha / 4; the counts of positives add alpha / 4 each.

    Args:
        positives, negatives: float [unit], scores of independent units; high says positive.
        fpr: the false positive rate.
        alpha: the share of misses that is allowed.

    Raises:
        BadEvidence: too few negatives to resolve this rate, or scores that are not finite.
        ExpungeError: fpr or alpha outside (0, 1).

    Source: order statistics as tolerance limits, Wilks (1941); Clopper and Pearson (1934).
    """
    ones, zeros = (
        finite_array("positives", positives),
        np.sort(finite_array("negatives", negatives))[::-1],
    )
    needed, n = negatives_needed(fpr, alpha), len(zeros)
    if n < needed:
        raise BadEvidence(
            f"Got {n} negatives; a false positive rate of {fpr:g} takes at least {needed}. "
            f"Report a rate of {1 - alpha ** (1 / n):.2g} or more, or add negatives."
        )
    allowed = math.floor(fpr * n + 1e-9)
    best = int((ones > zeros[allowed]).sum()) / len(ones)
    # Strictly above the k-th largest negative: a rate above fpr has probability P(Bin < k).
    strict = int((binom.cdf(np.arange(n + 1) - 1, n, fpr) <= alpha / 4).sum()) - 1
    low = lower_limit((ones > zeros[strict - 1]).sum(), len(ones), alpha / 4) if strict else 0.0
    # At or above the k-th largest: a rate below fpr has probability P(Bin >= k).
    loose = int(binom.isf(alpha / 4, n, fpr)) + 1
    high = upper_limit((ones >= zeros[loose - 1]).sum(), len(ones), alpha / 4) if loose <= n else 1
    return Interval(best, min(float(low), best), max(float(high), best), alpha, len(ones))


EXACT_UP_TO = 10_000


def half_width(n: int, alpha: float) -> float:
    """Return how far an empirical distribution function strays from the true one, both sides.

    Args:
        n: values in the sample.
        alpha: the share of samples that may stray further.

    Raises:
        ExpungeError: n below 1, or alpha outside (0, 1).

    Source: Dvoretzky, Kiefer and Wolfowitz (1956); constant 2 from Massart (1990).
    """
    check_positive("n", n)
    check_fraction("alpha", alpha)
    return math.sqrt(math.log(2 / alpha) / (2 * n))


@dataclass(frozen=True, eq=False)
class Band:
    """An empirical distribution function between two steps that hold the true one throughout.

    Args:
        at: float64 [value], rising.
        low, value, high: float64 [value], P(X <= at).
        alpha: the share of bands that the truth may leave.
    """

    at: Floats
    low: Floats
    value: Floats
    high: Floats
    alpha: float


def dkw_band(sample: ArrayLike, alpha: float = 0.05) -> Band:
    """Return the distribution function of a sample with a band that holds all of the true one.

    Args:
        sample: float [unit], independent.
        alpha: the share of bands that the truth may leave.

    Raises, Source: as for `half_width`; BadEvidence for an empty sample or NaN.
    """
    rising = np.sort(finite_array("values", sample))
    share = np.searchsorted(rising, rising, "right") / len(rising)
    half = half_width(len(rising), alpha)
    low, high = np.maximum(share - half, 0.0), np.minimum(share + half, 1.0)
    return Band(rising, low, share, high, alpha)


def compare_distributions(
    first: ArrayLike, second: ArrayLike, *, margin: float, alpha: float = 0.05, name: str = "KS"
) -> Effect:
    """Compare two samples by D, the largest gap between their distribution functions.

    The p-value of no difference is that of Kolmogorov and Smirnov (exact up to 10,000 values a
    side; with ties it is too large, never too small). The interval and the equivalence test rest
    on a band around each sample, so they hold at any n and for any two distributions.

    Args:
        first, second: float [unit], independent units.
        margin: the smallest D that matters.
        alpha: level of each test.
        name: of the measure.

    Raises:
        BadEvidence: an empty sample, or values that are not finite.
        ExpungeError: alpha outside (0, 1), a margin that is not above 0.

    Source: Smirnov (1939), as in SciPy; Massart (1990) for the bands.
    """
    check_fraction("alpha", alpha)
    check_positive("margin", margin)
    a, b = finite_array("first", first), finite_array("second", second)
    gap, p = _ks(a, b)
    half = half_width(len(a), alpha / 2) + half_width(len(b), alpha / 2)
    scale = 1 / math.sqrt(len(a)) + 1 / math.sqrt(len(b))
    # The level at which the interval's end just meets the margin: `half` solved for alpha.
    room = max(margin - gap, 0.0) / scale
    excluding = min(4 * math.exp(-2 * room**2), 1.0)
    # The D that 80 % of pairs of samples from one distribution stay below, for large n.
    typical = math.sqrt(math.log(2 / 0.2) / 2) * math.sqrt(1 / len(a) + 1 / len(b))
    return Effect(
        name, "D", gap, max(gap - half, 0.0), min(gap + half, 1.0), p, excluding,
        margin, alpha, (len(a), len(b)), _detectable(len(a), len(b), alpha),
        half + typical,
    )  # fmt: skip


def _ks(a: Floats, b: Floats) -> tuple[float, float]:
    """D and its p-value."""
    method = "exact" if max(len(a), len(b)) <= EXACT_UP_TO else "asymp"
    with warnings.catch_warnings():
        # SciPy leaves the exact sum where rounding lifts it above 1: the limit says 1 there too.
        warnings.simplefilter("ignore", RuntimeWarning)
        found = ks_2samp(a, b, method=method)
    return float(found.statistic), float(found.pvalue)


def _detectable(n: int, m: int, alpha: float) -> float:
    """A gap at one point that D shows in at least 80 %: its standard error is 0.5 at most."""
    spread = math.sqrt(1 / n + 1 / m)
    limit = math.sqrt(math.log(2 / alpha) / 2) * spread
    return min(limit + float(norm.ppf(0.8)) * 0.5 * spread, 1.0)
