"""Rank agreement: what few methods can show, by hand, against SciPy, coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from audit_worlds import at_most
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr

from expunge.errors import BadEvidence, ExpungeError
from expunge.statistics.rank import detectable_rank, rank_agreement, smallest_rank_p


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_what_few_methods_can_show() -> None:
    assert smallest_rank_p(4) == pytest.approx(0.0833, abs=1e-4)
    assert smallest_rank_p(6) == pytest.approx(0.0028, abs=3e-5)


def test_four_methods_claim_nothing() -> None:
    found = rank_agreement(np.arange(4.0), np.arange(4.0), rng())
    assert (found.kendall.value, found.spearman.value) == (1.0, 1.0)
    assert found.kendall_p is None
    assert found.spearman_p is None
    assert found.detectable == math.inf
    assert "4 methods claim no significance" in found.reason
    assert "0.083" in found.reason


def test_six_methods_can() -> None:
    found = rank_agreement(np.arange(6.0), np.arange(6.0) ** 3, rng())
    assert found.kendall_p == found.spearman_p == pytest.approx(2 / 720)
    assert rank_agreement(np.arange(5.0), np.arange(5.0), rng()).kendall_p is None


def test_by_hand() -> None:
    # one adjacent swap of 6: 14 pairs agree, 1 does not; sum of squared rank differences is 2
    found = rank_agreement([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 6, 5], rng())
    assert found.kendall.value == pytest.approx(13 / 15)
    assert found.spearman.value == pytest.approx(1 - 6 * 2 / 210)
    # z(33/35) = ln(34) / 2 = 1.76318, t(0.025, 4) = 2.77645, error sqrt((1 + rho^2 / 2) / 3)
    rho = found.spearman.value
    half = 2.77645 * math.sqrt((1 + rho**2 / 2) / 3)
    assert found.spearman.low == pytest.approx(math.tanh(1.76318 - half), abs=1e-4)
    half = 2.77645 * math.sqrt(0.437 / 2)
    assert found.kendall.low == pytest.approx(math.tanh(math.atanh(13 / 15) - half), abs=1e-4)
    # as extreme: the identity and its 5 adjacent swaps, and their mirrors
    assert found.kendall_p == pytest.approx(12 / 720)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(4, 12), st.booleans())
def test_the_correlations_are_scipy_s(seed: int, methods: int, tied: bool) -> None:
    a, b = np.random.default_rng(seed).normal(size=(2, methods))
    a, b = (np.round(a), np.round(b)) if tied else (a, b)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return
    found = rank_agreement(a, b, rng())
    assert found.spearman.value == pytest.approx(spearmanr(a, b).statistic)
    assert found.kendall.value == pytest.approx(kendalltau(a, b).statistic)
    turned = rank_agreement(-a, b, rng())
    assert turned.kendall.value == pytest.approx(-found.kendall.value)
    again = rank_agreement(a, np.arctan(b), rng())
    assert again.spearman.value == pytest.approx(found.spearman.value)


@pytest.mark.parametrize("methods", [6, 7, 10])
def test_p_of_kendall_is_the_exact_one(methods: int) -> None:
    a, b = np.random.default_rng(3).normal(size=(2, methods))
    exact = kendalltau(a, b, method="exact").pvalue
    found = rank_agreement(a, b, rng())
    assert found.kendall_p == pytest.approx(exact, abs=1e-9 if methods < 8 else 0.02)


def test_false_alarms() -> None:
    source, runs = np.random.default_rng(1), 150
    found = [rank_agreement(*source.normal(size=(2, 6)), source) for _ in range(runs)]
    assert sum(one.kendall_p <= 0.05 for one in found if one.kendall_p) <= at_most(0.05, runs)
    assert sum(one.spearman_p <= 0.05 for one in found if one.spearman_p) <= at_most(0.05, runs)


@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_intervals_cover(rho: float) -> None:
    source, runs, missed = np.random.default_rng(1), 120, np.zeros(2)
    true = 6 / math.pi * math.asin(rho / 2), 2 / math.pi * math.asin(rho)
    for _ in range(runs):
        a, rest = source.normal(size=(2, 6))
        found = rank_agreement(a, rho * a + math.sqrt(1 - rho**2) * rest, source)
        missed += [true[0] not in found.spearman, true[1] not in found.kendall]
    assert (missed <= at_most(0.05, runs)).all()


def test_power() -> None:
    source, runs, methods = np.random.default_rng(1), 50, 9
    rho = 2 * math.sin(math.pi * detectable_rank(methods) / 6)
    found = 0
    for _ in range(runs):
        a, rest = source.normal(size=(2, methods))
        p = rank_agreement(a, rho * a + math.sqrt(1 - rho**2) * rest, source).spearman_p
        found += p is not None and p <= 0.05
    assert found / runs == pytest.approx(0.8, abs=0.17)


def test_bad_input() -> None:
    good = np.arange(6.0)
    for a, b in (
        (good[:3], good[:3]), (good, good[:5]), (good, np.ones(6)), (good * math.nan, good),
    ):  # fmt: skip
        with pytest.raises(BadEvidence):
            rank_agreement(a, b, rng())
    for alpha in (0.0, 1.0, math.nan):
        with pytest.raises(ExpungeError):
            rank_agreement(good, good, rng(), alpha=alpha)
    with pytest.raises(BadEvidence):
        smallest_rank_p(1)
    with pytest.raises(BadEvidence):
        detectable_rank(3)
