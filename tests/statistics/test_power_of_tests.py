"""Power: closed forms against tables and against simulation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import norm, ttest_ind

from expunge.errors import ExpungeError
from expunge.statistics.counts import _detectable, compare_distributions
from expunge.statistics.power import (
    detectable_auc,
    detectable_mean,
    excludable_auc,
    excludable_mean,
    larger_family,
    units_to_exclude_auc,
)
from expunge.statistics.recovered import Groups, compare_groups
from expunge.statistics.roc_area import compare_auc

RUNS = 250


def share(rejects: Callable[[np.random.Generator], bool], runs: int = RUNS) -> float:
    rng = np.random.default_rng(0)
    return float(np.mean([rejects(rng) for _ in range(runs)]))


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
        return ttest_ind(a + shift, b).pvalue <= 0.05

    def excludes(rng: np.random.Generator) -> bool:
        groups = [tuple(one) for one in rng.normal(size=(2, n))]
        return compare_groups(Groups(*groups, groups[1]), margin=margin).excluded

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
    ):
        with pytest.raises(ExpungeError):
            call()
