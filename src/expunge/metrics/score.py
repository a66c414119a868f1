"""What a metric returns, and what a metric is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np

from expunge.evidence import Evidence
from expunge.metrics.bootstrap import Bounds, Sample, Statistic, interval

Aim = Literal["oracle", "high", "low"]


@dataclass(frozen=True)
class Score:
    """A number with its 95 % interval over models, the number of unlearned models, and its unit."""

    value: float
    low: float
    high: float
    n: int
    unit: str


@dataclass(frozen=True)
class Unscored:
    """Why there is no number: never null, never 0."""

    reason: str


class Metric(Protocol):
    """A pure function of what unlearned and retrained models answer on the same examples.

    `aim` says what is good: near the oracle's own value, high, or low.
    """

    unit: ClassVar[str]
    aim: ClassVar[Aim]

    def __call__(self, subject: Evidence, oracle: Evidence, rng: np.random.Generator) -> Score: ...


def scored(
    statistic: Statistic,
    samples: Sequence[Sample],
    rng: np.random.Generator,
    *,
    unit: str,
    bounds: Bounds,
) -> Score:
    """Return a statistic of per-model values as a Score; n is the length of the first sample."""
    value, low, high = interval(statistic, samples, rng, bounds=bounds)
    return Score(value, low, high, len(samples[0]), unit)
