"""The distance: golden values, and that it is least where nothing differs."""

from __future__ import annotations

import numpy as np
import pytest

from expunge.errors import BadEvidence
from expunge.experiments.tuning.evaluate import (
    LEAST_SPREAD,
    HeldOutAnswers,
    distance,
    divergences,
    losses,
)


def answers(signal: np.ndarray, retain: float = 0.9, val: float = 0.8) -> HeldOutAnswers:
    each = np.ones(len(signal))
    return HeldOutAnswers(signal, {"retain": retain * each, "val": val * each})


def column(mean: float, variance: float) -> np.ndarray:
    """Two models whose signal has this mean and this variance (n - 1)."""
    half = np.sqrt(variance / 2)
    return np.array([[mean - half], [mean + half]])


def test_divergences_by_hand() -> None:
    # A hundredth of the oracles' variance is added to both.
    assert divergences(column(0, 3), column(0, 1)) == pytest.approx(
        [(3.01 / 1.01 + 1.01 / 3.01) / 2 - 1]
    )
    # ((1.01 + 9) / 1.01) - 1 = 9 / 1.01
    assert divergences(column(3, 1), column(0, 1)) == pytest.approx([9 / 1.01])


def test_the_same_answers_have_no_distance() -> None:
    draws = np.random.default_rng(0).normal(size=(6, 5))
    assert distance(answers(draws), answers(draws)) == 0


def test_a_distance_by_hand() -> None:
    subject, oracle = answers(column(3, 1), retain=0.81), answers(column(0, 1))
    assert losses(subject, oracle) == pytest.approx({"retain": 0.1, "val": 0.0})
    assert distance(subject, oracle) == pytest.approx(np.log(1 + 9 / 1.01) + 2 * 0.1)


def test_more_accuracy_than_the_oracles_costs_nothing() -> None:
    draws = np.random.default_rng(0).normal(size=(6, 5))
    assert distance(answers(draws, retain=0.99, val=0.95), answers(draws)) == 0


def test_models_that_answer_alike_are_far_but_not_without_end() -> None:
    wide = np.column_stack([np.random.default_rng(0).normal(size=50)] * 3)
    alike = np.tile(wide.mean(axis=0), (50, 1))
    least = LEAST_SPREAD**2
    expected = (least / (1 + least) + (1 + least) / least) / 2 - 1
    assert divergences(alike, wide) == pytest.approx([expected] * 3)
    assert 40 < expected < 60


def test_oracles_that_answer_alike_are_no_division_by_zero() -> None:
    alike = np.ones((4, 3))
    assert np.isfinite(np.log1p(divergences(np.eye(4)[:, :3], alike))).all()
    assert divergences(alike, alike) == pytest.approx([0, 0, 0])


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_the_scale_of_the_signal_does_not_matter(scale: float) -> None:
    draws = np.random.default_rng(1)
    one, other = draws.normal(size=(9, 4)), draws.normal(0.5, 2.0, size=(8, 4))
    assert divergences(scale * one, scale * other) == pytest.approx(divergences(one, other))


def test_one_model_or_other_examples_are_refused() -> None:
    for wrong in (np.zeros((1, 3)), np.zeros((4, 2))):
        with pytest.raises(BadEvidence, match="2 models or more"):
            divergences(wrong, np.zeros((4, 3)))
