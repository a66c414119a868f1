"""Recovered = (s - o) / (g - o): golden values, invariances, and how often its interval holds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student
from scipy.stats import ttest_ind

from expunge.errors import BadEvidence, ExpungeError
from expunge.statistics.recovered import Groups, compare_groups, compare_recovered, gap_p_value

LOOSE = settings(deadline=None, derandomize=True, max_examples=40)
S, R, G = (2.0, 4.0, 3.0), (0.0, 2.0, 1.0, 1.0), (11.0, 10.0, 12.0)


def test_a_value_by_hand() -> None:
    recovered, effect = compare_recovered(Groups(S, R, G), margin=0.1)
    assert recovered.value == pytest.approx((3 - 1) / (11 - 1))
    assert effect.value == recovered.value
    # at r = 0 the contrast is s - o = 2, with the variances 1 / 3 and (2 / 3) / 4
    error = math.sqrt(1 / 3 + 1 / 6)
    freedom = (1 / 2) ** 2 / ((1 / 3) ** 2 / 2 + (1 / 6) ** 2 / 3)
    assert effect.p == pytest.approx(2 * student.sf(2 / error, freedom))
    assert effect.n == (3, 4, 3)


def test_the_ends_of_the_interval_are_where_the_contrast_is_just_significant() -> None:
    groups = Groups(S, R, G)
    recovered, effect = compare_recovered(groups, margin=0.1)
    ends = (
        (recovered.low, 0.025),
        (recovered.high, 0.025),
        (effect.low, 0.05),
        (effect.high, 0.05),
    )
    for end, level in ends:
        value, error, freedom = groups.contrast((1.0, end - 1.0, -end))
        assert student.sf(abs(value) / error, freedom) == pytest.approx(level)


def test_the_equivalence_test_agrees_with_its_interval() -> None:
    for shift in np.linspace(-1.5, 1.5, 31):
        groups = Groups(tuple(1.0 + shift + x for x in (-0.2, 0.0, 0.2)), R, G)
        _, effect = compare_recovered(groups, margin=0.1)
        assert effect.excluded == (effect.p_equivalent < effect.alpha)


@LOOSE
@given(
    scale=st.floats(0.01, 100).flatmap(lambda a: st.sampled_from([a, -a])),
    shift=st.floats(-50, 50),
    order=st.permutations(range(4)),
)
def test_units_direction_and_order_of_models_change_nothing(
    scale: float, shift: float, order: list[int]
) -> None:
    shuffled = tuple(R[place] for place in order)
    moved = [tuple(scale * x + shift for x in group) for group in (S, shuffled, G)]
    for one, other in zip(
        compare_recovered(Groups(S, R, G), margin=0.1),
        compare_recovered(Groups(*moved), margin=0.1),
        strict=True,
    ):
        for name in ("value", "low", "high"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-6, abs=1e-8)
    assert gap_p_value(Groups(S, R, G)) == pytest.approx(gap_p_value(Groups(*moved)), rel=1e-6)


def test_in_its_own_unit_it_is_welch_s_test() -> None:
    found = compare_groups(Groups(S, R, G), margin=0.5)
    welch = ttest_ind(S, R, equal_var=False)
    ends = welch.confidence_interval(0.9)
    assert (found.value, found.p) == pytest.approx((3 - 1, welch.pvalue))
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high))


def test_one_model_takes_the_spread_of_the_retrained_ones() -> None:
    groups = Groups((3.0,), R, (11.0,))
    value, error, freedom = groups.contrast((1.0, -1.0, 0.0))
    assert (value, freedom) == (2.0, pytest.approx(3.0))
    assert error == pytest.approx(math.sqrt(2 / 3 * (1 / 4 + 1)))
    # one original is no fixed point: it might have been another
    assert groups.contrast((0.0, -1.0, 1.0))[1] == pytest.approx(error)


def test_rounding_gives_the_least_spread() -> None:
    capped = Groups((50.0, 50.0), (50.0, 50.0, 50.0), (0.0, 0.0), grain=1.0)
    assert gap_p_value(capped) < 0.001
    recovered, effect = compare_recovered(capped, margin=0.1)
    assert recovered.value == 0.0
    assert effect.excluded
    assert effect.p == pytest.approx(1.0)
    with pytest.raises(BadEvidence, match="All 3 retrained models score 50"):
        Groups((50.0, 50.0), (50.0, 50.0, 50.0), (0.0, 0.0))


def test_without_a_lead_the_interval_has_no_end() -> None:
    recovered, _ = compare_recovered(Groups(S, R, (0.5, 2.5, 1.2)), margin=0.1)
    assert -recovered.low == recovered.high == math.inf
    with pytest.raises(BadEvidence, match="no lead to share"):
        compare_recovered(Groups(S, R, (1.0, 1.0)), margin=0.1)


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        (((), R, G), "subject"),
        ((S, (1.0,), G), "oracle"),
        ((S, R, ()), "original"),
        ((S, R, (math.nan,)), "NaN or infinite"),
    ],
)
def test_groups_that_cannot_be_read(groups: tuple[tuple[float, ...], ...], said: str) -> None:
    with pytest.raises(BadEvidence, match=said):
        Groups(*groups)


@pytest.mark.parametrize("arguments", [{"margin": 0.0}, {"margin": 0.1, "alpha": 0.5}])
def test_levels_that_make_no_sense(arguments: dict[str, float]) -> None:
    with pytest.raises(ExpungeError):
        compare_recovered(Groups(S, R, G), **arguments)


@pytest.mark.parametrize(("truth", "spread"), [(0.0, 1.0), (0.5, 0.3), (1.0, 1.0)])
def test_an_interval_holds_the_truth_as_often_as_it_says(truth: float, spread: float) -> None:
    rng, held, runs = np.random.default_rng(5), 0, 400
    for _ in range(runs):
        draws = (rng.normal(0, s, n) for s, n in ((spread, 8), (1.0, 7), (0.5, 8)))
        s, o, g = (tuple(d + at) for d, at in zip(draws, (4 * truth, 0.0, 4.0), strict=True))
        held += truth in compare_recovered(Groups(s, o, g), margin=0.1)[0]
    assert 0.92 <= held / runs <= 0.98
