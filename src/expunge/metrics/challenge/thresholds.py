"""The attacks behind epsilon: cuts through two samples of one scalar, counted by rank.

An attack cuts the pooled values of unlearned and retrained models in two. Its error rates are
counts, so the largest epsilon is the largest entry of one small table over the counts that some
attack can reach. A count of `a` unlearned and `b` retrained models is carried as the single integer
a * (n_retrained + 1) + b: the difference of two such codes is the code of what lies between two
cuts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

Ints = NDArray[np.int64]

CAP = 50.0

DISCARDED = -1.0

PER_UNIT = 100

BUFFER = 2.0

LEFT_EDGES = 400

COLLAPSED = 0.01

CHECKED_AT_ONCE = 256


@dataclass(frozen=True)
class Sample:
    """One example: distinct pooled values, and the code of what lies below each of them.

    Args:
        values: float64 [distinct], rising.
        codes: int64 [distinct + 1]; the last one counts every model.
        unlearned, retrained: float64 [model], sorted.
    """

    values: Floats
    codes: Ints
    unlearned: Floats
    retrained: Floats


def samples(unlearned: Floats, retrained: Floats) -> Iterator[Sample]:
    """Yield each example of two arrays [model, example], sorted and counted."""
    first, second = np.sort(unlearned, axis=0).T, np.sort(retrained, axis=0).T
    for mine, theirs in zip(first, second, strict=True):
        pooled = np.concatenate([mine, theirs])
        order = np.argsort(pooled, kind="stable")
        weight = np.where(order < len(mine), len(theirs) + 1, 1)
        codes = np.concatenate([[0], np.cumsum(weight)])
        pooled = pooled[order]
        keep = np.concatenate([[True], pooled[1:] > pooled[:-1]])
        yield Sample(pooled[keep], codes[np.append(keep, True)], mine, theirs)


@lru_cache(maxsize=32)
def tables(n_unlearned: int, n_retrained: int, delta: float) -> tuple[Floats, Floats]:
    """Return epsilon by code, once with unlearned as the positive class, once with retrained.

    An entry is DISCARDED where exactly one error rate is zero, infinite where both are, and never
    negative otherwise.

    Source: Triantafillou et al. (2406.09073); google-deepmind/unlearning_evaluation, metric.py.
    """
    mine = np.arange(n_unlearned + 1)[:, None] / n_unlearned
    theirs = np.arange(n_retrained + 1)[None, :] / n_retrained
    mine_missed = np.arange(n_unlearned, -1, -1)[:, None] / n_unlearned
    theirs_missed = np.arange(n_retrained, -1, -1)[None, :] / n_retrained
    both = _epsilon(mine_missed, theirs, delta), _epsilon(theirs_missed, mine, delta)
    for flat in both:
        flat.flags.writeable = False
    return both


def _epsilon(fnr: Floats, fpr: Floats, delta: float) -> Floats:
    """Apply the edge rules of the challenge to every pair of error rates; flat, by code."""
    with np.errstate(divide="ignore", invalid="ignore"):
        one = np.log(1 - delta - fpr) - np.log(fnr)
        other = np.log(1 - delta - fnr) - np.log(fpr)
        # fmax passes over the logarithm of a negative number, as the released nanmax does.
        found = np.maximum(np.fmax(one, other), 0.0)
    found = np.where(np.isnan(found), DISCARDED, found)
    found = np.where((fnr == 0) != (fpr == 0), DISCARDED, found)
    return np.where((fnr == 0) & (fpr == 0), np.inf, found).ravel()


def released(sample: Sample, delta: float) -> float:
    """Return epsilon with the released grid of thresholds and intervals, before the cap."""
    mine, theirs = sample.unlearned, sample.retrained
    spans = mine[-1] - mine[0], theirs[-1] - theirs[0]
    if max(spans) == 0:
        return 0.0 if mine[0] == theirs[0] else np.inf
    if min(spans) / max(spans) < COLLAPSED:
        return CAP
    by_code = tables(len(mine), len(theirs), delta)
    upper = int(_median(theirs) > _median(mine))
    # Of two equal ranges, the one with the smaller median counts as the peakier.
    peaky = 1 - upper if spans[upper] >= spans[1 - upper] else upper
    best = thresholds(sample, by_code[upper])
    inner, outer = (theirs, mine) if peaky else (mine, theirs)
    best = intervals(sample, inner[0], inner[-1], by_code[peaky], best)
    if best == DISCARDED:
        inside = np.searchsorted(outer, inner[-1], "right") - np.searchsorted(outer, inner[0])
        return np.inf if inside == 0 else 0.0
    return best


def _median(rising: Floats) -> float:
    """Median of sorted values, rounded as NumPy rounds it."""
    return float(rising[(len(rising) - 1) // 2] + rising[len(rising) // 2]) / 2


def thresholds(sample: Sample, by_code: Floats) -> float:
    """Return the largest epsilon of one threshold on a grid of 100 a unit, or DISCARDED."""
    values, codes = sample.values, sample.codes
    span = values[-1] - values[0]
    count = int(np.ceil(span * PER_UNIT))
    if count < 2:
        return DISCARDED
    low, high = values[:-1], values[1:]
    hit = _grid_hits(low, high, values[0], values[-1], count)
    return float(np.where(hit, by_code[codes[-1] - codes[1:-1]], DISCARDED).max())


def intervals(sample: Sample, low: float, high: float, by_code: Floats, best: float) -> float:
    """Return the larger of `best` and the largest epsilon of an interval on the released grid.

    Every pair of cuts within reach is looked up first, then the largest finds are checked against
    the very edges of the grid, float by float, until one is hit: seldom more than a few checks.
    """
    width = high - low
    first_edge, last_edge = low + width - BUFFER, high + BUFFER
    count = int(np.ceil((last_edge - first_edge) * PER_UNIT))
    right = np.linspace(first_edge, last_edge, count)
    grid = _Edges(sample, right, right - width - BUFFER, right - width + BUFFER)
    found = grid.look_up(by_code)
    while (top := found.max()) > best:
        rows, columns = np.nonzero(found == top)
        if grid.any_hit(rows, columns):
            return float(top)
        found[rows, columns] = DISCARDED
    return best


@dataclass(frozen=True)
class _Edges:
    """The right edges of the released grid, and for each the ends of its 400 left edges."""

    sample: Sample
    right: Floats
    start: Floats
    stop: Floats

    def groups(self) -> tuple[Ints, Ints, Ints]:
        """First and last of the right edges that cut at one place, and the code below."""
        cut = np.searchsorted(self.sample.values, self.right, "right")
        new = np.flatnonzero(cut[1:] != cut[:-1]) + 1
        first = np.concatenate([[0], new])
        return first, np.append(new, len(cut)) - 1, self.sample.codes[cut[first]]

    def look_up(self, by_code: Floats) -> Floats:
        """Epsilon [group, distinct] of every pair of cuts that the grid might reach."""
        first, last, codes = self.groups()
        values = self.sample.values
        low = np.searchsorted(values, self.start[first])[:, None]
        high = np.searchsorted(values, self.stop[last])[:, None]
        inside = codes[:, None] - self.sample.codes[None, :-1]
        # A left edge beyond the right one keeps nothing: code 0, which the table discards.
        np.maximum(inside, 0, out=inside)
        place = np.arange(len(values))[None, :]
        inside[(place < low) | (place > high)] = 0
        return by_code[inside]

    def any_hit(self, rows: Ints, columns: Ints) -> bool:
        """Whether some left edge of these groups falls within these gaps between values."""
        first, last, _ = self.groups()
        below = np.concatenate([[-np.inf], self.sample.values])
        for at in range(0, len(rows), CHECKED_AT_ONCE):
            row, column = rows[at : at + CHECKED_AT_ONCE], columns[at : at + CHECKED_AT_ONCE]
            size = last[row] - first[row] + 1
            # Every right edge of every group: 0 1 2, 0 1, ... added to where the group begins.
            step = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
            edge = np.repeat(first[row], size) + step
            gap = np.repeat(column, size)
            ends = self.start[edge], self.stop[edge]
            if _grid_hits(below[gap], below[gap + 1], *ends, LEFT_EDGES).any():
                return True
        return False


def _grid_hits(
    low: Floats, high: Floats, start: Floats | float, stop: Floats | float, count: int
) -> NDArray[np.bool_]:
    """Whether linspace(start, stop, count) has a point in (low, high], in its own arithmetic."""
    step = (stop - start) / (count - 1)
    near = np.clip(np.floor((low - start) / step), 0, count - 1).astype(np.int64)
    hit = np.zeros(low.shape, dtype=np.bool_)
    # Rounding moves the first point above `low` by one place at most, to either side.
    for shift in range(3):
        place = np.minimum(near + shift, count - 1)
        point = np.where(place == count - 1, stop, place * step + start)
        hit |= (low < point) & (point <= high)
    return hit


def exact(sample: Sample, delta: float) -> float:
    """Return epsilon with every threshold and interval that ranks allow, before the cap."""
    by_code = np.maximum(*tables(len(sample.unlearned), len(sample.retrained), delta))
    codes, best, rows = sample.codes, DISCARDED, 128
    for at in range(0, len(codes), rows):
        inside = codes[None, at:] - codes[at : at + rows, None]
        np.maximum(inside, 0, out=inside)
        best = max(best, float(by_code[inside].max()))
    return max(best, 0.0)
