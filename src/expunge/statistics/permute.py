"""Permutation tests over models: exact where few, by chance where many."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from expunge.errors import BadEvidence, ExpungeError
from expunge.statistics.checks import Floats, inside, values
from expunge.statistics.power import POWER, detectable_mean

Side = Literal["both", "greater", "less"]


EXACT_UP_TO = 20_000


DRAWS = 9_999


CHUNK = 10_000


ROUNDING = 1e-12


@dataclass(frozen=True)
class Permuted:
    """A permutation test.

    Args:
        value: the difference that was seen.
        p: share of relabellings at least as extreme, the one seen among them.
        smallest_p: what the most extreme difference would have given.
        relabellings: how many were looked at.
        exact: whether these were all that there are.
        detectable: about the smallest difference found in 80 % of experiments; infinite where no
            difference, however large, could be.
    """

    value: float
    p: float
    smallest_p: float
    relabellings: int
    exact: bool
    detectable: float


def smallest_p(first: int, second: int, *, side: Side = "both") -> float:
    """Return the smallest p-value that groups of these sizes can give.

    Two-sided: 3 against 3 gives 0.10, 4 against 4 gives 0.029. One-sided: 1 against 19 gives 0.05.

    Args:
        first, second: units in each group.
        side: "both", "greater" or "less".

    Raises:
        BadEvidence: an empty group.
    """
    _known(side)
    if min(first, second) < 1:
        raise BadEvidence(f"Got groups of {first} and {second}; expected 1 unit at least.")
    return min((2 if side == "both" else 1) / math.comb(first + second, first), 1.0)


def permute_groups(
    first: ArrayLike, second: ArrayLike, rng: np.random.Generator, *, side: Side = "both",
    draws: int = DRAWS, alpha: float = 0.05,
) -> Permuted:  # fmt: skip
    """Test that two groups of models are one, by the difference of their means.

    All relabellings are tried up to 20,000 of them. Beyond, random ones are, and the one that was
    seen is counted with them: p = (1 + as extreme) / (1 + draws), which is never 0 and never
    too small. Two-sided p-values are twice the smaller of both sides.

    Args:
        first, second: float [unit]; exchangeable under the null hypothesis. Models that share an
            original are not: average them first.
        rng: draws relabellings, where there are many.
        side: "both"; "greater" where only a larger first group counts; or "less".
        draws: how many.
        alpha: the level that `detectable` is for.

    Raises:
        BadEvidence: an empty group, values that are not finite, no draws.

    Source: Fisher (1935); Phipson and Smyth (2010) for the added 1.
    """
    _known(side)
    a, b = values("first", first), values("second", second)
    pooled = np.concatenate([a, b])
    n, ways = len(a), math.comb(len(pooled), len(a))
    exact = ways <= EXACT_UP_TO
    sums = _all_sums(pooled, n) if exact else _drawn_sums(pooled, n, rng, _some(draws))
    scale = 1 / n + 1 / len(b)
    # The difference of means rises with the sum of the first group, so the sums are enough.
    p = _share(sums, float(a.sum()), float(np.abs(pooled).sum()), exact, side)
    least = max(smallest_p(n, len(b), side=side), _least_drawn(exact, len(sums), side))
    value = float(a.mean() - b.mean())
    spread = math.sqrt((a.var() * n + b.var() * len(b)) / max(len(pooled) - 2, 1) * scale)
    return Permuted(value, p, least, len(sums), exact,
                    _detectable(least, spread, len(pooled) - 2, side, alpha))  # fmt: skip


def permute_pairs(
    first: ArrayLike, second: ArrayLike, rng: np.random.Generator, *, side: Side = "both",
    draws: int = DRAWS, alpha: float = 0.05,
) -> Permuted:  # fmt: skip
    """Test that the members of pairs are exchangeable, by the mean of their differences.

    Args:
        first, second: float [pair], such as unlearned and retrained from one original.
        rng, side, draws, alpha: as for `permute_groups`.

    Raises, Source: as for `permute_groups`; BadEvidence for groups of unequal size.
    """
    a, b = values("first", first), values("second", second)
    if len(a) != len(b):
        raise BadEvidence(f"Got {len(a)} and {len(b)} values; expected one pair for each.")
    _known(side)
    apart, n = a - b, len(a)
    exact = 2**n <= EXACT_UP_TO
    if exact:
        signs = 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        sums = signs @ apart
    else:
        sums = _flipped_sums(apart, rng, _some(draws))
    p = _share(sums, float(apart.sum()), float(np.abs(apart).sum()), exact, side)
    least = max(min((2 if side == "both" else 1) / 2**n, 1.0), _least_drawn(exact, len(sums), side))
    spread = float(apart.std(ddof=1)) / math.sqrt(n) if n > 1 else 0.0
    return Permuted(float(apart.mean()), p, least, len(sums), exact,
                    _detectable(least, spread, n - 1, side, alpha))  # fmt: skip


def _some(draws: int) -> int:
    """Refuse a test without draws."""
    if draws < 1:
        raise BadEvidence(f"Got {draws} draws; expected at least 1.")
    return draws


def _all_sums(pooled: Floats, n: int) -> Floats:
    """The sum of every possible first group."""
    chosen = np.array(list(combinations(range(len(pooled)), n)), dtype=np.int64)
    found: Floats = pooled[chosen].sum(axis=1)
    return found


def _drawn_sums(pooled: Floats, n: int, rng: np.random.Generator, draws: int) -> Floats:
    """The sums of random first groups."""
    rows = max(1, CHUNK * 100 // len(pooled))
    parts = [
        rng.permuted(np.tile(pooled, (min(rows, draws - at), 1)), axis=1)[:, :n].sum(axis=1)
        for at in range(0, draws, rows)
    ]
    return np.concatenate(parts)


def _flipped_sums(apart: Floats, rng: np.random.Generator, draws: int) -> Floats:
    """The sums of differences with random signs."""
    rows = max(1, CHUNK * 100 // len(apart))
    parts = [
        rng.choice(np.array([-1.0, 1.0]), (min(rows, draws - at), len(apart))) @ apart
        for at in range(0, draws, rows)
    ]
    return np.concatenate(parts)


def _share(sums: Floats, seen: float, scale: float, exact: bool, side: Side) -> float:
    """The p-value: the share of sums as extreme as the one that was seen."""
    # Equal sums that were added in another order differ by rounding, and must count as equal.
    slack, extra = ROUNDING * scale, 0 if exact else 1
    greater = (int((sums >= seen - slack).sum()) + extra) / (len(sums) + extra)
    less = (int((sums <= seen + slack).sum()) + extra) / (len(sums) + extra)
    both = min(2 * min(greater, less), 1.0)
    return {"both": both, "greater": greater, "less": less}[side]


def _known(side: Side) -> None:
    """Refuse a side that is none."""
    if side not in ("both", "greater", "less"):
        raise ExpungeError(f"Got side={side!r}; expected 'both', 'greater' or 'less'.")


def _least_drawn(exact: bool, draws: int, side: Side) -> float:
    """The smallest p-value that random draws can give."""
    return 0.0 if exact else (2 if side == "both" else 1) / (draws + 1)


def _detectable(least: float, spread: float, freedom: int, side: Side, alpha: float) -> float:
    """About what a t test finds, which permutation tests come near; nothing if p cannot fall."""
    inside("alpha", alpha)
    if least > alpha or spread == 0 or freedom < 1:
        return math.inf
    return detectable_mean(spread, freedom, alpha if side == "both" else 2 * alpha, POWER)
