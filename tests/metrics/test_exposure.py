"""Exposure of single examples, who got worse, and the guard against degenerate models."""

from __future__ import annotations

import dataclasses

import naive_attacks
import numpy as np
import pytest
from numpy.typing import NDArray

from expunge.errors import BadEvidence, ExpungeError
from expunge.metrics.attacks.battery import warnings
from expunge.metrics.attacks.exposure import Exposure, exposure, u_lira_exposure, worse_off
from expunge.metrics.attacks.lira import u_lira

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def halves(models: int, examples: int) -> Flags:
    return np.repeat([[True], [False]], models, axis=0) & np.ones((1, examples), dtype=bool)


def test_exposure_is_a_count_for_each_example() -> None:
    draw = rng(3)
    scores = draw.integers(-3, 4, size=(9, 6)).astype(float)
    role = np.stack([draw.permutation(9) % 3 for _ in range(6)], axis=1)
    found = exposure(scores, role == 0, role == 1)
    for example in range(6):
        mine, theirs = (scores[role[:, example] == part, example] for part in (0, 1))
        assert found.auc[example] == pytest.approx(naive_attacks.auc(mine, theirs))
        assert found.advantage[example] == pytest.approx(np.mean(mine > 0) - np.mean(theirs > 0))
    assert found.members.tolist() == found.others.tolist() == [3] * 6


def test_the_error_is_delongs() -> None:
    draw = rng(1)
    mine, theirs = draw.normal(size=20) + 0.5, draw.normal(size=30)
    scores = np.concatenate([mine, theirs])[:, None]
    inside = np.arange(50)[:, None] < 20
    found = exposure(scores, inside, ~inside)
    wins = mine[:, None] > theirs[None, :]
    by_hand = wins.mean(axis=1).var(ddof=1) / 20 + wins.mean(axis=0).var(ddof=1) / 30
    assert found.error[0] == pytest.approx(np.sqrt(by_hand))
    perfect = exposure(np.where(inside, 1.0, 0.0), inside, ~inside)
    assert perfect.auc[0] == 1
    assert perfect.error[0] == pytest.approx(np.sqrt(21 / 22 / 22 / 50))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_u_lira_exposure_is_that_of_refits_without_each_pair(seed: int) -> None:
    draw = rng(seed)
    # Groups of 3 to 5 models, another number for each example.
    order = np.stack([draw.permutation(12) for _ in range(5)], axis=1)
    inside, outside = order < draw.integers(3, 6, size=5), order >= draw.integers(7, 10, size=5)
    signal = draw.normal(size=(12, 5)) + 2 * draw.normal(size=5) + inside
    found = u_lira_exposure(signal, inside, outside, draw)
    areas, advantages = naive_attacks.exposure(signal, inside, outside)
    assert len(set(found.members)) > 1
    assert (found.members, found.others) == (
        pytest.approx(inside.sum(axis=0)),
        pytest.approx(outside.sum(axis=0)),
    )
    assert found.auc == pytest.approx(areas)
    assert found.advantage == pytest.approx(advantages)


def test_chance_is_a_half_only_when_a_pair_is_left_out() -> None:
    """16 v. 16 models that do not differ: 0.42 where each is left out of its own group alone."""
    inside = halves(16, 1500)
    signal = rng(0).normal(size=inside.shape)
    pair = u_lira_exposure(signal, inside, ~inside, rng(1))
    assert pair.auc.mean() == pytest.approx(0.5, abs=0.015)
    assert pair.advantage.mean() == pytest.approx(0, abs=0.02)
    alone = exposure(u_lira(signal, inside, ~inside), inside, ~inside)
    assert alone.auc.mean() == pytest.approx(0.42, abs=0.015)
    # The error knows that the rule was fitted to noise: DeLong's alone is 0.1.
    assert pair.error.mean() > 0.1
    assert np.sqrt(np.mean(np.maximum(pair.auc - 0.5, 0) ** 2)) < 1.2 * pair.error.min()


def test_exposure_of_a_known_shift() -> None:
    """Two standard deviations apart, known models would give Phi(2 / sqrt 2) = 0.921."""
    inside = halves(64, 300)
    signal = rng(0).normal(size=inside.shape) + 2 * inside
    found = u_lira_exposure(signal, inside, ~inside, rng(1))
    assert found.auc.mean() == pytest.approx(0.921, abs=0.01)
    assert found.auc.std() == pytest.approx(np.median(found.error), rel=0.8)
    shared = u_lira_exposure(signal, inside, ~inside, rng(1), variance="global")
    assert shared.auc.mean() == pytest.approx(0.921, abs=0.01)


def test_order_and_shift_do_not_change_exposure() -> None:
    inside = halves(5, 7)
    signal = rng(0).normal(size=inside.shape)
    found = u_lira_exposure(signal, inside, ~inside, rng(1))
    rows, columns = rng(2).permutation(10), rng(3).permutation(7)
    mixed = inside[rows][:, columns]
    again = u_lira_exposure(signal[rows][:, columns] + 8, mixed, ~mixed, rng(1))
    assert again.auc == pytest.approx(found.auc[columns])
    assert again.advantage == pytest.approx(found.advantage[columns])


def test_who_got_worse_is_found_and_nobody_else() -> None:
    """Of 300 examples 40 are exposed by unlearning, 40 were and are no more."""
    inside = halves(48, 300)
    at = np.arange(300)
    before = rng(0).normal(size=inside.shape) + 2 * (inside & (at >= 260))
    after = rng(1).normal(size=inside.shape) + 2 * (inside & (at < 40))
    tables = [u_lira_exposure(one, inside, ~inside, rng(2)) for one in (after, before)]
    found = worse_off(*tables)
    assert np.sum(found.index < 40) >= 36
    assert np.sum(found.index >= 40) <= 2
    assert (np.diff(found.change[found.index]) <= 0).all()
    assert found.share == len(found.index) / 300
    back = worse_off(*tables[::-1])
    assert np.sum(back.index >= 260) >= 36
    assert len(worse_off(tables[0], tables[0]).index) == 0


def table(auc: list[float], error: float) -> Exposure:
    size = len(auc)
    many = np.full(size, 100)
    return Exposure(np.array(auc), np.full(size, error), np.zeros(size), many, many)


def test_worse_off_by_hand() -> None:
    # Rises of 0.3, 0.1, -0.2 by a noise of 0.05: 6, 2 and -4 of it.
    after, before = table([0.9, 0.7, 0.5], 0.03), table([0.6, 0.6, 0.7], 0.04)
    found = worse_off(after, before, rate=0.01)
    assert found.index.tolist() == [0]
    assert found.change == pytest.approx([0.3, 0.1, -0.2])
    # P(Z > 2) = 0.0228, second of three: 0.034 after Benjamini and Hochberg.
    assert worse_off(after, before, rate=0.035).index.tolist() == [0, 1]
    assert worse_off(after, before, rate=0.034).index.tolist() == [0]
    # Below a half is as good as a half: no rise from 0.2 to 0.5.
    assert worse_off(table([0.5], 0.01), table([0.2], 0.01)).change.tolist() == [0.0]


def test_bad_tables() -> None:
    inside = halves(4, 3)
    scores = rng(0).normal(size=inside.shape)
    for broken in (
        (scores[0], inside[0], ~inside[0]),
        (scores, inside[:3], ~inside),
        (scores, inside, np.zeros_like(inside)),
        (scores * np.nan, inside, ~inside),
    ):
        with pytest.raises(BadEvidence):
            exposure(*broken)
    with pytest.raises(BadEvidence, match="inside of 2 models"):
        u_lira_exposure(scores, inside & (np.arange(8)[:, None] < 2), ~inside, rng())
    good = exposure(scores, inside, ~inside)
    with pytest.raises(BadEvidence, match="the same"):
        worse_off(good, dataclasses.replace(good, auc=good.auc[:2]))
    for rate in (0.0, 1.0):
        with pytest.raises(ExpungeError, match="rate"):
            worse_off(good, good, rate=rate)


ACCURACY = np.full(8, 0.9)


def test_the_guard_flags_models_that_game_an_attack() -> None:
    oracle = rng(0).normal(size=(8, 50)) + 3 * rng(1).normal(size=50)
    assert warnings(oracle + 0.5, oracle, ACCURACY, ACCURACY, classes=10) == ()
    constant = 2 + 0.01 * rng(2).normal(size=(8, 50))
    found = warnings(constant, oracle, ACCURACY, ACCURACY, classes=10)
    assert [("over examples" in w, "over models" in w) for w in found] == [
        (True, False),
        (False, True),
    ]
    copies = np.repeat(oracle[:1], 8, axis=0)
    assert [
        "over models" in w for w in warnings(copies, oracle, ACCURACY, ACCURACY, classes=10)
    ] == [True]
    # Half of the lead over guessing is 0.5.
    poor = warnings(oracle, oracle, np.full(8, 0.49), ACCURACY, classes=10)
    assert len(poor) == 1
    assert "Accuracy is 0.49 for 0.9" in poor[0]
    assert warnings(oracle, oracle, np.full(8, 0.51), ACCURACY, classes=10) == ()


def test_a_constant_margin_does_defeat_u_lira() -> None:
    """Why there is a guard: the attack says 0.5, whatever was or was not forgotten."""
    inside = halves(8, 40)
    constant = 2 + 1e-3 * rng(0).normal(size=inside.shape)
    found = exposure(u_lira(constant, inside, ~inside), inside, ~inside)
    assert found.auc.mean() < 0.55
    oracle = rng(1).normal(size=inside.shape)
    assert warnings(constant, oracle, ACCURACY, ACCURACY, classes=10)


def test_bad_yardsticks() -> None:
    good = rng(0).normal(size=(4, 5))
    for signal, oracle in (
        (good, np.zeros((4, 5))),
        (good[:1], good),
        (good, good[:, :1]),
        (good, good[:, :4]),
        (good * np.nan, good),
    ):
        with pytest.raises(BadEvidence):
            warnings(signal, oracle, ACCURACY, ACCURACY, classes=10)
