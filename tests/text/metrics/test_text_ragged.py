from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge.core.evidence import Answers, Nested, Ragged, aligned
from expunge.errors import BadEvidence

ROWS = st.lists(
    st.lists(st.floats(-50, 0, allow_nan=False), min_size=1, max_size=7), min_size=1, max_size=9
)


@given(ROWS, st.integers(0, 4), st.booleans(), st.floats(-9, 9) | st.just(float("nan")))
def test_padding_side_amount_and_value_change_nothing(
    rows: list[list[float]], extra: int, left: bool, filler: float
) -> None:
    width = max(map(len, rows)) + extra
    full = np.full((len(rows), width), filler)
    mask = np.zeros((len(rows), width), dtype=bool)
    for place, row in enumerate(rows):
        cut = slice(width - len(row), width) if left else slice(0, len(row))
        full[place, cut], mask[place, cut] = row, True
    plain, padded = Ragged.of(rows), Ragged.padded(full, mask)
    assert np.array_equal(plain.flat, padded.flat)
    assert padded.like(plain)


@given(ROWS)
def test_sums_means_and_lowest_are_those_of_each_row(rows: list[list[float]]) -> None:
    ragged = Ragged.of(rows)
    assert ragged.sums() == pytest.approx([sum(row) for row in rows])
    assert ragged.means() == pytest.approx([np.mean(row) for row in rows])
    slow = [np.mean(np.sort(row)[: max(1, int(len(row) * 0.4 + 1e-9))]) for row in rows]
    assert ragged.lowest(0.4) == pytest.approx(slow)
    assert ragged.lowest(1.0) == pytest.approx(ragged.means())


@given(ROWS, st.randoms())
def test_an_example_keeps_its_number_wherever_it_stands(rows: list[list[float]], random) -> None:
    order = list(range(len(rows)))
    random.shuffle(order)
    ragged = Ragged.of(rows)
    # Sums differ in the last digit where rows start elsewhere in memory, and no more.
    assert ragged.take(order).means() == pytest.approx(ragged.means()[order], rel=1e-12)


def test_an_empty_row_is_refused_by_its_place_and_scores_no_zero() -> None:
    with pytest.raises(BadEvidence, match="Row 1 is empty"):
        Ragged.of([[-1.0], [], [-2.0]])


def test_a_number_that_is_not_finite_is_refused_by_its_row() -> None:
    with pytest.raises(BadEvidence, match="Row 2 holds NaN"):
        Ragged.of([[-1.0], [-1.0, -2.0], [-3.0, float("nan")]])


def test_lengths_must_add_up() -> None:
    with pytest.raises(BadEvidence, match="add up"):
        Ragged(np.zeros(3), np.array([1, 1]))
    with pytest.raises(BadEvidence, match="place"):
        Ragged.padded(np.zeros((2, 3)), np.ones((2, 2), dtype=bool))


def test_nested_answers_stay_with_their_example() -> None:
    nested = Nested.of([[[-1.0, -3.0], [-4.0]], [[-6.0]], [[-1.0], [-2.0], [-3.0]]])
    assert [row.tolist() for row in nested.means().rows()] == [[-2, -4], [-6], [-1, -2, -3]]
    turned = nested.take([2, 0]).means()
    assert [row.tolist() for row in turned.rows()] == [[-1, -2, -3], [-2, -4]]


def test_an_example_without_an_answer_is_refused() -> None:
    with pytest.raises(BadEvidence, match="at least 1 an example"):
        Nested.of([[[-1.0]], []])


def test_models_are_matched_by_index_and_not_by_place() -> None:
    # Fault 8 of open-unlearning: after one missing row all later ones were paired with others.
    first = Answers(np.array([7, 3, 5]), logprobs=Ragged.of([[-7.0], [-3.0], [-5.0]]))
    second = Answers(np.array([5, 7, 3]), logprobs=Ragged.of([[-50.0], [-70.0], [-30.0]]))
    matched = aligned(first, second)
    assert matched.index.tolist() == [7, 3, 5]
    assert matched.tokens("logprobs").means().tolist() == [-70, -30, -50]


def test_other_examples_are_refused() -> None:
    first = Answers(np.array([1, 2]), logprobs=Ragged.of([[-1.0], [-2.0]]))
    with pytest.raises(BadEvidence, match="same ones"):
        aligned(first, Answers(np.array([1]), logprobs=Ragged.of([[-1.0]])))
    with pytest.raises(BadEvidence, match=r"Examples \[2\] were not recorded"):
        aligned(first, Answers(np.array([1, 3]), logprobs=Ragged.of([[-1.0], [-2.0]])))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"logprobs": Ragged.of([[0.5], [-1.0]])}, "above 0"),
        ({"wrong": Nested.of([[[0.5]], [[-1.0]]])}, "above 0"),
        ({"hits": Ragged.of([[0.5], [1.0]])}, "neither 0 nor 1"),
        ({"spreads": Ragged.of([[-1.0], [1.0]])}, "negative"),
        ({"norms": np.array([-1.0, 2.0])}, "gradient norms"),
        ({"generations": ("one",)}, "one for each|for each"),
        (
            {"logprobs": Ragged.of([[-1.0], [-1.0]]), "hits": Ragged.of([[1.0], [1.0, 0.0]])},
            "other numbers of tokens",
        ),
    ],
)
def test_numbers_that_no_model_gives_are_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(BadEvidence, match=said):
        Answers(np.array([0, 1]), **fields)  # type: ignore[arg-type]


def test_an_example_twice_is_refused() -> None:
    with pytest.raises(BadEvidence, match="twice"):
        Answers(np.array([4, 4]))
