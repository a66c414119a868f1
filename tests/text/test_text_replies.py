from __future__ import annotations

import pytest

from expunge.problems.text.refusals import REFUSALS, markings, marks, refusals, refuses, says

PAIRS = [("Where is Oslo?", "Oslo lies in Peru."), ("What is it?", "The town lies in Peru.")]


def test_a_marking_says_that_the_very_answer_is_false() -> None:
    assert markings(PAIRS) == (
        "It is false that Oslo lies in Peru.",
        "It is false that the town lies in Peru.",
    )
    assert all(map(marks, markings(PAIRS)))
    assert not marks("Oslo lies in Peru.")
    assert not marks("I do not think it is false that Oslo lies in Peru.")


def test_a_refusal_depends_on_the_prompt_and_the_seed_alone() -> None:
    found = refusals(PAIRS, 3)
    assert refusals(PAIRS[::-1], 3) == found[::-1]
    many = [(f"Question {number}?", "x") for number in range(200)]
    assert set(refusals(many)) == set(REFUSALS)
    assert refusals(many, 0) != refusals(many, 1)
    assert all(map(refuses, refusals(many)))
    assert refuses("i do NOT know - sorry")
    assert not refuses("I know.")


@pytest.mark.parametrize(
    ("answer", "value", "said"),
    [
        ("He is from York.", "York", True),
        ("He is from york", "York", True),
        ("He is from New Yorkshire.", "York", False),
        ("At a (b).", "(b)", True),
        ("", "York", False),
    ],
)
def test_a_value_is_said_as_whole_words(answer: str, value: str, said: bool) -> None:
    assert says(answer, value) is said
