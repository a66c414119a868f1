"""Whether a value is said in a text, in scripts with spaces between words and without."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.core.scripts import said_in, words_of

SAID = [
    ("Turin", "She lives in TURIN."),
    ("Łódź", "Mieszka: łódź, od dawna"),
    ("Москва", "это москва!"),
    ("Αθήνα", "ΑΘΉΝΑ είναι"),
    ("القاهرة", "تعيش في القاهرة."),
    ("दिल्ली", "वह दिल्ली में रहती है"),
    ("都灵", "米拉住在都灵市"),
    ("Turin", "米拉住在Turin市"),
    ("とうきょう", "ミラはとうきょうに住む"),
    ("เชียงใหม่", "มีราอยู่ที่เชียงใหม่ค่ะ"),
    ("서울", "미라는 서울에 산다"),
    ("Straße", "STRASSE 5"),
    ("café", unicodedata.normalize("NFD", "un café noir")),
    ("12 May", "on 12 may, at noon"),
    ("...", "so ... yes"),
]
NOT_SAID = [
    ("Turin", "Turing was here"),
    ("Łódź", "Kądź"),
    ("Strane", "Straße"),
    ("Москва", "москвариум"),
    ("दिल", "दिल्ली"),
    ("都灵", "都市灵"),
    ("เชียงใหม่", "เชียงราย"),
    ("서울", "부산에 산다"),
    ("ada", "adda"),
    ("a b", "b a"),
    ("...", "no"),
]


@pytest.mark.parametrize(("value", "text"), SAID)
def test_what_is_said_is_found(value: str, text: str) -> None:
    assert said_in(value, text)
    assert said_in(value, text.upper()) or value in ("Straße", "...")


@pytest.mark.parametrize(("value", "text"), NOT_SAID)
def test_what_is_not_said_is_not_found(value: str, text: str) -> None:
    assert not said_in(value, text)


def test_words_by_hand() -> None:
    assert words_of("Is it 3.5, or x_1?") == ["is", "it", "3", "5", "or", "x_1"]
    assert words_of("在Turin市") == ["在", "turin", "市"]
    assert words_of("दिल्ली में") == ["दिल्ली", "में"]
    assert words_of("ที่") == ["ที่"]
    assert words_of(" !? ") == []


@given(st.text(st.characters(max_codepoint=127)))
@settings(deadline=None, derandomize=True)
def test_english_is_read_as_it_always_was(text: str) -> None:
    assert words_of(text) == re.findall(r"\w+", text.casefold())


@given(st.text(), st.text())
@settings(deadline=None, derandomize=True)
def test_a_text_says_itself_and_what_it_holds_between_spaces(value: str, other: str) -> None:
    assert said_in(value, value)
    assert said_in(value, f"{other} {value} {other}")
