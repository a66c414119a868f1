"""The slow twin of the challenge's metric: every threshold in turn, written from its description.

Each attack is compared with every model, as the released code does; nothing is shared with the
package. Rates are counts over the number of models in float64 (the released code averages in
float32).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def survivors(predicted_pos: Flags, predicted_neg: Flags, delta: float) -> Floats:
    """Epsilons [attack] of predictions [attack, model]; discarded attacks are left out."""
    n_pos, n_neg = predicted_pos.shape[1], predicted_neg.shape[1]
    fnr = (n_pos - predicted_pos.sum(axis=1)) / n_pos
    fpr = predicted_neg.sum(axis=1) / n_neg
    with np.errstate(divide="ignore", invalid="ignore"):
        one = np.log(1 - delta - fpr) - np.log(fnr)
        other = np.log(1 - delta - fnr) - np.log(fpr)
    # The larger of the two logarithms that exist, and nothing below zero.
    one = np.where(np.isnan(one), -np.inf, one)
    other = np.where(np.isnan(other), -np.inf, other)
    found = np.maximum(np.maximum(one, other), 0.0)
    found[(fnr == 0) & (fpr == 0)] = np.inf
    return found[(fnr == 0) == (fpr == 0)]


def single_family(pos: Floats, neg: Floats, delta: float = 1e-5) -> Floats:
    """Epsilons that survive of thresholds 100 a unit; at or above means positive."""
    low, high = min(pos.min(), neg.min()), max(pos.max(), neg.max())
    edges = np.linspace(low, high, num=int(np.ceil((high - low) * 100)))[:, None]
    return survivors(pos >= edges, neg >= edges, delta)


def double_family(pos: Floats, neg: Floats, delta: float = 1e-5) -> Floats:
    """Epsilons that survive of intervals; inside means the peakier of the two."""
    pos_range, neg_range = pos.max() - pos.min(), neg.max() - neg.min()
    width = neg_range if pos_range > neg_range else pos_range
    if pos_range >= neg_range:
        pos, neg = neg, pos
    low, high = pos.min() + width - 2.0, pos.max() + 2.0
    found = []
    for right in np.linspace(low, high, num=int(np.ceil((high - low) * 100))):
        left = np.linspace(right - width - 2.0, right - width + 2.0, num=400)[:, None]
        in_pos, in_neg = (left <= pos) & (pos <= right), (left <= neg) & (neg <= right)
        found.append(survivors(in_pos, in_neg, delta))
    return np.concatenate(found)


def released_epsilon(unlearned: Floats, retrained: Floats, delta: float = 1e-5) -> float:
    """One example; both arguments are [model]."""
    ranges = np.ptp(unlearned), np.ptp(retrained)
    if max(ranges) == 0:
        return 0.0 if unlearned[0] == retrained[0] else 50.0
    if min(ranges) / max(ranges) < 0.01:
        return 50.0
    pos, neg = unlearned, retrained
    if np.median(retrained) > np.median(unlearned):
        pos, neg = retrained, unlearned
    found = np.append(double_family(pos, neg, delta), single_family(pos, neg, delta))
    if len(found):
        return min(float(found.max()), 50.0)
    inner, outer = (neg, pos) if np.ptp(pos) >= np.ptp(neg) else (pos, neg)
    return 0.0 if np.any((inner.min() <= outer) & (outer <= inner.max())) else 50.0


def exact_epsilon(unlearned: Floats, retrained: Floats, delta: float = 1e-5) -> float:
    """All intervals between pooled values, either side as the positive one; one example."""
    values = np.unique(np.concatenate([unlearned, retrained]))
    best = 0.0
    for low in values:
        for high in values[values >= low]:
            mine = ((low <= unlearned) & (unlearned <= high))[None, :]
            theirs = ((low <= retrained) & (retrained <= high))[None, :]
            for one, other in ((mine, theirs), (theirs, mine)):
                best = max([best, *survivors(one, other, delta)])
    return float(min(best, 50.0))


def quality(epsilons: Floats, models: int) -> float:
    """The bins as a literal list, filled as the description says."""
    bins: list[tuple[float, float]] = []
    end, points = 0.5, 1.0
    while end <= math.ceil(math.log(models - 1)):
        bins.append((end, points))
        end, points = end + 0.5, points / 2
    total = 0.0
    for epsilon in epsilons:
        total += next((worth for end, worth in bins if epsilon < end), 0.0)
    return total / len(epsilons)
