"""Reading any sentence: methods, forget sets and audits."""

from __future__ import annotations

from functools import cache
from typing import Any

from expunge.audits.panel import audit_words
from expunge.core import sentence
from expunge.core.sentence import Words, words_in
from expunge.methods.sentences import method_words
from expunge.problems import forget_sets
from expunge.problems.images import canaries, memorised


@cache
def all_words() -> Words:
    """Every word that a sentence may use, by name."""
    return {
        **method_words(),
        **words_in(forget_sets, canaries, memorised),
        **audit_words(),
    }


def parse(text: str) -> Any:
    """Read a step, steps, a term, a selector, a whole Method, a forget set or an audit.

    Raises:
        BadSentence: a name that is not known (with the nearest one that is), an operation that is
            not part of the grammar, or arguments that a word does not take.
    """
    return sentence.parse(text, all_words())
