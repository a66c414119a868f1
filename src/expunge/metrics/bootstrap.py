"""95 % intervals over models, by resampling models and keeping the examples as they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from expunge.errors import BadEvidence

Sample = NDArray[np.float64]
Statistic = Callable[..., float]
Bounds = tuple[float, float]

RESAMPLES = 100
NORMAL_95 = 1.959964


def interval(
    statistic: Statistic,
    samples: Sequence[Sample],
    rng: np.random.Generator,
    *,
    resamples: int = RESAMPLES,
    bounds: Bounds = (-math.inf, math.inf),
) -> tuple[float, float, float]:
    """Return value, low, high: the value plus and minus 1.96 bootstrap standard deviations.

    COVERAGE

    Args:
        statistic: takes one array per sample, [model, ...], and returns a float.
        samples: float64 [model, ...] each, resampled one apart from the other; pairs belong in one.
        rng: the generator that draws the models.
        resamples: how many times; the standard deviation is then known to about 7 %.
        bounds: the least and the largest value that the statistic can take.

    Raises:
        BadEvidence: a sample without models, or fewer than 2 resamples.
    """
    if resamples < 2 or not samples or min(len(one) for one in samples) == 0:
        raise BadEvidence(
            f"Got {[len(one) for one in samples]} models and {resamples} resamples; expected at "
            "least 1 model in each sample and 2 resamples."
        )
    value = float(statistic(*samples))
    # One model says nothing about the spread: anything possible stays possible.
    if min(len(one) for one in samples) == 1:
        return value, *bounds
    drawn = [
        statistic(*(one[rng.integers(0, len(one), len(one))] for one in samples))
        for _ in range(resamples)
    ]
    half = NORMAL_95 * float(np.std(drawn, ddof=1))
    return value, max(value - half, bounds[0]), min(value + half, bounds[1])
