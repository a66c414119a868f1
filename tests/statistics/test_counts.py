"""Exact intervals: golden values, symmetry, exact coverage; TPR at an FPR; Holm."""

from __future__ import annotations

import math

import numpy as np
import pytest
from audit_worlds import at_most
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom, binomtest, norm

from expunge.errors import BadEvidence, ExpungeError
from expunge.statistics.counts import (
    clopper_pearson,
    lower_limit,
    negatives_needed,
    tpr_at,
    upper_limit,
)
from expunge.statistics.decision import Family, holm

ALPHAS = st.floats(0.001, 0.4)


def counts() -> st.SearchStrategy[tuple[int, int]]:
    return st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def test_no_hit_and_all_hits_by_hand() -> None:
    # (1 - u)^20 = 0.025 and l^20 = 0.025
    end = 0.025 ** (1 / 20)
    assert clopper_pearson(0, 20).high == pytest.approx(1 - end)
    assert clopper_pearson(20, 20).low == pytest.approx(end)
    assert (clopper_pearson(0, 20).low, clopper_pearson(20, 20).high) == (0.0, 1.0)


def test_the_textbook_value() -> None:
    found = clopper_pearson(1, 10)
    assert (found.value, found.n) == (0.1, 10)
    assert (found.low, found.high) == pytest.approx((0.0025285785, 0.4450161174))


@settings(max_examples=40, deadline=None)
@given(counts(), ALPHAS)
def test_the_interval_is_scipy_s(pair: tuple[int, int], alpha: float) -> None:
    found, ends = clopper_pearson(*pair, alpha), binomtest(*pair).proportion_ci(1 - alpha)
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high), abs=1e-9)


def test_the_beta_form_is_scipy_s() -> None:
    k = np.arange(1, 40)
    assert lower_limit(k, 40, 0.03) == pytest.approx(beta.ppf(0.03, k, 41 - k), rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(counts(), ALPHAS)
def test_limits_are_mirrors(pair: tuple[int, int], alpha: float) -> None:
    k, n = pair
    assert upper_limit(k, n, alpha) == pytest.approx(float(1 - lower_limit(n - k, n, alpha)))
    assert lower_limit(k, n, alpha) <= k / n <= upper_limit(k, n, alpha)


@settings(max_examples=40, deadline=None)
@given(counts(), ALPHAS)
def test_limits_rise_with_hits_and_narrow_with_alpha(pair: tuple[int, int], alpha: float) -> None:
    k, n = pair
    if k < n:
        assert lower_limit(k + 1, n, alpha) > lower_limit(k, n, alpha)
        assert upper_limit(k, n, alpha) < upper_limit(k, n, alpha / 2)


@pytest.mark.parametrize("n", [1, 7, 40])
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_coverage_is_exact_for_every_rate(n: int, alpha: float) -> None:
    k = np.arange(n + 1)
    low, high = lower_limit(k, n, alpha / 2), upper_limit(k, n, alpha / 2)
    for rate in np.linspace(0.005, 0.995, 67):
        chances = binom.pmf(k, n, rate)
        assert chances[low > rate].sum() <= alpha / 2 + 1e-12
        assert chances[high < rate].sum() <= alpha / 2 + 1e-12


@pytest.mark.parametrize(
    ("hits", "trials"), [(-1, 5), (6, 5), (0, 0), (0.5, 5), (math.nan, 5), (1, math.inf), (1, -3)]
)
def test_counts_that_cannot_be(hits: float, trials: float) -> None:
    with pytest.raises(BadEvidence, match="expected"):
        lower_limit(hits, trials, 0.05)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, 2.0, math.nan])
def test_an_alpha_that_is_none(alpha: float) -> None:
    with pytest.raises(ExpungeError, match="above 0 and below 1"):
        clopper_pearson(1, 10, alpha)
    with pytest.raises(ExpungeError):
        negatives_needed(0.01, alpha)


def test_negatives_that_a_rate_takes() -> None:
    assert [negatives_needed(rate) for rate in (0.1, 0.01, 0.001, 0.0001)] == [
        29, 299, 2995, 29956,
    ]  # fmt: skip
    # exactly: 0.5^n <= 0.25 at 2, not 3
    assert negatives_needed(0.5, 0.25) == 2


@pytest.mark.parametrize(("n", "fpr"), [(298, 0.01), (28, 0.1), (2994, 0.001)])
def test_a_rate_that_the_sample_cannot_resolve_is_refused(n: int, fpr: float) -> None:
    scores = np.random.default_rng(0).normal(size=n)
    with pytest.raises(BadEvidence, match=f"takes at least {n + 1}"):
        tpr_at(scores, scores, fpr)
    found = tpr_at(scores, np.append(scores, 0.0), fpr)
    assert found.low <= found.value <= found.high


def test_tpr_by_hand() -> None:
    negatives, positives = np.arange(100.0), np.array([50.5, 89.0, 89.5, 90.0, 95.0])
    # 10 % of 100: at most 10 above the threshold 89; three positives lie strictly above it.
    assert tpr_at(positives, negatives, 0.1).value == 0.6


def test_the_ends_of_tpr_by_hand() -> None:
    # P(Bin(100, 0.1) < 4) = 0.0078, P(< 5) = 0.0237: strictly above the 4th largest, 96, lie 3.
    # P(Bin(100, 0.1) >= 18) = 0.0100, P(>= 17) = 0.0206: at or above the 18th, 82, lie 18.
    found = tpr_at(np.arange(100.0), np.arange(100.0), 0.1)
    assert found.value == 0.1
    assert found.low == pytest.approx(float(lower_limit(3, 100, 0.0125)))
    assert found.high == pytest.approx(float(upper_limit(18, 100, 0.0125)))


@pytest.mark.parametrize(("fpr", "away"), [(0.1, 0.0), (0.1, 2.0), (0.3, 1.0)])
def test_tpr_covers(fpr: float, away: float) -> None:
    rng, runs, missed = np.random.default_rng(0), 300, 0
    truth = norm.sf(norm.isf(fpr) - away)
    for _ in range(runs):
        found = tpr_at(rng.normal(size=80) + away, rng.normal(size=100), fpr)
        missed += truth not in found
    assert missed <= at_most(0.05, runs)


def test_tpr_of_a_constant_attack_says_nothing() -> None:
    found = tpr_at(np.zeros(50), np.zeros(50), 0.1)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 1.0)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=30, max_size=40))
def test_tpr_looks_at_ranks_alone(drawn: list[int]) -> None:
    scores = np.array(drawn, dtype=float)
    first, again = tpr_at(scores, scores[::-1], 0.2), tpr_at(np.exp(scores), np.exp(scores), 0.2)
    assert (first.value, first.low, first.high) == (again.value, again.low, again.high)


def test_holm_by_hand() -> None:
    # sorted 0.01 0.02 0.03 0.04 times 4 3 2 1: 0.04 0.06 0.06 0.04 -> running maximum
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.6]) == pytest.approx([1.0, 1.0])
    assert holm([0.2]) == pytest.approx([0.2])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.integers(0, 10**6))
def test_holm_keeps_order_and_names(p: list[float], seed: int) -> None:
    adjusted, order = holm(p), np.random.default_rng(seed).permutation(len(p))
    assert holm(np.array(p)[order]) == pytest.approx(adjusted[order])
    assert (adjusted >= np.array(p)).all()
    assert adjusted.min() == pytest.approx(min(1.0, min(p) * len(p)))


def test_a_family_by_name() -> None:
    family = Family(("loss", "lira", "blind"), (0.02, 0.001, 0.5))
    assert family.adjusted == pytest.approx({"loss": 0.04, "lira": 0.003, "blind": 0.5})
    assert family.found(0.05) == ("loss", "lira")
    assert family.found(0.01) == ("lira",)


@pytest.mark.parametrize(
    ("names", "p"),
    [(("a", "a"), (0.1, 0.2)), (("a",), (0.1, 0.2)), (("a",), (1.2,)), (("a",), (math.nan,)),
     ((), ())],
)  # fmt: skip
def test_families_that_are_none(names: tuple[str, ...], p: tuple[float, ...]) -> None:
    with pytest.raises(BadEvidence):
        Family(names, p)


def test_uncorrected_tests_find_leaks_that_are_not_there() -> None:
    rng, runs = np.random.default_rng(0), 2000
    p = rng.random((runs, 10))
    naive = (p <= 0.05).any(axis=1).sum()
    corrected = sum(bool((holm(row) <= 0.05).any()) for row in p)
    # 1 - 0.95^10 = 0.40, and 1 - (1 - 0.005)^10 = 0.049
    assert naive / runs == pytest.approx(0.40, abs=0.05)
    assert corrected <= at_most(0.05, runs)
