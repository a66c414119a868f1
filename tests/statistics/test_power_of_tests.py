"""Power: closed forms against tables and against simulation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import norm

from expunge.errors import BadEvidence, ExpungeError
from expunge.statistics.compare import compare_auc, compare_means, compare_rates
from expunge.statistics.distance import _detectable, compare_distributions
from expunge.statistics.power import (
    detectable_auc,
    detectable_mean,
    detectable_rate,
    excludable_auc,
    excludable_mean,
    excludable_rate,
    larger_family,
    simulated_power,
    units_to_exclude_auc,
)

RUNS = 250


def share(rejects: Callable[[np.random.Generator], bool], runs: int = RUNS) -> float:
    return simulated_power(rejects, np.random.default_rng(0), runs=runs).value


def test_units_of_the_table() -> None:
    found = [units_to_exclude_auc(m, power=0.9) for m in (0.10, 0.05, 0.03, 0.02, 0.01)]
    assert found == [181, 722, 2005, 4510, 18_038]
    assert units_to_exclude_auc(0.05) == 572


def test_the_table_of_cohen() -> None:
    # d = 0.5 takes 64 a group at 80 %, d = 0.8 takes 26
    for d, n in ((0.5, 64), (0.8, 26)):
        assert detectable_mean(math.sqrt(2 / n), 2 * n - 2, 0.05) == pytest.approx(d, rel=0.01)


def test_more_units_find_and_exclude_less() -> None:
    for small, large in ((10, 20), (50, 500)):
        assert detectable_auc(large, large) < detectable_auc(small, small)
        assert excludable_auc(large, large) < excludable_auc(small, small)
        assert detectable_auc(small, small) == detectable_auc(small, small, 0.05, 0.8)
    assert detectable_auc(2, 2) == 0.5


@pytest.mark.parametrize("n", [5, 20])
def test_power_of_means(n: int) -> None:
    error = math.sqrt(2 / n)
    shift = detectable_mean(error, 2 * n - 2, 0.05)
    margin = excludable_mean(error, 2 * n - 2, 0.05)

    def finds(rng: np.random.Generator) -> bool:
        a, b = rng.normal(size=(2, n))
        return compare_means(a + shift, b, margin=1.0).p <= 0.05

    def excludes(rng: np.random.Generator) -> bool:
        return compare_means(*rng.normal(size=(2, n)), margin=margin).excluded

    assert share(finds) == pytest.approx(0.8, abs=0.08)
    assert share(excludes) == pytest.approx(0.8, abs=0.08)


def test_power_of_auc() -> None:
    n = 60
    shift = math.sqrt(2) * norm.ppf(0.5 + detectable_auc(n, n))
    margin = excludable_auc(n, n)

    def finds(rng: np.random.Generator) -> bool:
        return compare_auc(rng.normal(size=n) + shift, rng.normal(size=n), margin=0.1).p <= 0.05

    def excludes(rng: np.random.Generator) -> bool:
        return compare_auc(*rng.normal(size=(2, n)), margin=margin).excluded

    assert share(finds) == pytest.approx(0.82, abs=0.08)
    assert share(excludes) == pytest.approx(0.8, abs=0.08)


def test_power_of_rates() -> None:
    n, rate = 100, 0.4
    away, margin = detectable_rate(rate, n, n), excludable_rate(rate, n, n)

    def finds(rng: np.random.Generator) -> bool:
        hits = rng.binomial(n, rate - away / 2), rng.binomial(n, rate + away / 2)
        return compare_rates(hits, (n, n), margin=0.5).p <= 0.05

    def excludes(rng: np.random.Generator) -> bool:
        hits = rng.binomial(n, rate), rng.binomial(n, rate)
        return compare_rates(hits, (n, n), margin=margin).excluded

    # Fisher's exact test is cautious, so a little below what the normal limit says.
    assert share(finds, 150) == pytest.approx(0.76, abs=0.1)
    assert share(excludes, 150) == pytest.approx(0.8, abs=0.1)


def test_power_of_the_distance() -> None:
    n = 50
    gap = _detectable(n, n, 0.05)

    def finds(rng: np.random.Generator) -> bool:
        moved = rng.random(n) + (rng.random(n) < gap)
        return compare_distributions(rng.random(n), moved, margin=0.1).p <= 0.05

    # A promise, not an estimate: at least 80 %.
    assert share(finds, 200) >= 0.8


def test_the_price_of_a_family() -> None:
    assert larger_family(0.05, 1) == 1.0
    # (2.807 + 0.8416) / (1.960 + 0.8416)
    assert larger_family(0.05, 10) == pytest.approx(1.3024, abs=1e-3)


def test_a_simulated_power_has_an_interval() -> None:
    found = simulated_power(lambda rng: bool(rng.random() < 0.3), np.random.default_rng(0))
    assert 0.3 in found
    assert found.high - found.low == pytest.approx(2 * 1.96 * math.sqrt(0.21 / 1000), rel=0.1)


def test_bad_levels() -> None:
    for alpha, power in ((0.0, 0.8), (1.0, 0.8), (0.05, 1.0), (0.05, math.nan)):
        for function in (detectable_auc, excludable_auc):
            with pytest.raises(ExpungeError):
                function(10, 10, alpha, power)
        with pytest.raises(ExpungeError):
            detectable_mean(1.0, 5, alpha, power)
    for call in (
        lambda: detectable_mean(0.0, 5, 0.05),
        lambda: excludable_mean(1.0, 0, 0.05),
        lambda: units_to_exclude_auc(0.0),
        lambda: detectable_auc(0, 5),
        lambda: larger_family(0.05, 0),
        lambda: detectable_rate(0.5, 0, 5),
    ):
        with pytest.raises(ExpungeError):
            call()
    with pytest.raises(BadEvidence):
        simulated_power(lambda rng: True, np.random.default_rng(0), runs=0)
