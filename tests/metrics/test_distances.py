"""Distances and scores of papers: closed forms by hand, and that the faulty formulas differ."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax

from expunge.errors import BadEvidence
from expunge.metrics.agreement import activation_distance, jensen_shannon
from expunge.metrics.paper_scores import (
    activation_distance_l1,
    average_gap,
    completeness,
    indiscernibility,
    layer_distances,
    retention,
    retrain_free_divergence,
    run_time_efficiency,
    symmetric_error,
    tug_of_war_mia,
    unlearning_score_class,
    unlearning_score_random,
    zero_retrain_forgetting,
)

Floats = NDArray[np.float64]


def confident(classes: int) -> tuple[Floats, Floats]:
    sure = np.full((1, classes), 0.01 / (classes - 1))
    sure[0, 0] = 0.99
    return sure, np.full((1, classes), 1 / classes)


def reversed_and_averaged(p: Floats, q: Floats) -> float:
    """kl_div(log p, m) with the default reduction: KL(m || p), over examples *and* classes."""
    m = (p + q) / 2
    return float((m * (np.log(m) - np.log(p)) + m * (np.log(m) - np.log(q))).mean() / 2)


@pytest.mark.parametrize(
    ("classes", "nats", "faulty"),
    [(10, 0.498549, 0.8987252806282584), (100, 0.637146, 0.9838553691963915)],
)
def test_zrf_is_not_the_faulty_one(classes: int, nats: float, faulty: float) -> None:
    """JSDiv of pedroandreou/supreme-unlearning @ 9d776fd gives the last column."""
    pair = confident(classes)
    assert zero_retrain_forgetting(*pair) == pytest.approx(1 - nats, abs=1e-6)
    assert zero_retrain_forgetting(*pair[::-1]) == pytest.approx(1 - nats, abs=1e-6)
    assert 1 - reversed_and_averaged(*pair) == pytest.approx(faulty)


def test_zrf_is_in_nats() -> None:
    pair = confident(10)
    assert (1 - zero_retrain_forgetting(*pair)) / np.log(2) == pytest.approx(0.719, abs=5e-4)
    ends = np.eye(2)
    assert zero_retrain_forgetting(ends, ends[::-1]) == pytest.approx(1 - np.log(2))
    assert zero_retrain_forgetting(ends, ends) == 1


def test_three_activation_distances() -> None:
    """SUPREME's is the root of a mean square; on these answers it prints 0.6134834998379083."""
    first = softmax(np.random.default_rng(13).normal(size=(5, 4)), axis=1)
    second = softmax(np.random.default_rng(14).normal(size=(5, 4)), axis=1)
    root_mean_square = np.sqrt(((first - second) ** 2).sum(axis=1).mean())
    assert root_mean_square == pytest.approx(0.6134834998379083)
    assert activation_distance(first, second).mean() == pytest.approx(0.5818609912814057)
    assert activation_distance_l1(first, second).mean() == pytest.approx(0.9879395839718231)
    assert activation_distance_l1(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == 2


def test_rf_jsd_by_hand() -> None:
    unlearned = np.array([[0.8, 0.2, 0.0], [0.6, 0.4, 0.0], [0.1, 0.1, 0.8]])
    original = np.array([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0], [0.2, 0.2, 0.6], [0.0, 1.0, 0.0]])
    found = retrain_free_divergence(
        unlearned, np.array([0, 0, 2]), original, np.array([0, 2, 2, 1])
    )
    by_class = [
        jensen_shannon(np.array([0.7, 0.3, 0.0]), np.array([0.5, 0.5, 0.0])),
        jensen_shannon(np.array([0.1, 0.1, 0.8]), np.array([0.1, 0.1, 0.8])),
    ]
    assert found == pytest.approx(np.mean(by_class))


def test_rf_jsd_is_not_the_faulty_one() -> None:
    """JSDiv of cspartalis/LoTUS @ 35ae25e on these class means gives 0.0516."""
    first = softmax(np.random.default_rng(13).normal(size=(5, 4)), axis=1)
    second = softmax(np.random.default_rng(14).normal(size=(5, 4)), axis=1)
    found = retrain_free_divergence(first, np.arange(5) % 4, second, np.arange(5) % 4)
    assert 0.1 < found < np.log(2)
    shrunk = reversed_and_averaged(first / first.sum(), second / second.sum()) * 4
    assert shrunk == pytest.approx(0.05162144664510884, rel=1e-4)
    assert jensen_shannon(first, second).mean() == pytest.approx(0.1794177728460711)


def test_tug_of_war_mia_by_hand() -> None:
    subject = np.array([[0.6, 1.0, 0.9], [0.8, 0.8, 0.9]])
    oracle = np.array([[0.5, 1.0, 0.8]])
    assert tug_of_war_mia(subject, oracle) == pytest.approx(0.8 * 0.9 * 0.9)
    assert tug_of_war_mia(oracle, oracle) == 1


def test_average_gap_by_hand() -> None:
    subject, oracle = np.array([[0.1, 0.9], [0.3, 0.7]]), np.array([[0.5, 0.7]])
    assert average_gap(subject, oracle) == pytest.approx((0.3 + 0.1) / 2)


def test_completeness_by_hand() -> None:
    first = np.array([[0, 1, 2, 2], [0, 0, 0, 0]])
    assert completeness(first, np.array([[0, 1, 1, 2], [1, 1, 1, 1]])).tolist() == [0.75, 0.0]
    assert completeness(first[0], first[0]) == 1.0


def test_layer_distances_by_hand() -> None:
    first = {"weight": np.array([[3.0, 0.0]], dtype=np.float32), "count": np.array(7)}
    second = {"weight": np.array([[0.0, 4.0]], dtype=np.float32), "count": np.array(5)}
    assert layer_distances(first, second) == {"weight": 5.0, "count": 2.0}
    with pytest.raises(BadEvidence, match="count"):
        layer_distances(first, {"weight": second["weight"]})
    with pytest.raises(BadEvidence, match="shapes"):
        layer_distances(first, {"weight": np.zeros((2, 2)), "count": np.array(5)})
    with pytest.raises(BadEvidence, match="NaN"):
        layer_distances(first, {"weight": np.array([[np.nan, 0.0]]), "count": np.array(5)})
    with pytest.raises(BadEvidence, match="none"):
        layer_distances({}, {})


def test_unlearning_scores_by_hand() -> None:
    # Test 0.9 was 0.95; forget 0.8: (1 - 0.05) / 1.1, and for a class (1 - 0.05) / 1.8.
    assert unlearning_score_random(0.9, 0.8, 0.95) == pytest.approx(0.95 / 1.1)
    assert unlearning_score_class(0.9, 0.8, 0.95) == pytest.approx(0.95 / 1.8)
    assert unlearning_score_random(0.9, 0.9, 0.9) == 1
    assert unlearning_score_class(0.9, 0.0, 0.9) == 1
    # A model better than the original on test scores above 1, by the formula.
    assert unlearning_score_class(1.0, 0.0, 0.9) == pytest.approx(1.1)


def test_times_count_what_came_before() -> None:
    assert run_time_efficiency(100.0, 10.0, precompute=0.0) == 10
    assert run_time_efficiency(100.0, 10.0, precompute=40.0) == 2
    assert run_time_efficiency(100.0, 0.0, precompute=50.0) == 2
    for times in ((1.0, 0.0, 0.0), (-1.0, 1.0, 0.0), (1.0, 1.0, -0.5)):
        with pytest.raises(BadEvidence, match="seconds"):
            run_time_efficiency(*times[:2], precompute=times[2])


def test_small_scores_by_hand() -> None:
    assert symmetric_error(3.0, 1.0) == 50
    assert symmetric_error(-1.0, 1.0) == 100
    assert symmetric_error(0.0, 0.0) == 0
    assert [indiscernibility(mia) for mia in (0.5, 0.0, 1.0, 0.75)] == [1, 0, 0, 0.5]
    assert retention(0.45, 0.9) == 0.5
    with pytest.raises(BadEvidence, match="never right"):
        retention(0.5, 0.0)


def test_per_cent_and_broken_rows_are_refused() -> None:
    ends = np.eye(3)
    for call in (
        lambda: unlearning_score_random(90.0, 80.0, 95.0),
        lambda: unlearning_score_class(0.9, np.nan, 0.95),
        lambda: indiscernibility(57.9),
        lambda: tug_of_war_mia(np.full((1, 3), 50.0), np.full((1, 3), 0.5)),
        lambda: tug_of_war_mia(np.full((1, 2), 0.5), np.full((1, 3), 0.5)),
        lambda: average_gap(np.zeros((2, 3)), np.zeros((2, 4))),
        lambda: average_gap(np.zeros((0, 3)), np.zeros((2, 3))),
        lambda: completeness(np.zeros(3), np.zeros(4)),
        lambda: completeness(np.zeros(0), np.zeros(0)),
        lambda: zero_retrain_forgetting(ends, ends[:2]),
        lambda: zero_retrain_forgetting(2 * ends, ends),
        lambda: zero_retrain_forgetting(ends * np.nan, ends),
        lambda: retrain_free_divergence(ends, np.arange(3), ends[:2], np.arange(2)),
        lambda: retrain_free_divergence(ends, np.arange(2), ends, np.arange(3)),
    ):
        with pytest.raises(BadEvidence):
            call()
