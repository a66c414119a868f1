"""Read methods from sentences, with the published names."""

from __future__ import annotations

from functools import cache
from typing import Any

from expunge.core import method, schedules, selector, term
from expunge.core import schedules as optimisers
from expunge.core import seeds as init_rules
from expunge.core.method import Method, method_of
from expunge.core.sentence import Words, parse, words_in
from expunge.engine import training
from expunge.errors import BadSentence, did_you_mean
from expunge.methods import guardrails, losses, selectors, steps
from expunge.methods.published import NAMED


@cache
def method_words() -> Words:
    """Return every word that the sentence of a method or of a guardrail may use, by name."""
    shared = (init_rules, method, optimisers, schedules, selector, term, training)
    return words_in(*shared, losses, selectors, steps, guardrails)


def as_method(source: Any, name: str = "mine") -> Method:
    """Return the method that is meant by a Method, a step, steps, a published name or a sentence.

    Raises:
        BadSentence: it is none of these, or a name or a sentence that cannot be read.
    """
    if isinstance(source, str):
        source = NAMED.get(source.strip()) or parse_steps(source)
    return method_of(source, name)


def parse_steps(text: str) -> Any:
    """Read the steps of a sentence; a bare word is taken as a misspelt method's name.

    Raises:
        BadSentence: no method has that name, or the sentence cannot be read.
    """
    if text.strip().isidentifier():
        hint = did_you_mean(text.strip(), NAMED)
        raise BadSentence(
            f"No method is called {text.strip()!r}.{hint} `expunge methods` lists all {len(NAMED)}."
        )
    return parse(text, method_words())
