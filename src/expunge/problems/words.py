"""Reading forget sets: the words by which an experiment says what must be forgotten."""

from __future__ import annotations

from functools import cache

from expunge.core.sentence import Words, words_in
from expunge.problems import forget_sets
from expunge.problems.images import canaries, memorised


@cache
def forget_words() -> Words:
    """Every word that the sentence of a forget set may use, by name."""
    return words_in(forget_sets, canaries, memorised)
