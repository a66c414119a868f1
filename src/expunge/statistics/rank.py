"""Whether a signal without an oracle ranks methods as the oracle does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, rankdata
from scipy.stats import t as student

from expunge.errors import BadEvidence
from expunge.statistics.result import Floats, Interval, check_fraction, finite_array

FEWEST_METHODS = 6

EXACT_UP_TO = 7

DRAWS = 9_999


@dataclass(frozen=True)
class RankAgreement:
    """Rank correlations of two measures over methods.

    Args:
        spearman, kendall: with their intervals; Kendall's is tau-b.
        spearman_p, kendall_p: two-sided, by permutation; None below 6 methods.
        smallest_p: what two perfect rankings of as many methods without ties would give.
        detectable: the smallest Spearman correlation found in 80 % of studies, about; infinite
            where no significance is claimed at all.
        reason: what may be said.
    """

    spearman: Interval
    kendall: Interval
    spearman_p: float | None
    kendall_p: float | None
    smallest_p: float
    detectable: float
    reason: str


def smallest_rank_p(methods: int) -> float:
    """Return the smallest two-sided p-value that a ranking of this many methods can give.

    4 methods: 0.083. 6 methods: 0.0028.

    Raises:
        BadEvidence: fewer than 2 methods.
    """
    if methods < 2:
        raise BadEvidence(f"Got {methods} methods; expected at least 2.")
    return min(2 / math.factorial(methods), 1.0)


def rank_agreement(
    signal: ArrayLike, oracle: ArrayLike, rng: np.random.Generator, *, alpha: float = 0.05
) -> RankAgreement:
    """Correlate a signal with an oracle's metric over methods, by rank.

    Args:
        signal: float [method], a number that needs no retrained model.
        oracle: float [method], the same methods judged against retrained models.
        rng: draws permutations, above 7 methods.
        alpha: the share of misses of each interval.

    Raises:
        BadEvidence: fewer than 4 methods, groups of unequal size, a measure that is the same for
            all methods, values that are not finite.
        ExpungeError: alpha outside (0, 1).

    Source: Spearman (1904); Kendall (1945), tau-b; Bonett and Wright (2000), and
    Fieller, Hartley and Pearson (1957), for the intervals.
    """
    check_fraction("alpha", alpha)
    first, second = finite_array("signal", signal, least=4), finite_array("oracle", oracle, least=4)
    n = len(first)
    if len(second) != n:
        raise BadEvidence(f"Got {n} and {len(second)} methods; expected the same ones in both.")
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        raise BadEvidence("A measure is the same for all methods; it ranks none of them.")
    rho, tau = _spearman(first[None], second)[0], _kendall(first[None], second)[0]
    ends = _fisher(rho, math.sqrt((1 + rho**2 / 2) / (n - 3)), alpha, n)
    tau_ends = _fisher(tau, math.sqrt(0.437 / (n - 4)) if n > 4 else math.inf, alpha, n)
    least = smallest_rank_p(n)
    if n < FEWEST_METHODS:
        reason = (
            f"{n} methods claim no significance: it takes {FEWEST_METHODS} "
            f"(a perfect ranking of {n} gives p = {least:.2g})."
        )
        return RankAgreement(ends, tau_ends, None, None, least, math.inf, reason)
    exact = n <= EXACT_UP_TO
    relabelled = first[_orders(n)] if exact else rng.permuted(np.tile(first, (DRAWS, 1)), axis=1)
    p = _p(_spearman(relabelled, second), rho, exact), _p(_kendall(relabelled, second), tau, exact)
    reason = f"Spearman {rho:.2f} (p {p[0]:.2g}), Kendall {tau:.2f} (p {p[1]:.2g}), {n} methods."
    return RankAgreement(ends, tau_ends, *p, least, detectable_rank(n, alpha), reason)


def detectable_rank(methods: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return about the smallest Spearman correlation that is found in 80 % of studies.

    Args:
        methods: how many are ranked, 4 at least.
        alpha, power: as for `detectable_mean`.

    Raises:
        BadEvidence, ExpungeError: fewer than 4 methods, alpha or power outside (0, 1).

    Source: Fisher's z with the variance of Bonett and Wright (2000).
    """
    check_fraction("alpha", alpha)
    check_fraction("power", power)
    if methods < 4:
        raise BadEvidence(f"Got {methods} methods; expected at least 4.")
    limit = float(norm.isf(alpha / 2)) / math.sqrt(methods - 3)
    z = limit
    # The spread hangs on the correlation that is looked for; a few rounds settle it.
    for _ in range(50):
        z = limit + float(norm.ppf(power)) * math.sqrt((1 + math.tanh(z) ** 2 / 2) / (methods - 3))
    return math.tanh(z)


@lru_cache(maxsize=4)
def _orders(methods: int) -> NDArray[np.int64]:
    """Every order of so many methods."""
    found = np.array(list(permutations(range(methods))), dtype=np.int64)
    found.flags.writeable = False
    return found


def _p(drawn: Floats, seen: float, exact: bool) -> float:
    """The two-sided p-value; rounding must not tell equal correlations apart."""
    extra = 0 if exact else 1
    return float(((np.abs(drawn) >= abs(seen) - 1e-12).sum() + extra) / (len(drawn) + extra))


def _spearman(orders: Floats, second: Floats) -> Floats:
    """Spearman's rho of each row with the same values."""
    a, b = rankdata(orders, axis=1), rankdata(second)
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean()
    found: Floats = (a @ b) / np.sqrt((a**2).sum(axis=1) * (b @ b))
    return found


def _kendall(orders: Floats, second: Floats) -> Floats:
    """Kendall's tau-b of each row with the same values."""
    i, j = np.triu_indices(len(second), 1)
    a, b = np.sign(orders[:, i] - orders[:, j]), np.sign(second[i] - second[j])
    found: Floats = (a @ b) / np.sqrt((a**2).sum(axis=1) * (b @ b))
    return found


def _fisher(value: float, error: float, alpha: float, n: int) -> Interval:
    """An interval on Fisher's scale, where a correlation of 1 has no finite place."""
    inner = min(max(float(value), -1 + 1e-9), 1 - 1e-9)
    # Student's t: with a normal limit tau's interval of 6 methods held the truth in 92 %.
    half = float(student.isf(alpha / 2, n - 2)) * error
    low, high = math.tanh(math.atanh(inner) - half), math.tanh(math.atanh(inner) + half)
    return Interval(float(value), min(low, float(value)), max(high, float(value)), alpha, n)
