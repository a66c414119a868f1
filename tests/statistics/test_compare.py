"""Two groups compared: golden values, both forms of equivalence agree, bad input."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp, mannwhitneyu, norm
from sklearn.metrics import roc_auc_score

from expunge.errors import BadEvidence, ExpungeError
from expunge.statistics.counts import compare_distributions, dkw_band
from expunge.statistics.result import Effect
from expunge.statistics.roc_area import auc, compare_auc

COMPARED: dict[str, Callable[..., Effect]] = {
    "AUC": compare_auc,
    "KS": compare_distributions,
}


def by_groups(kind: str, first: object, second: object, **rest: float) -> Effect:
    return COMPARED[kind](first, second, **rest)


def test_an_area_by_hand() -> None:
    assert auc([2.0, 3.0], [0.0, 1.0]) == 1.0
    assert auc([0.0], [1.0, 2.0]) == 0.0
    # 3 beats 1, 2, and ties with 3; 4 beats all: (2.5 + 3) / 6
    assert auc([3.0, 4.0], [1.0, 2.0, 3.0]) == 5.5 / 6
    columns = auc([[4.0, 5.0, 2.0], [3.0, 4.0, 2.0]], [[2.0, 9.0, 2.0], [1.0, 8.0, 2.0]])
    assert columns.tolist() == [1.0, 0.0, 0.5]


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9), st.sampled_from([3, 99]))
def test_an_area_is_a_count_of_pairs(seed: int, first: int, second: int, kinds: int) -> None:
    rng = np.random.default_rng(seed)
    ones = rng.integers(0, kinds, size=(first, 2)).astype(float)
    zeros = rng.integers(0, kinds, size=(second, 2)).astype(float)
    for column, found in enumerate(auc(ones, zeros)):
        a, b = ones[:, column], zeros[:, column]
        assert found == pytest.approx(np.mean([(x > y) + (x == y) / 2 for x in a for y in b]))
        assert found == pytest.approx(mannwhitneyu(a, b).statistic / (first * second))
        truth = np.repeat([1, 0], [first, second])
        assert found == pytest.approx(roc_auc_score(truth, np.concatenate([a, b])))
        assert found == auc(a, b)


def test_areas_of_nothing_are_refused() -> None:
    for ones, zeros in (
        ([], [1.0]), ([1.0], []), ([math.nan], [1.0]), ([1.0], [math.inf]),
        (np.zeros((2, 3)), np.zeros((2, 1))), (np.zeros((2, 0)), np.zeros((1, 0))),
    ):  # fmt: skip
        with pytest.raises(BadEvidence):
            auc(ones, zeros)


def test_auc_by_hand() -> None:
    # 3 beats 1, 2, and ties with 3; 4 beats all: (2.5 + 3) / 6
    found = compare_auc([3.0, 4.0], [1.0, 2.0, 3.0], margin=0.1)
    assert found.value == pytest.approx(5.5 / 6 - 0.5)


def test_auc_error_is_that_of_mann_and_whitney_at_half() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=300), rng.normal(size=300)
    found = compare_auc(a, b, margin=0.1)
    rank = mannwhitneyu(a, b, use_continuity=False).pvalue
    assert found.p == pytest.approx(rank, rel=0.05)
    half = 1.645 * math.sqrt(601 / (12 * 300 * 300))
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.03)


@pytest.mark.parametrize(("kind", "shift"), [("AUC", 1.5), ("KS", 1.5)])
def test_a_shift_is_found_and_none_is_excluded(kind: str, shift: float) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 2000))
    none, some = (by_groups(kind, a + by, b, margin=0.15) for by in (0.0, shift))
    assert none.p > 0.05
    assert none.excluded
    assert some.p < 1e-9
    assert not some.excluded


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(COMPARED)), st.integers(0, 10**6), st.floats(-1, 1),
    st.floats(0.05, 0.7), st.sampled_from([0.01, 0.05, 0.2]),
)  # fmt: skip
def test_the_interval_and_the_p_value_of_equivalence_agree(
    kind: str, seed: int, shift: float, margin: float, alpha: float
) -> None:
    a, b = np.random.default_rng(seed).normal(size=(2, 40)) * 0.5 + [[shift], [0.0]]
    found = by_groups(kind, a, b, margin=margin, alpha=alpha)
    assert found.low <= found.value <= found.high
    assert found.excluded == (found.p_equivalent < alpha)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(COMPARED)), st.integers(0, 10**6))
def test_swapped_groups_mirror(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=12) + 0.5, rng.normal(size=12)
    one, other = (by_groups(kind, *pair, margin=0.3) for pair in ((a, b), (b, a)))
    assert one.p == pytest.approx(other.p)
    assert one.p_equivalent == pytest.approx(other.p_equivalent)
    sign = 1 if kind == "KS" else -1
    assert other.value == pytest.approx(sign * one.value)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(COMPARED)), st.integers(0, 10**6))
def test_order_within_a_group_does_not_matter(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, 15))
    one = by_groups(kind, a, b, margin=0.3)
    other = by_groups(kind, rng.permutation(a), rng.permutation(b), margin=0.3)
    assert (one.p, one.low, one.high) == pytest.approx((other.p, other.low, other.high))


@pytest.mark.parametrize("kind", sorted(COMPARED))
def test_a_wider_margin_is_easier_to_exclude(kind: str) -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 50))
    p = [by_groups(kind, a, b, margin=m).p_equivalent for m in (0.1, 0.2, 0.3, 0.45)]
    assert p == sorted(p, reverse=True)
    assert p[-1] < p[0]


@pytest.mark.parametrize("n", [2, 3, 10])
def test_a_constant_attack_proves_nothing_with_few(n: int) -> None:
    found = compare_auc(np.zeros(n), np.zeros(n), margin=0.1)
    assert (found.value, found.p) == (0.0, 1.0)
    assert not found.excluded
    apart = compare_auc(np.ones(n), np.zeros(n), margin=0.1)
    assert apart.value == 0.5
    assert not apart.excluded


def test_auc_of_a_narrow_group_is_not_called_a_leak() -> None:
    """Ten values in the middle of ten wide ones: a normal limit called 9 % of these a leak."""
    rng, runs = np.random.default_rng(0), 400
    found = [compare_auc(0.05 * rng.normal(size=10), rng.normal(size=10), margin=0.1).p
             for _ in range(runs)]  # fmt: skip
    assert np.mean(np.array(found) <= 0.05) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


def test_ks_by_hand() -> None:
    # F jumps at 1 2 3, G at 2.5 3.5 4.5: at 2 the gap is 2/3
    found = compare_distributions([1.0, 2.0, 3.0], [2.5, 3.5, 4.5], margin=0.5)
    assert found.value == pytest.approx(2 / 3)
    assert found.p == pytest.approx(ks_2samp([1, 2, 3], [2.5, 3.5, 4.5]).pvalue)
    assert (found.unit, found.n) == ("D", (3, 3))
    alike = compare_distributions(np.arange(100.0), np.arange(100.0), margin=0.3)
    # each band sqrt(log(2 / 0.025) / 200); 4 exp(-2 (0.3 / 0.2)^2)
    assert alike.high == pytest.approx(2 * math.sqrt(math.log(80) / 200))
    assert alike.p_equivalent == pytest.approx(4 * math.exp(-4.5))


def test_a_band_by_hand() -> None:
    band = dkw_band([3.0, 1.0, 2.0, 2.0])
    half = math.sqrt(math.log(40) / 8)
    assert band.at.tolist() == [1.0, 2.0, 2.0, 3.0]
    assert band.value.tolist() == [0.25, 0.75, 0.75, 1.0]
    assert band.high.tolist() == pytest.approx([0.25 + half, 1.0, 1.0, 1.0])
    assert band.low.tolist() == pytest.approx([0.0, 0.75 - half, 0.75 - half, 1 - half])


def test_a_band_holds_the_whole_truth() -> None:
    rng, runs, missed = np.random.default_rng(0), 600, 0
    for _ in range(runs):
        band = dkw_band(rng.normal(size=40))
        truth = norm.cdf(band.at)
        # The true function is nearest to leaving just below a jump as well as at it.
        missed += bool((truth > band.high).any() or (truth < band.low).any())
    assert 0.01 <= missed / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


@pytest.mark.parametrize("kind", sorted(COMPARED))
def test_bad_groups(kind: str) -> None:
    good = np.arange(5.0)
    for bad in ([], [math.nan] * 5, [math.inf] * 5, np.zeros((5, 5))):
        with pytest.raises(BadEvidence):
            by_groups(kind, bad, good, margin=0.1)
        with pytest.raises(BadEvidence):
            by_groups(kind, good, bad, margin=0.1)
    for margin in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ExpungeError, match="margin"):
            by_groups(kind, good, good[::-1], margin=margin)
    for alpha in (0.0, 1.0, math.nan):
        with pytest.raises(ExpungeError, match="alpha"):
            by_groups(kind, good, good[::-1], margin=0.1, alpha=alpha)
    with pytest.raises(ExpungeError, match="2 alpha"):
        compare_auc([1.0, 2.0], [1.0, 2.0], margin=0.1, alpha=0.6)
