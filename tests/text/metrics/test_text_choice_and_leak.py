from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import beta

from expunge.core.evidence import Nested, Ragged
from expunge.errors import BadEvidence, ExpungeError
from expunge.metrics.text.likelihood import choice_accuracy, choice_hits, choice_scores
from expunge.metrics.text.memorisation import (
    best_of,
    leak_at_k,
    leak_limit,
    mean_leak_limit,
    score_quantile_limit,
)

RNG = np.random.default_rng
SCORES = arrays(
    np.float64, st.tuples(st.integers(1, 4), st.integers(1, 7)), elements=st.floats(0, 1)
)
# Options of 1, 2 and 4 tokens: "sum" prefers the short, "token" the long one.
OPTIONS = Nested.of([[[-2.0], [-1.5, -1.5], [-1.0, -1.0, -1.0, -0.8]]])


def test_the_best_option_depends_on_the_weighing_that_is_named() -> None:
    texts = [["aaaaaaaa", "b", "cccc"]]
    for weighing, best in (("sum", 0), ("token", 2), ("byte", 0)):
        scores = choice_scores(OPTIONS, weighing, texts)  # type: ignore[arg-type]
        assert np.argmax(scores.flat) == best
    assert choice_scores(OPTIONS, "byte", texts).flat.tolist() == [-0.25, -3.0, -0.95]
    with pytest.raises(BadEvidence, match="text of every option"):
        choice_scores(OPTIONS, "byte")
    with pytest.raises(BadEvidence, match="empty"):
        choice_scores(OPTIONS, "byte", [["a", "", "c"]])
    with pytest.raises(ExpungeError, match="byte"):
        choice_scores(OPTIONS, "letters")  # type: ignore[arg-type]


def test_accuracy_by_hand_stands_next_to_chance() -> None:
    scores = Ragged.of([[0, 3, 1, 2], [5, 1, 1, 1], [1, 2], [0, 9, 0, 0]])
    right = np.array([1, 1, 1, 1])
    assert choice_hits(scores, right).tolist() == [1, 0, 1, 1]
    found = choice_accuracy(scores, right, RNG(0))
    assert found.score.value == 0.75
    assert found.chance == pytest.approx((0.25 * 3 + 0.5) / 4)
    assert 0 <= found.score.low < 0.75 < found.score.high <= 1


def test_a_model_that_says_the_same_to_everything_is_at_chance() -> None:
    # Counting the first of tied options would give the share of questions whose answer is A.
    assert choice_hits(Ragged.of([[-1.0] * 4] * 3), np.array([0, 0, 0])).tolist() == [0.25] * 3
    assert choice_hits(Ragged.of([[-1.0, -1.0, -2.0]]), np.array([2])).tolist() == [0.0]


def test_a_right_option_that_does_not_exist_is_refused() -> None:
    for right in ([4], [-1], [0, 1]):
        with pytest.raises(BadEvidence, match="right options"):
            choice_hits(Ragged.of([[1.0, 2.0, 3.0, 4.0]]), np.array(right))


def test_leak_at_k_by_hand() -> None:
    # Pairs of (0, 0.5, 1): best 0.5, 1, 1.
    assert best_of([[0.5, 0.0, 1.0]], 2) == pytest.approx([2.5 / 3])
    assert best_of([[1, 0, 0, 0]], 1) == pytest.approx([0.25])


@given(SCORES)
def test_leak_at_k_is_the_mean_over_all_subsets(scores: np.ndarray) -> None:
    n = scores.shape[1]
    last = np.zeros(len(scores))
    for k in range(1, n + 1):
        slow = np.mean([scores[:, list(some)].max(axis=1) for some in combinations(range(n), k)], 0)
        found = best_of(scores, k)
        assert found == pytest.approx(slow, abs=1e-9)
        assert (found >= last - 1e-9).all()
        last = found
    assert last == pytest.approx(scores.max(axis=1))


def test_leak_at_k_has_the_value_it_estimates() -> None:
    # 0.3 of samples leak: k draws show it with 1 - 0.7^k.
    scores = (RNG(0).random((4000, 12)) < 0.3).astype(float)
    for k, found in leak_at_k(scores, (1, 3, 6), RNG(1)).items():
        assert found.low < 1 - 0.7**k < found.high
        assert found.high - found.low < 0.05


def test_leak_at_k_refuses_what_it_cannot_estimate() -> None:
    for k in (0, 4):
        with pytest.raises(ExpungeError, match="1 to 3"):
            best_of([[0.1, 0.2, 0.3]], k)
    with pytest.raises(BadEvidence, match="0 to 1"):
        leak_at_k([[0.1, 2.0]] * 3, (1,), RNG(0))


def test_no_leak_in_n_samples_leaves_the_exact_limit() -> None:
    scores = np.zeros((2, 100))
    scores[1, :3] = 0.9
    found = leak_limit(scores, threshold=0.5)
    assert found[0] == pytest.approx(1 - 0.05 ** (1 / 100))
    assert found[1] == pytest.approx(beta.ppf(0.95, 4, 97))


def test_the_mean_s_limits_by_hand() -> None:
    # Half width with n = 8: sqrt(ln(2 / 0.05) / 16) = 0.4802.
    half = np.sqrt(np.log(40) / 16)
    found = mean_leak_limit([0.0] * 8)
    assert (found.value, found.low) == (0.0, 0.0)
    assert found.high == pytest.approx(half)
    found = mean_leak_limit([1.0] * 8)
    assert (found.value, found.high) == (pytest.approx(1.0), pytest.approx(1.0))
    assert found.low == pytest.approx(1 - half)


@given(arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 1)))
def test_the_mean_s_value_is_the_mean_and_lies_between_its_limits(scores: np.ndarray) -> None:
    found = mean_leak_limit(scores)
    assert found.value == pytest.approx(scores.mean(), abs=1e-9)
    assert -1e-9 <= found.low <= found.value + 1e-9
    assert found.value - 1e-9 <= found.high <= 1 + 1e-9


def test_the_mean_s_limits_hold_in_repeated_samples() -> None:
    rng = RNG(3)
    held = [0.25 in mean_leak_limit(rng.beta(0.5, 1.5, 40)) for _ in range(300)]
    assert np.mean(held) >= 0.95


def test_a_quantile_needs_enough_samples() -> None:
    assert score_quantile_limit([0.2] * 20, 0.99) == 1.0
    assert score_quantile_limit([0.2] * 20 + [0.9], 0.5) == 0.2
