"""Reading methods: the words that a method's sentence may use, and the published names."""

from __future__ import annotations

from functools import cache
from typing import Any

from expunge.core import init_rules, method, optimisers, schedules, selector, term
from expunge.core.method import Method, method_of
from expunge.core.sentence import Words, parse, words_in
from expunge.engine import training
from expunge.errors import BadSentence, did_you_mean
from expunge.methods import guardrails, losses, selectors, steps
from expunge.methods.published import NAMED


@cache
def method_words() -> Words:
    """Every word that the sentence of a method or of a guardrail may use, by name."""
    shared = (init_rules, method, optimisers, schedules, selector, term, training)
    return words_in(*shared, losses, selectors, steps, guardrails)


def as_method(source: Any, name: str = "mine") -> Method:
    """Take a Method, a step, steps, a published method's name, or a sentence.

    Raises:
        BadSentence: a name or a sentence that cannot be read, or none of these.
    """
    if isinstance(source, str):
        source = NAMED.get(source.strip()) or parse_steps(source)
    return method_of(source, name)


def parse_steps(text: str) -> Any:
    """Read a method; a bare word that is no sentence is taken for a misspelt method's name.

    Raises:
        BadSentence: there is no such method, or the sentence cannot be read.
    """
    if text.strip().isidentifier():
        known = ", ".join(NAMED)
        hint = did_you_mean(text.strip(), NAMED)
        raise BadSentence(f"No method is called {text.strip()!r}.{hint} There are {known}.")
    return parse(text, method_words())
