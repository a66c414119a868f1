"""Bands around distribution functions, and how far apart two of them are."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import ks_2samp, norm

from expunge.statistics.checks import Floats, check_fraction, check_positive, finite_array
from expunge.statistics.result import Effect

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
