"""Words of a text in any script, and whether a value is said in it.

Letters are compared in one form (NFC, casefold). Where a script puts no spaces between words, each
of its letters counts as a word, so that a run of words is a substring there. A hidden fact must not
look removed only because a text writes it without spaces.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from itertools import chain

ASCII_WORD = re.compile(r"\w+", re.ASCII)


# First and last code points of scripts without spaces between words; of Hangul, too, whose words
# carry particles.
UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x2FDF),  # radicals
    (0x3005, 0x3007),  # iteration marks, zero
    (0x3040, 0x31FF),  # Hiragana, Katakana, Bopomofo
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),  # Han
    (0xA9E0, 0xA9FF),  # Myanmar
    (0xAA60, 0xAA7F),  # Myanmar
    (0xAC00, 0xD7AF),  # Hangul
    (0xF900, 0xFAFF),  # Han
    (0x20000, 0x323AF),  # Han
)
_EDGES = list(chain.from_iterable((first, last + 1) for first, last in UNSPACED))


def words_of(text: str) -> list[str]:
    """Return the words of a text, casefolded: runs of letters, digits, their marks, and "_".

    A letter of a script without spaces is a word by itself, with the marks on it.
    """
    if text.isascii():
        return ASCII_WORD.findall(text.lower())
    plain = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    words: list[str] = []
    inside = unspaced = False
    for sign in plain:
        kind = unicodedata.category(sign)[0]
        if kind == "M" and inside:
            words[-1] += sign
        elif kind in "LN" or sign == "_":
            alone = bisect_right(_EDGES, ord(sign)) % 2 == 1
            if inside and not alone and not unspaced:
                words[-1] += sign
            else:
                words.append(sign)
            inside, unspaced = True, alone
        else:
            inside = False
    return words


def said_in(value: str, text: str) -> bool:
    """Whether a text says a value: its words, one after another, whatever signs are between them.

    A value without any letter or digit is looked for as it is.
    """
    wanted, there = words_of(value), words_of(text)
    if not wanted:
        return value.strip() in text
    starts = range(len(there) - len(wanted) + 1)
    return any(there[first : first + len(wanted)] == wanted for first in starts)
