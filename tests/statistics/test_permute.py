"""Permutation tests: by hand, exact sizes, against SciPy, false alarms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from audit_worlds import at_most
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test

from expunge.errors import BadEvidence, ExpungeError
from expunge.statistics.permute import permute_groups, permute_pairs, smallest_p


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def gap(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
    return a.mean(axis=axis) - b.mean(axis=axis)


def test_the_smallest_p_values() -> None:
    assert [round(smallest_p(n, n), 3) for n in (2, 3, 4, 5)] == [0.333, 0.1, 0.029, 0.008]
    assert [smallest_p(1, n, side="greater") for n in (9, 19, 99)] == [0.1, 0.05, 0.01]


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_groups_that_are_apart_reach_it(n: int) -> None:
    found = permute_groups(np.arange(n) + 100.0, np.arange(n), rng())
    assert found.p == pytest.approx(smallest_p(n, n)) == found.smallest_p
    assert (found.exact, found.relabellings) == (True, math.comb(2 * n, n))
    assert (found.detectable == math.inf) == (found.smallest_p > 0.05)


def test_by_hand() -> None:
    # first groups of two from 1 2 3 4: sums 3 4 5 5 6 7; 7 is reached once
    assert permute_groups([3.0, 4.0], [1.0, 2.0], rng(), side="greater").p == pytest.approx(1 / 6)
    # 1 + 4 = 5 is reached by 5 5 6 7
    assert permute_groups([1.0, 4.0], [2.0, 3.0], rng(), side="greater").p == pytest.approx(4 / 6)
    assert permute_groups([1.0, 4.0], [2.0, 3.0], rng()).p == 1.0
    # signs of 1 2 3: only +++ reaches 6, out of 8
    found = permute_pairs([1.0, 2.0, 3.0], [0.0, 0.0, 0.0], rng(), side="greater")
    assert (found.p, found.value, found.relabellings) == (1 / 8, 2.0, 8)


def test_one_model_against_19_reaches_five_percent() -> None:
    found = permute_groups([9.0], np.arange(19) / 3, rng(), side="greater")
    assert found.p == pytest.approx(0.05)


def test_equal_sums_count_as_equal_in_spite_of_rounding() -> None:
    tenth = np.array([0.1, 0.2, 0.3, 0.1, 0.2, 0.3])
    assert permute_groups(tenth[:3], tenth[3:], rng()).p == 1.0
    assert permute_pairs(tenth[:3] + 0.7, tenth[:3] * 0 + 0.7, rng(), side="greater").p == 1 / 8


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["both", "greater", "less"]), st.booleans())
def test_exact_tests_are_scipy_s(seed: int, side: str, tied: bool) -> None:
    a, b = np.random.default_rng(seed).normal(size=(2, 4))
    if tied:
        a, b = np.round(a), np.round(b)
    other = "two-sided" if side == "both" else side
    slow = permutation_test((a, b), gap, n_resamples=np.inf, alternative=other, vectorized=True)
    mine = permute_groups(a, b, rng(), side=side)  # type: ignore[arg-type]
    assert mine.p == pytest.approx(slow.pvalue)
    slow = permutation_test(
        (a, b), gap, n_resamples=np.inf, alternative=other, vectorized=True,
        permutation_type="samples",
    )  # fmt: skip
    mine = permute_pairs(a, b, rng(), side=side)  # type: ignore[arg-type]
    assert mine.p == pytest.approx(slow.pvalue)


def test_random_relabellings_come_near_the_exact_ones() -> None:
    a, b = np.random.default_rng(2).normal(size=(2, 8)) + np.array([[0.8], [0.0]])
    exact = permute_groups(a, b, rng())
    # The same question with each value twice is beyond what is enumerated.
    many = permute_groups(np.tile(a, 2), np.tile(b, 2), rng())
    assert (exact.exact, many.exact, many.relabellings) == (True, False, 9999)
    assert many.p < exact.p
    pairs = permute_pairs(np.tile(a, 2), np.tile(b, 2), rng())
    assert not pairs.exact


def test_a_random_test_is_never_certain() -> None:
    a, b = np.arange(20) + 100.0, np.arange(20.0)
    for test in (permute_groups, permute_pairs):
        found = test(a, b, rng(), draws=99, side="greater")
        assert found.p == found.smallest_p == 0.01
        assert test(a, b, rng(), draws=99).p == 0.02


@pytest.mark.parametrize("draws", [99, 19])
def test_false_alarms_of_random_tests(draws: int) -> None:
    source, runs = np.random.default_rng(1), 600
    groups = source.standard_cauchy((runs, 2, 10))
    found = [permute_groups(a, b, source, draws=draws, side="greater").p for a, b in groups]
    assert (np.array(found) <= 0.05).sum() <= at_most(0.05, runs)
    # Without the seen one among the drawn, 19 draws would call 1 in 20 "p = 0".
    assert min(found) >= 1 / (draws + 1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_sides_and_order(seed: int) -> None:
    source = np.random.default_rng(seed)
    a, b = source.normal(size=5), source.normal(size=4)
    found = permute_groups(a, b, rng(), side="greater").p
    assert found == permute_groups(b, a, rng(), side="less").p
    assert found == permute_groups(source.permutation(a), source.permutation(b), rng(),
                                   side="greater").p  # fmt: skip
    assert permute_groups(a + 1, b, rng(), side="greater").p <= found


def test_bad_input() -> None:
    good = np.arange(4.0)
    for test in (permute_groups, permute_pairs):
        for bad in ([], [math.nan] * 4, np.zeros((4, 2))):
            with pytest.raises(BadEvidence):
                test(bad, good, rng())
        with pytest.raises(ExpungeError, match="side"):
            test(good, good, rng(), side="up")  # type: ignore[arg-type]
        with pytest.raises(ExpungeError):
            test(good, good[::-1], rng(), alpha=1.5)
        with pytest.raises(BadEvidence, match="draws"):
            test(np.arange(20.0), np.arange(20.0), rng(), draws=0)
    with pytest.raises(BadEvidence):
        permute_pairs(good, good[:3], rng())
    with pytest.raises(BadEvidence):
        smallest_p(0, 3)
