"""Resampling: textbook values, the fast way is the slow way, coverage over models and examples."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from audit_worlds import at_most
from numpy.typing import NDArray
from scipy.stats import t as student

from expunge.errors import BadEvidence, ExpungeError
from expunge.statistics.resample import mean_over_both, over_models
from expunge.statistics.result import Interval

Floats = NDArray[np.float64]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def mean(values: Floats) -> float:
    return float(values.mean())


def difference(first: Floats, second: Floats) -> float:
    return float(first.mean() - second.mean())


def crossed(source: np.random.Generator, sds: tuple[float, float, float], m: int, e: int) -> Floats:
    """Models, examples, and what is left, each with its spread; the true mean is 0."""
    rows, columns = source.normal(size=(m, 1)), source.normal(size=(1, e))
    return sds[0] * rows + sds[1] * columns + sds[2] * source.normal(size=(m, e))


def slow_over_both(statistic: Callable[..., float], grids: list[Floats]) -> Interval:
    """The obvious way: halves of the examples, drawn together, and of the models of each grid."""
    source, examples, drawn = rng(), grids[0].shape[1], []
    for _ in range(3000):
        kept = source.permutation(examples)[: examples // 2]
        parts = [one[source.permutation(len(one))[: len(one) // 2]][:, kept] for one in grids]
        drawn.append(statistic(*parts))
    sizes = [*map(len, grids), examples]
    wider = max(math.sqrt((n // 2) / (n - n // 2)) for n in sizes)
    half = wider * np.std(drawn, ddof=1) * student.isf(0.025, min(sizes) - 1)
    value = statistic(*grids)
    return Interval(value, value - half, value + half, 0.05, min(sizes))


@pytest.mark.parametrize("models", [3, 8, 51, 200])
def test_a_mean_has_its_textbook_interval(models: int) -> None:
    values = rng().normal(size=models)
    found = over_models(mean, [values], rng(), resamples=4000)
    half = student.isf(0.025, models - 1) * values.std(ddof=1) / math.sqrt(models)
    assert found.value == values.mean()
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.05)
    assert found.n == models


def test_samples_are_drawn_apart() -> None:
    values = rng().normal(size=40)
    apart = over_models(difference, [values, values], rng(), resamples=2000)
    half = student.isf(0.025, 39) * values.std(ddof=1) * math.sqrt(2 / 40)
    assert (apart.high - apart.low) / 2 == pytest.approx(half, rel=0.06)


def test_examples_are_drawn_together() -> None:
    grid = np.tile(rng().normal(size=40), (40, 1))
    # The same hard examples on both sides: drawn together they cancel.
    found = mean_over_both(grid, rng(), minus=grid + 1.0, resamples=200)
    assert (found.low, found.high) == pytest.approx((-1.0, -1.0))


def test_the_fast_way_is_the_slow_way() -> None:
    # What makes an example hard is shared by both samples, so drawing it apart would show.
    shared, source = 3 * rng().normal(size=41), np.random.default_rng(1)
    grid = crossed(source, (1, 0, 1), 12, 41) + shared
    other = crossed(source, (0.3, 0, 1), 9, 41) + shared
    slow = slow_over_both(difference, [grid, other])
    fast = mean_over_both(grid, rng(), minus=other, resamples=3000)
    assert fast.value == pytest.approx(slow.value)
    assert fast.high - fast.low == pytest.approx(slow.high - slow.low, rel=0.06)
    alone = slow_over_both(mean, [grid])
    assert mean_over_both(grid, rng()).low == pytest.approx(alone.low, abs=0.05)


def test_chunks_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = crossed(rng(), (1, 1, 1), 10, 20)
    whole = mean_over_both(grid, rng(), resamples=2001)
    monkeypatch.setattr("expunge.statistics.resample.CHUNK_BYTES", 32 * 20 * 100)
    parts = mean_over_both(grid, rng(), resamples=2001)
    assert parts.high - parts.low == pytest.approx(whole.high - whole.low, rel=0.06)


def test_the_order_of_models_and_examples_does_not_matter() -> None:
    grid, source = crossed(rng(), (1, 1, 1), 10, 20), np.random.default_rng(5)
    turned = source.permutation(source.permutation(grid, axis=0), axis=1)
    first, second = (mean_over_both(one, rng(), resamples=4000) for one in (grid, turned))
    assert first.high - first.low == pytest.approx(second.high - second.low, rel=0.06)
    assert first.value == pytest.approx(second.value)


def test_a_wider_level_is_wider() -> None:
    grid = crossed(rng(), (1, 1, 1), 10, 20)
    widths = [mean_over_both(grid, rng(), alpha=a).high for a in (0.2, 0.05, 0.01)]
    assert widths == sorted(widths)


@pytest.mark.parametrize("sds", [(1, 1, 1), (1, 0, 1), (0, 1, 1), (0, 0, 1)], ids=str)
@pytest.mark.parametrize("shape", [(5, 30), (20, 40)], ids=str)
def test_a_mean_over_both_covers_whatever_varies(
    sds: tuple[float, float, float], shape: tuple[int, int]
) -> None:
    source, runs = rng(), 250
    missed = sum(
        0.0 not in mean_over_both(crossed(source, sds, *shape), source, resamples=200)
        for _ in range(runs)
    )
    # The spread of 200 resamples is itself known to 5 %: a point of coverage.
    assert missed <= at_most(0.06, runs)


def test_resampling_models_alone_forgets_the_examples() -> None:
    """A negative result that is kept: it speaks of these examples, not of new ones."""
    source, runs = rng(), 150
    grids = [crossed(source, (0.0, 1.0, 1.0), 20, 40) for _ in range(runs)]
    held = sum(0.0 in over_models(mean, [g.mean(axis=1)], source, resamples=100) for g in grids)
    assert held / runs < 0.6


@pytest.mark.parametrize("kind", ["normal", "heavy tails", "skewed"])
@pytest.mark.parametrize("models", [5, 20])
def test_coverage_over_models(kind: str, models: int) -> None:
    draws = {
        "normal": lambda source: source.normal(size=models),
        "heavy tails": lambda source: source.standard_t(3, size=models),
        "skewed": lambda source: source.gamma(4.0, size=models) - 4.0,
    }
    source, runs = rng(), 200
    missed = sum(
        0.0 not in over_models(mean, [draws[kind](source)], source, resamples=200)
        for _ in range(runs)
    )
    assert missed <= at_most(0.07 if kind == "skewed" else 0.055, runs)


@pytest.mark.slow
@pytest.mark.parametrize("models", [5, 10, 64])
def test_percentiles_of_few_models_do_not_cover_and_this_form_does(models: int) -> None:
    source, runs, held = rng(), 1500, np.zeros(2)
    for _ in range(runs):
        values = source.normal(size=models)
        held[0] += 0.0 in over_models(mean, [values], source, resamples=400)
        drawn = values[source.integers(models, size=(400, models))].mean(axis=1)
        held[1] += bool(np.quantile(drawn, 0.025) <= 0 <= np.quantile(drawn, 0.975))
    assert held[0] / runs >= 0.94
    assert models > 10 or held[1] / runs < 0.93


def test_bad_input() -> None:
    good = np.ones((4, 5))
    for samples in ([], [np.zeros((0, 5))], [good * math.nan], [good[:2]]):
        with pytest.raises(BadEvidence):
            over_models(mean, samples, rng())
    for call in (
        lambda: over_models(mean, [good], rng(), resamples=1),
        lambda: mean_over_both(good, rng(), resamples=1),
        lambda: mean_over_both(good[:2], rng()),
        lambda: mean_over_both(good * math.nan, rng()),
        lambda: mean_over_both(np.ones(5), rng()),
    ):
        with pytest.raises(BadEvidence):
            call()
    for call in (
        lambda: over_models(mean, [good], rng(), alpha=0.0),
        lambda: mean_over_both(good, rng(), alpha=0.0),
    ):
        with pytest.raises(ExpungeError):
            call()
    with pytest.raises(BadEvidence, match="same in each sample"):
        mean_over_both(good, rng(), minus=good[:, :4])
    with pytest.raises(BadEvidence, match="3 at least"):
        mean_over_both(good[:, :2], rng())
