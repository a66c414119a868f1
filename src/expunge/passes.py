"""How many forward passes an objective takes of each minibatch, by its words alone."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Any

from expunge.terms import Term

# Beside the sets that `reads` counts, what no receipt counts: examples that go forward alone, and
# inputs that a step makes itself, which go forward and backward.
ANSWERS, MADE = "answers", "made"


def passes(objective: Term) -> Counter[str]:
    """Forward passes of one minibatch of each set: one by each model, however many terms read it.

    A term on changed inputs (`alters`) sees another minibatch; passes on inputs of a term's own
    (`extra_passes`) come on top.
    """
    count = Counter(name for _, _, name in set(_asked(objective, "")))
    for term in single_terms(objective):
        if term.extra_passes:
            count[term.sets[0]] += term.extra_passes
    return count


def single_terms(thing: Any) -> Iterator[Term]:
    """The terms inside a term that hold no other term."""
    if isinstance(thing, tuple):
        for item in thing:
            yield from single_terms(item)
    elif isinstance(thing, Term):
        inner = list(single_terms(_held(thing)))
        yield from inner or [thing]


def _held(word: Any) -> tuple[Any, ...]:
    return tuple(getattr(word, field.name) for field in dataclasses.fields(word))


def _asked(thing: Any, seen: str) -> Iterator[tuple[str, str, str]]:
    """Who answers which set, and in which changed form: each triple is one forward pass."""
    if isinstance(thing, tuple):
        for item in thing:
            yield from _asked(item, seen)
    elif isinstance(thing, Term):
        inner = list(_asked(_held(thing), seen + thing.alters))
        yield from inner or ((who, seen + thing.alters, name) for who, name in thing.asks)


def more_than_one(objective: Term, read: Counter[str]) -> int:
    """Examples that go through a forward pass once more than the receipt counts them."""
    count = passes(objective)
    return sum(max(0, count[name] - 1) * examples for name, examples in read.items())
