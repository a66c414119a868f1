"""The auditor audited: every bound in worlds whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from audit_worlds import WORLDS, World, at_most, laplace_rates, normal_rates
from scipy.stats import laplace, norm

from expunge.statistics.counts import compare_distributions
from expunge.statistics.decision import decide
from expunge.statistics.epsilon import epsilon_of, split_epsilons
from expunge.statistics.roc_area import compare_auc

each_world = pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
RUNS = 200


def columns(world: World, n: int, runs: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return world.draw(np.random.default_rng(seed), n, runs)


def true_epsilon(name: str, threshold: float, sign: float = 1.0) -> float:
    """Of calling positive what lies at or above a threshold (below it, for a sign of -1)."""
    fpr, fnr = {"laplace": laplace_rates, "shifted": normal_rates}[name](sign * threshold, 1.0)
    return float(epsilon_of(fpr, fnr) if sign > 0 else epsilon_of(1 - fpr, 1 - fnr))


@each_world
@pytest.mark.parametrize("n", [16, 100])
def test_split_bounds_are_below_the_truth(world: World, n: int) -> None:
    ones, zeros = columns(world, n, RUNS)
    found = split_epsilons(ones, zeros, np.random.default_rng(1))
    assert sum(one.lower > world.epsilon + 1e-9 for one in found) <= at_most(0.05, RUNS)
    assert all(one.lower <= one.most for one in found)
    if world.same:
        # The epsilon of identical worlds covers 0 in at least 95 %.
        assert sum(one.lower == 0 for one in found) >= RUNS - at_most(0.05, RUNS)


@pytest.mark.parametrize("name", ["laplace", "shifted"])
def test_split_bounds_hold_the_epsilon_of_the_threshold_they_chose(name: str) -> None:
    """Harder than the world's epsilon: the very threshold, whose rates are known."""
    ones, zeros = columns(WORLDS[name], 80, RUNS)
    found = split_epsilons(ones, zeros, np.random.default_rng(1))
    truth = [true_epsilon(name, one.threshold, one.direction) for one in found]
    low = sum(one.lower > true for one, true in zip(found, truth, strict=True))
    high = sum(one.upper < true for one, true in zip(found, truth, strict=True))
    assert max(low, high) <= at_most(0.05, RUNS)
    assert np.mean([one.lower for one in found]) > 0.1


@each_world
@pytest.mark.parametrize("n", [10, 60])
def test_areas_cover_and_raise_no_false_alarm(world: World, n: int) -> None:
    ones, zeros = columns(world, n, RUNS)
    found = [compare_auc(a, b, margin=0.1) for a, b in zip(ones.T, zeros.T, strict=True)]
    for miss in (
        sum(one.low > world.auc - 0.5 for one in found),
        sum(one.high < world.auc - 0.5 for one in found),
    ):
        # Steps of ten ranks and Student's t leave a point: 5 to 6 % were measured.
        assert miss <= at_most(0.06, RUNS)
    if world.auc == 0.5:
        assert sum(one.p <= 0.05 for one in found) <= at_most(0.055, RUNS)


@each_world
def test_distances_cover_and_raise_no_false_alarm(world: World) -> None:
    n, runs = 60, 120
    ones, zeros = columns(world, n, runs)
    found = [compare_distributions(a, b, margin=0.3) for a, b in zip(ones.T, zeros.T, strict=True)]
    if world.same:
        assert sum(one.p <= 0.05 for one in found) <= at_most(0.05, runs)
        assert sum(one.low > 0 for one in found) <= at_most(0.05, runs)
    far = {"laplace": 2 * laplace.cdf(0.5) - 1, "shifted": 2 * norm.cdf(0.5) - 1}
    for name, truth in far.items():
        if world is WORLDS[name]:
            missed = sum(not one.low <= truth <= one.high for one in found)
            assert missed <= at_most(0.05, runs)


def audit(ones: np.ndarray, zeros: np.ndarray) -> str:
    """Two attacks on the same scores, read as one family."""
    areas = compare_auc(ones, zeros, margin=0.1)
    return decide([areas, compare_distributions(ones, zeros, margin=0.3)]).word


@pytest.mark.parametrize("name", ["identical", "heavy tails", "ties"])
def test_an_audit_of_equals_finds_something_in_five_percent_at_most(name: str) -> None:
    runs = 40
    ones, zeros = columns(WORLDS[name], 40, runs)
    words = [audit(a, b) for a, b in zip(ones.T, zeros.T, strict=True)]
    assert words.count("found") <= at_most(0.05, runs)


def test_an_audit_of_a_shift_finds_it() -> None:
    runs = 20
    ones, zeros = columns(WORLDS["shifted"], 100, runs)
    words = [audit(a, b) for a, b in zip(ones.T, zeros.T, strict=True)]
    assert words.count("found") == runs


@pytest.mark.slow
@each_world
@pytest.mark.parametrize("n", [8, 64, 512])
def test_the_bigger_audit(world: World, n: int) -> None:
    runs = 2000
    ones, zeros = columns(world, n, runs, seed=7)
    found = split_epsilons(ones, zeros, np.random.default_rng(1))
    assert sum(one.lower > world.epsilon + 1e-9 for one in found) <= at_most(0.05, runs)
    areas = [compare_auc(a, b, margin=0.1) for a, b in zip(ones.T, zeros.T, strict=True)]
    truth = world.auc - 0.5
    assert sum(one.low > truth for one in areas) <= at_most(0.06, runs)
    assert sum(one.high < truth for one in areas) <= at_most(0.06, runs)
    if world.auc == 0.5:
        assert sum(one.p <= 0.05 for one in areas) <= at_most(0.055, runs)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["identical", "heavy tails", "ties"])
def test_the_bigger_family_wise_error(name: str) -> None:
    runs = 1000
    ones, zeros = columns(WORLDS[name], 100, runs, seed=9)
    words = [audit(a, b) for a, b in zip(ones.T, zeros.T, strict=True)]
    assert words.count("found") <= at_most(0.05, runs)
