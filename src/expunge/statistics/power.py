"""What a sample can show: the smallest effect found, or excluded, in 80 % of experiments."""

from __future__ import annotations

import math

from scipy.optimize import brentq
from scipy.stats import nct, norm
from scipy.stats import t as student

from expunge.statistics.result import check_fraction, check_positive

POWER = 0.8


def detectable_mean(error: float, freedom: float, alpha: float, power: float = POWER) -> float:
    """Return the smallest difference of means that a two-sided t test finds.

    Args:
        error: standard error of the difference, in its unit.
        freedom: degrees of freedom.
        alpha: level of the test.
        power: share of experiments that must find it.

    Raises:
        ExpungeError: an error or freedom that is not above 0, alpha or power outside (0, 1).

    Source: the noncentral t distribution, as in SciPy; Cohen (1988), chapter 2.
    """
    _check(alpha, power, error=error, freedom=freedom)
    limit = float(student.isf(alpha / 2, freedom))
    # The survival function of SciPy's noncentral t fails far out, so the other tail is mirrored.
    found = lambda away: float(nct.cdf(-limit, freedom, -away)) - power  # noqa: E731
    most = limit + 1.0
    while found(most) < 0:
        most *= 2
    return error * float(brentq(found, 0.0, most))


def excludable_mean(error: float, freedom: float, alpha: float, power: float = POWER) -> float:
    """Return the smallest margin that two one-sided t tests exclude where the means are equal.

    The error is taken as known; simulated power is 0.76 at 4 degrees of freedom, 0.79 from 8 on.

    Args, Raises: as for `detectable_mean`.

    Source: Schuirmann (1987); Phillips (1990).
    """
    _check(alpha, power, error=error, freedom=freedom)
    return error * float(student.isf(alpha, freedom) + student.isf((1 - power) / 2, freedom))


def auc_error(n: int, m: int) -> float:
    """Return the standard error of an AUC whose two groups are alike, without ties.

    Source: Mann and Whitney (1947).
    """
    check_positive("n", n)
    check_positive("m", m)
    return math.sqrt((n + m + 1) / (12 * n * m))


def detectable_auc(n: int, m: int, alpha: float = 0.05, power: float = POWER) -> float:
    """Return the smallest distance of an AUC from 0.5 that a two-sided test finds, at most 0.5.

    Args:
        n, m: units in each group.
        alpha, power: as for `detectable_mean`.

    Raises:
        ExpungeError: no units, alpha or power outside (0, 1).

    Source: normal limit of Mann and Whitney (1947).
    """
    _check(alpha, power)
    limit = float(student.isf(alpha / 2, max(min(n, m) - 1, 1)))
    return min(auc_error(n, m) * (limit + float(norm.ppf(power))), 0.5)


def excludable_auc(n: int, m: int, alpha: float = 0.05, power: float = POWER) -> float:
    """Return the smallest margin around 0.5 that two one-sided tests exclude where there is none.

    Args, Raises, Source: as for `detectable_auc`.
    """
    _check(alpha, power)
    limit = float(student.isf(alpha, max(min(n, m) - 1, 1)))
    return auc_error(n, m) * (limit + float(norm.isf((1 - power) / 2)))


def units_to_exclude_auc(margin: float, alpha: float = 0.05, power: float = POWER) -> int:
    """Return how many units a group exclude this distance of the AUC from 0.5, if there is none.

    In the normal limit: a margin of 0.05 takes 722 a group at a power of 90 %, 572 at 80 %.

    Raises, Source: as for `detectable_auc`.
    """
    _check(alpha, power, margin=margin)
    quantiles = float(norm.isf(alpha) + norm.isf((1 - power) / 2))
    # (2 n + 1) / (12 n^2) = (margin / quantiles)^2, solved for n.
    wanted = 12 * (margin / quantiles) ** 2
    return math.ceil((1 + math.sqrt(1 + wanted)) / wanted)


def larger_family(alpha: float, tests: int, power: float = POWER) -> float:
    """Return by how much the smallest detectable effect grows where Holm corrects for many tests.

    The first step of Holm is at alpha / tests; normal tests, so a good guess for others.

    Raises:
        ExpungeError: no tests, alpha or power outside (0, 1).
    """
    _check(alpha, power, tests=tests)
    shift = float(norm.ppf(power))
    return float((norm.isf(alpha / tests / 2) + shift) / (norm.isf(alpha / 2) + shift))


def _check(alpha: float, power: float, **above: float) -> None:
    """Refuse levels outside (0, 1), and numbers that are not above 0."""
    check_fraction("alpha", alpha)
    check_fraction("power", power)
    for name, number in above.items():
        check_positive(name, number)
