"""Epsilon from counts and from scores: golden values, direction, exact coverage, splitting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from audit_worlds import laplace_rates
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from expunge.errors import BadEvidence, ExpungeError
from expunge.statistics.counts import lower_limit, upper_limit
from expunge.statistics.epsilon import (
    Errors,
    best_threshold,
    epsilon_lower,
    epsilon_of,
    epsilon_upper,
    errors_at,
    most_provable,
    split_epsilon,
    split_epsilons,
)


@st.composite
def errors(draw: st.DrawFn) -> Errors:
    n, m = draw(st.integers(2, 60)), draw(st.integers(2, 60))
    return Errors(draw(st.integers(0, n)), n, draw(st.integers(0, m)), m)


def test_epsilon_of_rates_by_hand() -> None:
    assert epsilon_of(0.1, 0.2) == pytest.approx(math.log(8))  # 0.8 / 0.1, not 0.9 / 0.2
    assert epsilon_of(0.2, 0.1) == pytest.approx(math.log(8))
    assert epsilon_of(0.1, 0.2, 0.3) == pytest.approx(math.log(5))
    assert epsilon_of(0.5, 0.5) == 0.0
    assert epsilon_of(0.9, 0.8) == 0.0
    assert epsilon_of(0.0, 0.5) == math.inf
    assert epsilon_of(0.0, 0.5, 0.5) == 0.0


def test_laplace_has_its_epsilon_in_the_tails_and_nowhere_more() -> None:
    for threshold in np.linspace(-6, 8, 57):
        shown = float(epsilon_of(*laplace_rates(float(threshold), 1.5)))
        assert shown <= 1.5 + 1e-9
        if threshold >= 1.5 or threshold <= 0:
            assert shown == pytest.approx(1.5)


def test_what_a_sample_can_prove_at_most() -> None:
    found = [most_provable(n, n) for n in (20, 100, 250, 1000, 10_000)]
    assert found == pytest.approx([1.60, 3.28, 4.21, 5.60, 7.90], abs=0.005)
    # by hand: log((1 - u) / u), u = 1 - 0.025^(1/20)
    u = 1 - 0.025 ** (1 / 20)
    assert found[0] == pytest.approx(math.log((1 - u) / u))


def test_both_bounds_by_hand() -> None:
    one = Errors(5, 50, 10, 40)
    fpr, fnr = float(upper_limit(5, 50, 0.025)), float(upper_limit(10, 40, 0.025))
    assert epsilon_lower(one) == pytest.approx(math.log((1 - fnr) / fpr))
    fpr, fnr = float(lower_limit(5, 50, 0.025)), float(lower_limit(10, 40, 0.025))
    assert epsilon_upper(one) == pytest.approx(math.log((1 - fnr) / fpr))


@settings(max_examples=40, deadline=None)
@given(errors(), st.floats(0, 0.2), st.floats(0.005, 0.4))
def test_bounds_hold_the_estimate_and_never_more_than_n_supports(
    one: Errors, delta: float, alpha: float
) -> None:
    low = epsilon_lower(one, delta=delta, alpha=alpha)
    high = epsilon_upper(one, delta=delta, alpha=alpha)
    shown = epsilon_of(
        one.false_positives / one.negatives, one.false_negatives / one.positives, delta
    )
    assert 0 <= low <= shown <= high
    assert low <= most_provable(one.positives, one.negatives, delta=delta, alpha=alpha) < math.inf


@settings(max_examples=40, deadline=None)
@given(errors(), st.floats(0, 0.2))
def test_fewer_errors_show_more(one: Errors, delta: float) -> None:
    if one.false_positives and one.false_negatives:
        better = Errors(one.false_positives - 1, one.negatives, one.false_negatives, one.positives)
        other = Errors(one.false_positives, one.negatives, one.false_negatives - 1, one.positives)
        assert epsilon_lower(better, delta=delta) >= epsilon_lower(one, delta=delta)
        assert epsilon_lower(other, delta=delta) >= epsilon_lower(one, delta=delta)
        assert epsilon_lower(one, delta=delta + 0.1) <= epsilon_lower(one, delta=delta)


@settings(max_examples=40, deadline=None)
@given(errors())
def test_both_kinds_of_error_weigh_alike(one: Errors) -> None:
    turned = Errors(one.false_negatives, one.positives, one.false_positives, one.negatives)
    assert epsilon_lower(turned) == pytest.approx(epsilon_lower(one))
    assert epsilon_upper(turned) == pytest.approx(epsilon_upper(one))


@pytest.mark.parametrize("delta", [0.0, 0.05])
@pytest.mark.parametrize("n", [8, 20])
def test_bounds_miss_no_more_than_they_say_for_every_pair_of_rates(n: int, delta: float) -> None:
    """Every count is enumerated, so that this is no simulation."""
    k = range(n + 1)
    tables = [
        np.array([[bound(Errors(i, n, j, n), delta=delta) for j in k] for i in k])
        for bound in (epsilon_lower, epsilon_upper)
    ]
    for fpr in np.linspace(0.02, 0.98, 13):
        for fnr in np.linspace(0.02, 0.98, 13):
            chances = np.outer(binom.pmf(k, n, fpr), binom.pmf(k, n, fnr))
            shown = epsilon_of(fpr, fnr, delta)
            truth = max(shown, epsilon_of(1 - fpr, 1 - fnr, delta))
            assert chances[tables[0] > shown].sum() <= 0.05
            assert chances[tables[1] < truth].sum() <= 0.05


def test_the_best_threshold_by_hand() -> None:
    ones, zeros = np.array([[1.0], [3.0], [3.0], [4.0]]), np.array([[0.0], [0.0], [1.0], [2.0]])
    assert best_threshold(ones, zeros, 0.0, 0.05) == [3.0]
    assert errors_at(ones[:, 0], zeros[:, 0], 3.0) == Errors(0, 4, 1, 4)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_the_best_threshold_is_that_of_a_search(seed: int, tied: bool) -> None:
    rng = np.random.default_rng(seed)
    ones, zeros = rng.normal(size=(2, 12)) + np.array([[1.5], [0.0]])
    if tied:
        ones, zeros = np.round(ones), np.round(zeros)
    cut = best_threshold(ones[:, None], zeros[:, None], 0.0, 0.05)[0]
    best = max(epsilon_lower(errors_at(ones, zeros, at)) for at in np.append(ones, zeros))
    assert epsilon_lower(errors_at(ones, zeros, cut)) == pytest.approx(best)


def test_splitting_counts_only_what_was_not_looked_at() -> None:
    rng = np.random.default_rng(0)
    found = split_epsilon(np.zeros(41), np.ones(30), rng)
    # Apart and turned round: no error in the other halves, 21 and 15.
    assert found.errors == Errors(0, 15, 0, 21)
    assert found.lower == found.most == most_provable(21, 15)
    assert found.upper == math.inf
    assert "no attack could have shown more than" in str(found)


def test_splitting_ignores_order_only_through_its_generator() -> None:
    rng = np.random.default_rng(3)
    ones, zeros = rng.normal(size=(2, 40, 3)) + np.array([[[1.0]], [[0.0]]])
    first = split_epsilons(ones, zeros, np.random.default_rng(1))
    assert first == split_epsilons(ones, zeros, np.random.default_rng(1))
    # The same ranks give the same counts.
    squeezed = split_epsilons(np.exp(ones), np.exp(zeros), np.random.default_rng(1))
    assert [one.errors for one in squeezed] == [one.errors for one in first]


def test_an_epsilon_counted_where_it_was_chosen_is_too_large() -> None:
    """Why there is a split: the same data give a point estimate above the truth of 1."""
    rng, above = np.random.default_rng(0), 0
    cuts = np.linspace(-3, 4, 99)
    for _ in range(100):
        ones, zeros = rng.laplace(1, 1, 300), rng.laplace(0, 1, 300)
        tpr = (ones[:, None] >= cuts).mean(axis=0)
        fpr = (zeros[:, None] >= cuts).mean(axis=0)
        kept = fpr > 0
        above += bool(np.log(tpr[kept] / fpr[kept]).max() > 1)
    assert above > 80


def test_bad_errors() -> None:
    for counts in ((-1, 5, 0, 5), (0, 0, 0, 5), (6, 5, 0, 5), (0, 5, 0, -5)):
        with pytest.raises(BadEvidence):
            Errors(*counts)
    good = Errors(1, 5, 1, 5)
    for delta in (-0.1, 1.0, math.nan):
        with pytest.raises(ExpungeError):
            epsilon_lower(good, delta=delta)
        with pytest.raises(ExpungeError):
            epsilon_upper(good, delta=delta)
    for alpha in (0.0, 1.0, math.nan):
        with pytest.raises(ExpungeError):
            epsilon_upper(good, alpha=alpha)


def test_bad_scores() -> None:
    rng, good = np.random.default_rng(0), np.arange(8.0)
    for bad in (np.arange(3.0), np.full(8, np.nan), np.zeros((8, 2)), []):
        with pytest.raises(BadEvidence):
            split_epsilon(bad, good, rng)
    with pytest.raises(BadEvidence, match="expected the same"):
        split_epsilons(np.zeros((8, 2)), np.zeros((8, 3)), rng)
    with pytest.raises(BadEvidence, match="threshold"):
        errors_at(good, good, math.nan)
