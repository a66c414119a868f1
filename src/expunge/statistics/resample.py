"""Confidence intervals by half-samples: over models, or over models and examples at once.

Two resampling schemes elsewhere are other schemes on purpose: `metrics.attacks.roc.interval` draws
weights with replacement, since a ranked curve is counted again without another sort, and
`experiments.text.normalised_metrics.Draws` keeps its draws, since all numbers of a row share them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student

from expunge.errors import BadEvidence
from expunge.statistics.result import Floats, Interval, check_fraction, finite_array

Statistic = Callable[..., float]

RESAMPLES = 1000

FEWEST = 3

CHUNK_BYTES = 64 * 2**20


def standard_errors(
    statistics: Callable[..., Sequence[float]],
    samples: Sequence[Floats],
    rng: np.random.Generator,
    resamples: int,
) -> Floats:
    """Return the standard error of each statistic, from random halves of the units.

    Halves are drawn without replacement, since drawing with replacement makes ties.

    Args:
        statistics: takes one array a sample, [unit, ...], and returns one or more floats.
        samples: float64 [unit, ...] each, at least 2 units, drawn independently of each other.
        rng: draws the halves.
        resamples: how many, at least 2.

    Returns:
        float64 [statistic].

    Source: Politis and Romano (1994), subsampling; Shao and Wu (1989), delete-d jackknife.
    """
    drawn = [
        statistics(*(one[rng.permutation(len(one))[: _half(len(one))]] for one in samples))
        for _ in range(resamples)
    ]
    spread: Floats = np.std(np.asarray(drawn, dtype=np.float64), axis=0, ddof=1)
    return _wider(*map(len, samples)) * spread


def over_models(
    statistic: Statistic, samples: Sequence[ArrayLike], rng: np.random.Generator, *,
    resamples: int = RESAMPLES, alpha: float = 0.05,
) -> Interval:  # fmt: skip
    """Return a statistic with its confidence interval over models; the examples are kept.

    Student's t times the standard error over random halves of the models. Of seven forms measured
    on means, medians and standard deviations of 5 to 64 units this one covers best; percentile,
    basic and BCa intervals of 5 models hold a mean in 84 %, not 95 %.

    Args:
        statistic: takes one array a sample, as given but with fewer models; returns a float.
        samples: float [model, ...] each, drawn independently of each other.
        rng: draws the halves.
        resamples: how many.
        alpha: the share of misses that is allowed.

    Raises:
        BadEvidence: fewer than 3 models in a sample, fewer than 2 resamples, values not finite.
        ExpungeError: alpha outside (0, 1).

    Source: as for `standard_errors`.
    """
    arrays = _samples(samples, resamples, alpha, (1, 2, 3))
    error = standard_errors(lambda *drawn: (statistic(*drawn),), arrays, rng, resamples)[0]
    return _interval(statistic(*arrays), error, min(map(len, arrays)), alpha)


def mean_over_both(
    first: ArrayLike, rng: np.random.Generator, *, minus: ArrayLike | None = None,
    resamples: int = 10_000, alpha: float = 0.05,
) -> Interval:  # fmt: skip
    """Return a mean, or a difference of two, with its interval over new models and new examples.

    All models answer the same examples, so halves of both are drawn at once. Drawing examples
    again for each model forgets that a hard example is hard for all: such an interval of a mean
    held the truth in 55 % of simulations with 20 models and 100 examples where examples differ and
    models do not. Halves are weights: a weighted mean over both axes is two matrix products.

    Args:
        first: float [model, example].
        rng: draws the halves.
        minus: float [model, example] on the same examples, whose mean is taken off; or None.
        resamples, alpha: as for `over_models`.

    Raises: as for `over_models`; BadEvidence for fewer than 3 examples, or other ones.

    Source: Owen (2007), The pigeonhole bootstrap; McCullagh (2000).
    """
    given = [first] if minus is None else [first, minus]
    arrays = _samples(given, resamples, alpha, (2,))
    counts = {one.shape[1] for one in arrays}
    if len(counts) > 1 or min(counts) < FEWEST:
        raise BadEvidence(
            f"Got {sorted(counts)} examples; expected the same in each sample, {FEWEST} at least."
        )
    examples, drawn, done = arrays[0].shape[1], np.empty(resamples), 0
    rows = max(1, CHUNK_BYTES // (8 * 4 * max(examples, *map(len, arrays))))
    while done < resamples:
        count = min(rows, resamples - done)
        kept = _half_weights(count, examples, rng)
        means = [
            np.einsum("re,re->r", _half_weights(count, len(one), rng) @ one, kept) for one in arrays
        ]
        drawn[done : done + count] = means[0] if minus is None else means[0] - means[1]
        done += count
    whole = arrays[0].mean() - (0.0 if minus is None else arrays[1].mean())
    units = [*map(len, arrays), examples]
    error = _wider(*units) * float(np.std(drawn, ddof=1))
    return _interval(float(whole), error, min(units), alpha)


def _samples(
    samples: Sequence[ArrayLike], resamples: int, alpha: float, axes: tuple[int, ...]
) -> list[Floats]:
    """Return the samples as float64; refuse too few of them, of their units or of resamples."""
    check_fraction("alpha", alpha)
    if resamples < 2 or not samples:
        raise BadEvidence(
            f"Got {len(samples)} samples and {resamples} resamples; expected at least 1 and 2."
        )
    return [finite_array("values", one, least=FEWEST, axes=axes) for one in samples]


def _half(units: int) -> int:
    """Return how many units a half holds: 2 at least."""
    return max(units // 2, 2)


def _half_weights(count: int, units: int, rng: np.random.Generator) -> Floats:
    """Return random halves as weights that sum to 1, [resample, unit]."""
    size = _half(units)
    places = np.argpartition(rng.random((count, units), dtype=np.float32), size - 1, axis=1)
    weights = np.zeros((count, units))
    np.put_along_axis(weights, places[:, :size], 1.0 / size, axis=1)
    return weights


def _wider(*units: int) -> float:
    """Return what turns the spread over parts into that over wholes: 1 for halves."""
    return max(math.sqrt(_half(whole) / (whole - _half(whole))) for whole in units)


def _interval(value: float, error: float, units: int, alpha: float) -> Interval:
    """Return Student's t times a standard error around a value."""
    half = float(error) * float(student.isf(alpha / 2, units - 1))
    return Interval(float(value), float(value) - half, float(value) + half, alpha, units)
