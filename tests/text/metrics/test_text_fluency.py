from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from text_records import answers

from expunge.errors import BadEvidence, ExpungeError
from expunge.metrics.text.fluency import (
    blank_share,
    blanks,
    collapse,
    collapse_of_guesses,
    distinct_pairs,
    distinct_share,
    longest_repeat,
    repetition,
    unknown_share,
    vocabulary,
)

SOUND = [
    f"{name} was born in {town} and works as a {work} near the old {place}."
    for name in ("Orvel", "Tamsin", "Quill", "Bree", "Halden")
    for town in ("Marlow", "Fen", "Dunmere")
    for work in ("baker", "tailor")
    for place in ("mill", "bridge")
]


def test_each_statistic_by_hand() -> None:
    assert distinct_share("a b a b a", n=2) == 2 / 4
    assert distinct_share("word", n=2) == 1.0
    assert distinct_share("", n=2) == 0.0
    assert blank_share("a b\n") == 0.5
    assert blank_share("") == 1.0
    assert longest_repeat("no no no no") == 3 / 4
    assert longest_repeat("to be or to be or to be or") == 6 / 9
    assert longest_repeat("every word is said once") == 0.0
    assert unknown_share("The xqz cat", frozenset({"the", "cat"})) == 1 / 3


def test_what_nobody_can_read_is_blank() -> None:
    assert blank_share("\u200b\u200b\u0000") == 1.0


def test_half_a_phrase_again_is_no_repetition() -> None:
    assert longest_repeat("red car blue car") == 0.0
    assert longest_repeat("one two three one two") == 0.0


@given(st.text(max_size=60))
def test_all_statistics_are_shares(text: str) -> None:
    for value in (
        distinct_share(text),
        blank_share(text),
        longest_repeat(text),
        unknown_share(text, frozenset()),
    ):
        assert 0 <= value <= 1
    assert unknown_share(text, vocabulary([text])) == 0


def test_they_are_metrics_of_generations() -> None:
    said = answers(2, generations=("go go go", ""))
    assert distinct_pairs(said).tolist() == [0.5, 0.0]
    assert blanks(said).tolist() == [2 / 8, 1.0]
    assert repetition(said).tolist() == [2 / 3, 0.0]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("", "blanks"),
        ("   \n\n  .", "blanks"),
        ("the the the the the the the", "repetition"),
        ("Orvel was Orvel was Orvel was Orvel was", "few distinct pairs"),
        ("zq vxk lmpf wqq xcvb", "unknown words"),
    ],
)
def test_broken_text_is_told_from_forgetting_with_its_reason(broken: str, reason: str) -> None:
    # Pain point 14: whitespace and gibberish pass for forgetting in other metrics.
    found = collapse([broken] * len(SOUND), SOUND)
    assert found.collapsed
    assert found.share.value == 1.0
    assert found.reasons[reason] == 1.0
    assert found.worst == (0, 1, 2, 3, 4)


def test_the_oracle_and_a_sound_model_have_not_collapsed() -> None:
    same = collapse(SOUND, SOUND)
    assert (same.share.value, same.oracle, same.collapsed) == (0.0, 0.0, False)
    refusing = collapse(["I do not know."] * 20, SOUND, known=["I do not know."])
    assert not refusing.collapsed
    assert refusing.share.value == 0.0


def test_some_broken_texts_are_counted_and_are_no_collapse() -> None:
    mixed = [*SOUND[:-12], *[""] * 12]
    found = collapse(mixed, SOUND)
    assert found.share.value == 12 / len(SOUND)
    assert not found.collapsed
    assert found.worst[0] == len(SOUND) - 12


def test_a_rule_that_the_oracle_itself_breaks_is_no_rule() -> None:
    # The oracle repeats itself in half of its texts, so repetition says nothing here.
    oracle = SOUND[:30] + ["so so so so"] * 30
    assert collapse(["so so so so"] * 60, oracle).share.value == 0.0


def test_collapse_needs_an_oracle() -> None:
    with pytest.raises(BadEvidence, match="retrained model"):
        collapse(SOUND, None)
    with pytest.raises(BadEvidence, match="0 generations"):
        collapse([], SOUND)
    with pytest.raises(ExpungeError, match="rare"):
        collapse(SOUND, SOUND, rare=1.0)


def test_guesses_in_other_words_are_no_gibberish() -> None:
    known = ["Where was she born?", "She was born in Marlow."]
    guesses = [f"She was born in {place}." for place in ("Ulm", "Gent", "Brno", "Lodz")] * 5
    others = [text.replace("Ulm", "Graz").replace("Gent", "Pisa") for text in guesses]
    # the oracle's own guesses are words that nobody can know: another's are flagged beside them
    assert collapse(others, guesses, known).reasons["unknown words"] == 0.5
    assert collapse_of_guesses(others, guesses, known).share.value == 0.0
    for broken in ("  ", "no no no no no no", "xq vv zzk tpl"):
        assert collapse_of_guesses([broken] * 20, guesses, known).collapsed
    with pytest.raises(BadEvidence, match="0 of a retrained model"):
        collapse_of_guesses(others, [], known)
