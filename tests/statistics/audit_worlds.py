"""Worlds whose truth is known, to audit the auditor with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, laplace, norm

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], tuple[Floats, Floats]]


@dataclass(frozen=True)
class World:
    """Two groups, [unit, repetition] each, and what is true of them.

    Args:
        draw: generator, units, repetitions -> positives, negatives.
        epsilon: of the pair at delta 0; infinite where no finite one holds.
        auc: chance that a positive scores above a negative, ties counting half.
        same: whether both groups are one distribution.
    """

    draw: Draw
    epsilon: float
    auc: float
    same: bool


def _pair(kind: Callable[[np.random.Generator, tuple[int, int]], Floats], away: float) -> Draw:
    return lambda rng, n, times: (kind(rng, (n, times)) + away, kind(rng, (n, times)))


def _normal(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return rng.normal(size=shape)


def _laplace(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return rng.laplace(size=shape)


def _cauchy(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return rng.standard_cauchy(shape)


def _ties(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return rng.poisson(1.0, shape).astype(float)


def _narrow(rng: np.random.Generator, n: int, times: int) -> tuple[Floats, Floats]:
    return 0.05 * rng.normal(size=(n, times)), rng.normal(size=(n, times))


def laplace_auc(away: float) -> float:
    """P(X + away > Y) for two standard Laplace variables."""
    return float(1 - 0.5 * np.exp(-away) * (1 + away / 2))


WORLDS = {
    "identical": World(_pair(_normal, 0.0), 0.0, 0.5, True),
    "heavy tails": World(_pair(_cauchy, 0.0), 0.0, 0.5, True),
    "ties": World(_pair(_ties, 0.0), 0.0, 0.5, True),
    "laplace": World(_pair(_laplace, 1.0), 1.0, laplace_auc(1.0), False),
    "shifted": World(_pair(_normal, 1.0), np.inf, float(norm.cdf(np.sqrt(0.5))), False),
    "narrow": World(_narrow, np.inf, 0.5, False),
}


def normal_rates(threshold: float, away: float) -> tuple[float, float]:
    """FPR and FNR of a threshold between N(away, 1), positive, and N(0, 1)."""
    return float(norm.sf(threshold)), float(norm.cdf(threshold - away))


def laplace_rates(threshold: float, away: float) -> tuple[float, float]:
    return float(laplace.sf(threshold)), float(laplace.cdf(threshold - away))


def at_most(allowed: float, runs: int) -> int:
    """How many misses of `runs` a test that misses this often shows but once in 10,000."""
    return int(binom.isf(1e-4, runs, allowed))


def sharing(rng: np.random.Generator, originals: int, each: int, spread: float) -> Floats:
    """[original, model]: models of one original are alike by `spread`."""
    return spread * rng.normal(size=(originals, 1)) + rng.normal(size=(originals, each))
