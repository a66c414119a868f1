"""Facts paired across models: golden values, direction, coverage, and a bootstrap as slow twin."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import t as student

from expunge.errors import BadEvidence, ExpungeError
from expunge.statistics.paired import Facts, groups_needed
from expunge.statistics.recovered import compare_recovered, gap_p_value

GROUPS = ("a", "a", "b", "b", "c", "c")


def facts(subject: list[float], *oracles: list[float], grain: float = 1e-6) -> Facts:
    original = [1.0, 1.0, 0.8, 1.0, 0.9, 1.0]
    return Facts(np.array(subject), np.array(oracles), np.array(original), GROUPS, grain)


def test_a_value_and_an_error_by_hand() -> None:
    found = facts([0.5, 0.5, 0.2, 0.4, 0.1, 0.3], [0.0, 0.1, 0.0, 0.1, 0.0, 0.0])
    # s - o summed by subject: 0.9, 0.5, 0.4; over six facts 0.3
    value, error, freedom = found.contrast((1.0, -1.0, 0.0))
    assert value == pytest.approx(1.8 / 6)
    each = np.array([0.9, 0.5, 0.4])
    assert error == pytest.approx(math.sqrt(each.var(ddof=1) * 3) / 6)
    assert freedom == pytest.approx(2.0)
    recovered, effect = compare_recovered(found, margin=0.1)
    assert recovered.value == pytest.approx(1.8 / (5.7 - 0.2))
    assert effect.p == pytest.approx(2 * student.sf(value / error, 2))
    assert recovered.n == 3
    assert effect.n == (3, 1)


def test_a_fact_at_least_may_go_astray_by_chance() -> None:
    nothing = [0.0] * 6
    error = facts(nothing, nothing, grain=1.0).contrast((1.0, -1.0, 0.0))[1]
    assert error == pytest.approx(1 / 6)


def test_levels_of_retrained_models_that_differ_are_added() -> None:
    rng = np.random.default_rng(0)
    noise = 0.01 * rng.normal(size=(3, 6))
    alike = facts([0.1] * 6, *(0.1 + noise).tolist())
    apart = facts([0.1] * 6, *(np.array([[0.0], [0.1], [0.2]]) + noise).tolist())
    assert alike.contrast((1.0, -1.0, 0.0))[1] < 0.01
    # one draw of the subject, and the mean of three: 0.1 sqrt(1 + 1 / 3)
    expected = 0.1 * math.sqrt(4 / 3)
    assert apart.contrast((1.0, -1.0, 0.0))[1] == pytest.approx(expected, rel=0.1)
    assert apart.contrast((1.0, -1.0, 0.0))[2] == pytest.approx(2.0, rel=0.01)


def test_the_original_is_whole_and_a_retrained_model_is_nothing() -> None:
    oracle = [0.0, 0.1, 0.0, 0.1, 0.0, 0.0]
    whole, _ = compare_recovered(facts([1.0, 1.0, 0.8, 1.0, 0.9, 1.0], oracle), margin=0.1)
    none, _ = compare_recovered(facts(oracle, oracle), margin=0.1)
    assert whole.value == pytest.approx(1.0)
    assert none.value == 0


Array = NDArray[np.float64]


def world(
    rng: np.random.Generator, left: float, *, groups: int, oracles: int, level: float
) -> Facts:
    """Subjects of six facts; some are easy to guess; the unlearned model keeps a share."""
    names = tuple(f"g{n}" for n in range(groups) for _ in range(6))
    guess = np.repeat(rng.uniform(0.0, 0.2, groups), 6)
    original = np.clip(0.9 + 0.05 * rng.normal(size=len(names)), 0, 1)
    model = lambda: guess + level * rng.normal() + 0.1 * rng.normal(size=len(names))  # noqa: E731
    others = np.stack([model() for _ in range(oracles)])
    subject = model() + left * (original - guess)
    return Facts(subject, others, original, names, 1e-6)


@pytest.mark.parametrize("left", [0.0, 0.4])
@pytest.mark.parametrize(("oracles", "level"), [(1, 0.0), (2, 0.0), (3, 0.03), (5, 0.1)])
def test_the_interval_holds_the_truth(left: float, oracles: int, level: float) -> None:
    rng, hits, times = np.random.default_rng(7), 0, 600
    for _ in range(times):
        found = world(rng, left, groups=8, oracles=oracles, level=level)
        # what `compare_recovered` inverts: the truth is held where its contrast is not significant
        value, error, freedom = found.contrast((1.0, left - 1.0, -left))
        hits += abs(value) <= student.isf(0.025, freedom) * error
    assert hits / times > 0.92


def test_what_is_left_is_found_and_what_is_gone_is_not() -> None:
    rng = np.random.default_rng(11)
    effects = {
        left: [
            compare_recovered(world(rng, left, groups=8, oracles=1, level=0.0), margin=0.1)[1]
            for _ in range(40)
        ]
        for left in (0.0, 0.4)
    }
    assert all(one.p < 0.05 and one.value > 0 for one in effects[0.4])
    assert sum(one.p < 0.05 and one.value > 0 for one in effects[0.0]) <= 4
    assert sum(one.high < one.margin for one in effects[0.0]) > 30
    assert not any(one.high < one.margin for one in effects[0.4])


def test_one_retrained_model_cannot_tell_of_other_trainings() -> None:
    """The limit that the verdict prints: levels that differ are not seen in one model."""
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(200):
        value, error, freedom = world(rng, 0.0, groups=8, oracles=1, level=0.1).contrast((1, -1, 0))
        hits += abs(value) <= student.isf(0.025, freedom) * error
    assert hits / 200 < 0.8


def test_a_bootstrap_over_subjects_agrees() -> None:
    rng = np.random.default_rng(5)
    found = world(rng, 0.3, groups=40, oracles=1, level=0.0)
    recovered, _ = compare_recovered(found, margin=0.1)
    drawn = []
    s, o, g = (one.reshape(40, 6) for one in (found.subject, found.oracles[0], found.original))
    for _ in range(2000):
        rows = rng.integers(40, size=40)
        drawn.append((s[rows] - o[rows]).sum() / (g[rows] - o[rows]).sum())
    low, high = np.quantile(drawn, [0.025, 0.975])
    width = high - low
    assert abs(recovered.low - low) < 0.25 * width
    assert abs(recovered.high - high) < 0.25 * width


def test_an_original_that_knows_as_much_is_not_told_apart() -> None:
    rng = np.random.default_rng(1)
    same = 0.5 + 0.1 * rng.normal(size=(2, 6))
    assert gap_p_value(Facts(same[0], same[:1], same[1], GROUPS)) > 0.05


def test_how_many_subjects_would_do() -> None:
    few = groups_needed([0.1] * 18, GROUPS * 3, 0.9, margin=0.1)
    fewer = groups_needed([0.1] * 18, GROUPS * 3, 0.9, margin=0.3)
    # sqrt(2 * 0.1 * 0.9 / 6) = 0.173; (1.68 + 1.30) * 0.173 / sqrt(n) <= 0.09 from n = 34 on
    assert few == pytest.approx(34, abs=2)
    assert fewer < few / 4


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"groups": ("a",) * 6}, "expected 2 subjects"),
        ({"groups": GROUPS[:5]}, "of \\[5, 6\\] facts"),
        ({"subject": np.array([np.nan] * 6)}, "NaN"),
        ({"oracles": np.zeros((0, 6))}, "oracles"),
    ],
)
def test_what_cannot_be_compared_is_refused(change: dict[str, object], told: str) -> None:
    given = {"subject": np.zeros(6), "oracles": np.zeros((2, 6)), "original": np.ones(6)}
    with pytest.raises(BadEvidence, match=told):
        Facts(**{**given, "groups": GROUPS, **change})  # type: ignore[arg-type]


def test_a_margin_of_nothing_is_refused() -> None:
    with pytest.raises(ExpungeError, match="margin"):
        groups_needed([0.1], ("a",), 0.9, margin=0.0)
