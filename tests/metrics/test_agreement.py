"""Agreement with the oracle: golden values by hand, bounds, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import entropy

from expunge.core.evidence import Evidence
from expunge.errors import BadEvidence
from expunge.metrics.agreement import (
    Accuracy,
    ActivationDistance,
    JensenShannon,
    ToW,
    accuracies,
    activation_distance,
    jensen_shannon,
    tug_of_war,
)

SETS = {"retain": slice(0, 2), "forget": slice(2, 3), "test": slice(3, 4)}


def evidence(answers: list[list[int]], targets: tuple[int, ...] = (0, 1, 2, 0)) -> Evidence:
    """Models that are sure of these classes: [model, example] -> logits 5 for the answer."""
    logits = 5.0 * np.eye(3, dtype=np.float32)[np.array(answers)]
    return Evidence(logits, np.array(targets), SETS)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def confident(classes: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    sure = np.full(classes, 0.01 / (classes - 1))
    sure[0] = 0.99
    return sure, np.full(classes, 1 / classes)


@pytest.mark.parametrize(("classes", "nats"), [(10, 0.498549), (100, 0.637146)])
def test_jensen_shannon_golden(classes: int, nats: float) -> None:
    sure, uniform = confident(classes)
    assert jensen_shannon(sure, uniform) == pytest.approx(nats, abs=1e-6)
    assert jensen_shannon(uniform, sure) == pytest.approx(nats, abs=1e-6)


def test_jensen_shannon_ends() -> None:
    ends = np.eye(3)
    assert jensen_shannon(ends[0], ends[1]) == pytest.approx(np.log(2))
    assert (jensen_shannon(ends, ends) == 0).all()


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.floats(0.01, 20))
def test_jensen_shannon_is_its_definition(seed: int, classes: int, width: float) -> None:
    draw = np.random.default_rng(seed)
    p, q = draw.dirichlet(np.full(classes, 1 / width), size=2)
    m = (p + q) / 2
    found = jensen_shannon(p, q)
    assert found == pytest.approx((entropy(p, m) + entropy(q, m)) / 2, abs=1e-12)
    assert 0 <= found <= np.log(2)


def test_activation_distance_by_hand() -> None:
    p, q = np.array([[0.6, 0.4], [1.0, 0.0]]), np.array([[0.3, 0.7], [0.0, 1.0]])
    assert activation_distance(p, q) == pytest.approx([0.3 * 2**0.5, 2**0.5])


def test_accuracies_by_hand() -> None:
    side = evidence([[0, 1, 2, 0], [0, 0, 0, 0], [1, 0, 2, 1]])
    assert accuracies(side, "retain").tolist() == [1.0, 0.5, 0.0]
    assert accuracies(side, "forget").tolist() == [1.0, 0.0, 1.0]
    found = Accuracy("retain")(side, side, rng())
    assert found.value == pytest.approx(0.5)
    assert (found.n, found.unit) == (3, "share right")
    assert 0 <= found.low < 0.5 < found.high <= 1


def test_accuracy_is_of_the_subject() -> None:
    mine, theirs = evidence([[0, 1, 2, 0]] * 2), evidence([[1, 0, 0, 1]] * 2)
    assert Accuracy("test")(mine, theirs, rng()).value == 1.0
    assert Accuracy("test")(theirs, mine, rng()).value == 0.0


def test_tug_of_war_by_hand() -> None:
    mine = np.array([[0.2, 0.9, 0.8], [0.4, 0.9, 0.6]])
    theirs = np.array([[0.5, 1.0, 0.75]])
    assert tug_of_war(mine, theirs) == pytest.approx(0.8 * 0.9 * 0.95)
    assert tug_of_war(theirs, mine) == pytest.approx(0.8 * 0.9 * 0.95)


def test_tow_by_hand() -> None:
    theirs = evidence([[0, 1, 2, 0]] * 4)
    # Means: retain 0.75, forget 0.5, test 0.75.
    mine = evidence([[0, 1, 2, 0], [0, 1, 2, 0], [0, 0, 0, 0], [0, 0, 0, 1]])
    assert ToW()(mine, theirs, rng()).value == pytest.approx(0.75 * 0.5 * 0.75)
    assert ToW()(theirs, theirs, rng()).value == 1.0


@pytest.mark.parametrize("metric", [JensenShannon("retain"), ActivationDistance("retain")])
def test_divergences_compare_pairs(metric: JensenShannon | ActivationDistance) -> None:
    mine = evidence([[0, 1, 2, 0], [1, 0, 2, 0]])
    swapped = mine.models(np.array([1, 0]))
    assert metric(mine, mine, rng()).value == pytest.approx(0.0, abs=1e-12)
    found = metric(mine, swapped, rng()).value
    sure = np.exp([5.0, 0.0, 0.0]) / (np.exp(5) + 2)
    one = jensen_shannon if isinstance(metric, JensenShannon) else activation_distance
    assert found == pytest.approx(float(one(sure, sure[[1, 0, 2]])), abs=1e-6)


def test_divergences_take_one_set() -> None:
    mine, theirs = evidence([[0, 1, 2, 0]] * 2), evidence([[0, 1, 0, 0]] * 2)
    assert JensenShannon("retain")(mine, theirs, rng()).value == 0.0
    assert JensenShannon("forget")(mine, theirs, rng()).value > 0.5
    assert ActivationDistance("forget")(mine, theirs, rng()).value > 1.0


@pytest.mark.parametrize("metric", [JensenShannon("forget"), ActivationDistance("forget")])
def test_divergences_need_pairs(metric: JensenShannon | ActivationDistance) -> None:
    mine = evidence([[0, 1, 2, 0]] * 2)
    with pytest.raises(BadEvidence, match="2 unlearned and 1 retrained"):
        metric(mine, mine.models(slice(0, 1)), rng())


def test_one_model_may_be_anywhere() -> None:
    side = evidence([[0, 1, 2, 0]])
    found = Accuracy("retain")(side, side, rng())
    assert (found.value, found.low, found.high) == (1.0, 0.0, 1.0)


def test_missing_and_empty_sets() -> None:
    side = evidence([[0, 1, 2, 0]] * 2)
    with pytest.raises(BadEvidence, match="Did you mean retain"):
        Accuracy("retian")(side, side, rng())
    empty = Evidence(side.logits, side.targets, {"test": slice(4, 4)})
    with pytest.raises(BadEvidence, match="no example"):
        accuracies(empty, "test")
    with pytest.raises(BadEvidence, match="at least one example"):
        JensenShannon("test")(empty, empty, rng())
