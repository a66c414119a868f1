"""Intervals over models: against the textbook, coverage, bounds, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from expunge.errors import BadEvidence
from expunge.metrics.agreement import interval
from expunge.metrics.challenge.quality import forgetting_quality

Floats = NDArray[np.float64]


def mean(values: Floats) -> float:
    return float(values.mean())


def difference(first: Floats, second: Floats) -> float:
    return float(first.mean() - second.mean())


def test_a_mean_has_its_textbook_interval() -> None:
    values = np.random.default_rng(0).normal(size=200)
    value, low, high = interval(mean, [values], np.random.default_rng(1), resamples=4000)
    half = 1.96 * values.std() / math.sqrt(200)
    assert value == values.mean()
    assert (value - low, high - value) == pytest.approx((half, half), rel=0.05)


@pytest.mark.parametrize(("models", "times"), [(3, 4.303), (4, 3.182), (5, 2.776), (9, 2.306)])
def test_a_mean_of_few_is_wide(models: int, times: float) -> None:
    values = np.random.default_rng(0).normal(size=models)
    value, low, high = interval(mean, [values], np.random.default_rng(1), resamples=4000)
    half = times * values.std(ddof=1) / math.sqrt(models)
    assert (value - low, high - value) == pytest.approx((half, half), rel=0.05)


def test_samples_are_drawn_apart() -> None:
    values = np.random.default_rng(0).normal(size=200)
    _, low, high = interval(difference, [values, values], np.random.default_rng(1), resamples=4000)
    # Drawn together, the difference would always be 0 and the interval empty.
    half = 1.96 * values.std() * math.sqrt(2 / 200)
    assert (high - low) / 2 == pytest.approx(half, rel=0.05)


def test_rows_stay_whole() -> None:
    first = np.random.default_rng(0).normal(size=50)
    pairs = np.stack([first, first + 3.0], axis=1)

    def gap(rows: Floats) -> float:
        return float((rows[:, 1] - rows[:, 0]).mean())

    value, low, high = interval(gap, [pairs], np.random.default_rng(1))
    assert (value, low, high) == pytest.approx((3.0, 3.0, 3.0))


def test_the_generator_decides() -> None:
    values = np.random.default_rng(0).normal(size=20)
    first, again, other = (
        interval(mean, [values], np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_bounds_cut() -> None:
    values = np.array([0.0] * 19 + [1.0])
    value, low, high = interval(mean, [values], np.random.default_rng(0), bounds=(0.0, 1.0))
    assert (value, low) == (0.05, 0.0)
    assert 0.05 < high < 0.3


@pytest.mark.parametrize("models", [1, 2])
def test_too_few_models_leave_everything_possible(models: int) -> None:
    one = np.full(models, 0.4)
    assert interval(mean, [one], np.random.default_rng(0), bounds=(0.0, 1.0)) == (0.4, 0.0, 1.0)
    found = interval(difference, [np.zeros(9), one], np.random.default_rng(0))
    assert found == (-0.4, -math.inf, math.inf)


def test_bad_samples() -> None:
    for samples, resamples in (([np.zeros(0)], 10), ([], 10), ([np.zeros(3)], 1)):
        with pytest.raises(BadEvidence):
            interval(mean, samples, np.random.default_rng(0), resamples=resamples)


@pytest.mark.slow
def test_coverage_of_forgetting_quality() -> None:
    """Normal signals, 32 models: the interval holds the expected F in most of 40 draws."""
    rng = np.random.default_rng(0)

    def draw() -> tuple[Floats, Floats]:
        first, second = rng.normal(size=(2, 32, 30))
        return first + 0.3, second

    truth = np.mean([forgetting_quality(*draw()) for _ in range(150)])
    held = 0
    for _ in range(40):
        _, low, high = interval(forgetting_quality, draw(), rng, resamples=50)
        held += bool(low <= truth <= high)
    # The percentile form, which the ties of resampling bias, holds it in almost none.
    assert held >= 33
