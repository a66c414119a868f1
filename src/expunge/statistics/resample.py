"""Intervals by resampling: over models, over examples, over both at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student

from expunge.errors import BadEvidence
from expunge.statistics.checks import Floats, inside, values
from expunge.statistics.result import Interval

Statistic = Callable[..., float]


RESAMPLES = 1000


FEWEST = 3


CHUNK_BYTES = 64 * 2**20


def over_models(
    statistic: Statistic, samples: Sequence[ArrayLike], rng: np.random.Generator, *,
    resamples: int = RESAMPLES, alpha: float = 0.05,
) -> Interval:  # fmt: skip
    """Return a statistic with its interval over models; the examples stay as they are.

    Student's t times the spread over random halves of the models, none twice. Of seven forms that
    were measured on means, medians and standard deviations of 5 to 64 units this one covers best;
    percentile, basic and BCa intervals of 5 models hold a mean in 84 %, not 95 %.

    Args:
        statistic: takes one array a sample, as given but with fewer models; returns a float.
        samples: float [model, ...] each, drawn one apart from the other.
        rng: draws the halves.
        resamples: how many.
        alpha: the share of misses that is allowed.

    Raises:
        BadEvidence: fewer than 3 models in a sample, fewer than 2 resamples, values not finite.
        ExpungeError: alpha outside (0, 1).

    Source: Politis and Romano (1994), subsampling; Shao and Wu (1989), delete-d jackknife.
    """
    arrays = _samples(samples, resamples, alpha, (1, 2, 3))

    def draw() -> float:
        return statistic(*(one[_half(len(one), rng)] for one in arrays))

    units = min(map(len, arrays))
    return _interval(statistic(*arrays), [draw() for _ in range(resamples)], _wider(arrays), units,
                     alpha)  # fmt: skip


def over_examples(
    statistic: Statistic, samples: Sequence[ArrayLike], rng: np.random.Generator, *,
    resamples: int = RESAMPLES, alpha: float = 0.05,
) -> Interval:  # fmt: skip
    """Return a statistic with its interval over examples; the models stay as they are.

    Args:
        statistic: as for `over_models`, with fewer examples.
        samples: float [model, example] each, all on the same examples, drawn together.
        rng, resamples, alpha: as for `over_models`.

    Raises, Source: as for `over_models`; BadEvidence where the examples do not match.
    """
    arrays = _same_examples(_samples(samples, resamples, alpha, (2,)))
    turned = [one.T for one in arrays]
    units = len(turned[0])

    def draw() -> float:
        kept = _half(units, rng)
        return statistic(*(one[kept].T for one in turned))

    return _interval(statistic(*arrays), [draw() for _ in range(resamples)], _wider(turned), units,
                     alpha)  # fmt: skip


def over_both(
    statistic: Statistic, samples: Sequence[ArrayLike], rng: np.random.Generator, *,
    resamples: int = RESAMPLES, alpha: float = 0.05,
) -> Interval:  # fmt: skip
    """Return a statistic with its interval over models and examples, for claims about new ones.

    All models answer the same examples, so both are drawn at once. Drawing examples anew for each
    model, as if every model had its own, forgets that a hard example is hard for all: such an
    interval of a mean held the truth in 55 % of simulations with 20 models and 100 examples where
    examples differ and models do not.

    Args:
        statistic: as for `over_models`, with fewer models and examples.
        samples: float [model, example] each, models drawn apart, examples together.
        rng, resamples, alpha: as for `over_models`.

    Raises: as for `over_examples`; BadEvidence for fewer than 3 examples.

    Source: Owen (2007), The pigeonhole bootstrap; McCullagh (2000).
    """
    arrays = _same_examples(_samples(samples, resamples, alpha, (2,)))
    examples = arrays[0].shape[1]

    def draw() -> float:
        kept = _half(examples, rng)
        return statistic(*(one[_half(len(one), rng)][:, kept] for one in arrays))

    wider = _wider([*arrays, arrays[0].T])
    units = min(*map(len, arrays), examples)
    return _interval(statistic(*arrays), [draw() for _ in range(resamples)], wider, units, alpha)


def mean_over_both(
    first: ArrayLike, rng: np.random.Generator, *, minus: ArrayLike | None = None,
    resamples: int = 10_000, alpha: float = 0.05,
) -> Interval:  # fmt: skip
    """Return a mean, or the difference of two, as `over_both` would, at a fraction of the time.

    Halves are weights, and a weighted mean over both axes is two products of matrices.

    Args:
        first: float [model, example].
        rng, resamples, alpha: as for `over_models`.
        minus: float [model, example] on the same examples, whose mean is taken off; or None.

    Raises, Source: as for `over_both`.
    """
    given = [first] if minus is None else [first, minus]
    arrays = _same_examples(_samples(given, resamples, alpha, (2,)))
    examples, drawn, done = arrays[0].shape[1], np.empty(resamples), 0
    rows = max(1, CHUNK_BYTES // (8 * 4 * max(examples, *map(len, arrays))))
    while done < resamples:
        count = min(rows, resamples - done)
        kept = _halves(count, examples, rng)
        means = [np.einsum("re,re->r", _halves(count, len(one), rng) @ one, kept) for one in arrays]
        drawn[done : done + count] = means[0] if minus is None else means[0] - means[1]
        done += count
    whole = arrays[0].mean() - (0.0 if minus is None else arrays[1].mean())
    units = min(*map(len, arrays), examples)
    return _interval(float(whole), drawn, _wider([*arrays, arrays[0].T]), units, alpha)


def _samples(
    samples: Sequence[ArrayLike], resamples: int, alpha: float, axes: tuple[int, ...]
) -> list[Floats]:
    """Check what all of these take."""
    inside("alpha", alpha)
    if resamples < 2 or not samples:
        raise BadEvidence(
            f"Got {len(samples)} samples and {resamples} resamples; expected at least 1 and 2."
        )
    return [values("values", one, least=FEWEST, axes=axes) for one in samples]


def _same_examples(arrays: list[Floats]) -> list[Floats]:
    """Refuse samples on different examples, or on too few."""
    counts = {one.shape[1] for one in arrays}
    if len(counts) > 1 or min(counts) < FEWEST:
        raise BadEvidence(
            f"Got {sorted(counts)} examples; expected the same in each sample, {FEWEST} at least."
        )
    return arrays


def _size(units: int) -> int:
    """How many units a half holds: 2 at least."""
    return max(units // 2, 2)


def _half(units: int, rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """A random half of the units, none of them twice."""
    return rng.permutation(units)[: _size(units)]


def _halves(count: int, units: int, rng: np.random.Generator) -> Floats:
    """Random halves as weights that sum to 1, [resample, unit]."""
    size = _size(units)
    places = np.argpartition(rng.random((count, units), dtype=np.float32), size - 1, axis=1)
    weights = np.zeros((count, units))
    np.put_along_axis(weights, places[:, :size], 1.0 / size, axis=1)
    return weights


def _wider(arrays: Sequence[Floats]) -> float:
    """What turns the spread over parts into that over wholes: 1 for halves, as for a mean."""
    sizes = [(len(one), _size(len(one))) for one in arrays]
    return max(math.sqrt(part / (whole - part)) for whole, part in sizes)


def _interval(
    value: float, drawn: Sequence[float] | Floats, wider: float, units: int, alpha: float
) -> Interval:
    """Student's t times the standard deviation over halves."""
    spread = float(np.std(np.asarray(drawn, dtype=np.float64), ddof=1))
    half = wider * spread * float(student.isf(alpha / 2, units - 1))
    return Interval(float(value), float(value) - half, float(value) + half, alpha, units)
