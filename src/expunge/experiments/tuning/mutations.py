"""Mutations of a sentence: always typed, so what comes out is a sentence again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from expunge.core.method import Method, Step
from expunge.core.selector import Selector
from expunge.core.term import Sum, Term, leaves
from expunge.engine.training import Repeat, Train
from expunge.errors import BadSentence
from expunge.experiments.tuning.ranges import Path, at, found, put, rounded
from expunge.experiments.tuning.search_vocabulary import SearchVocabulary
from expunge.experiments.tuning.space import configured, search_space

Generator = np.random.Generator


Mutation = Callable[[Method, SearchVocabulary, Generator], Method | None]


LONGEST = 6


# Of the range from a tenth to ten times: most steps stay within a factor of two.
STRIDE = 0.12


ATTEMPTS = 50


FURTHER = 0.4


def mutated(method: Method, vocabulary: SearchVocabulary, rng: Generator) -> Method:
    """A sentence near another: one mutation, sometimes two or more.

    Raises:
        BadSentence: no mutation leads anywhere.
    """
    for _ in range(ATTEMPTS):
        try:
            new = _mutated(method, vocabulary, rng)
            while rng.random() < FURTHER:
                new = _mutated(new, vocabulary, rng)
        except BadSentence:  # a word refused its new neighbours
            continue
        if new.steps != method.steps:
            return new
    raise BadSentence(f"No mutation leads away from {method.sentence}; give --words more words.")


def crossed(one: Method, other: Method, rng: Generator) -> Method:
    """The first steps of one sentence and the last of another."""
    head = int(rng.integers(0, len(one.steps) + 1))
    tail = int(rng.integers(0, len(other.steps) + 1))
    steps = (one.steps[:head] + other.steps[tail:])[:LONGEST]
    return replace(one, steps=steps or one.steps)


def change_number(method: Method, vocabulary: SearchVocabulary, rng: Generator) -> Method | None:
    """Another value for one number, most often a near one."""
    space = search_space(method)
    if not space:
        return None
    parameter = _one(space, rng)
    unit = parameter.place + rng.normal(0, STRIDE)
    return configured(method, [(parameter, parameter.range.at(float(np.clip(unit, 0, 1))))])


def insert_step(method: Method, vocabulary: SearchVocabulary, rng: Generator) -> Method | None:
    """A step of the vocabulary, before, between or after the others."""
    path, steps = _sequence(method, rng)
    if len(steps) >= LONGEST:
        return None
    place = int(rng.integers(0, len(steps) + 1))
    new = _one(vocabulary.steps, rng)
    return put(method, path, (*steps[:place], new, *steps[place:]))


def drop_step(method: Method, vocabulary: SearchVocabulary, rng: Generator) -> Method | None:
    """One step less."""
    path, steps = _sequence(method, rng)
    if len(steps) < 2:
        return None
    place = int(rng.integers(0, len(steps)))
    return put(method, path, steps[:place] + steps[place + 1 :])


def swap_steps(method: Method, vocabulary: SearchVocabulary, rng: Generator) -> Method | None:
    """Two steps in the other order."""
    path, steps = _sequence(method, rng)
    if len(steps) < 2:
        return None
    places = list(range(len(steps)))
    a, b = rng.choice(len(steps), size=2, replace=False)
    places[a], places[b] = places[b], places[a]
    return put(method, path, tuple(steps[place] for place in places))


def change_part(method: Method, vocabulary: SearchVocabulary, rng: Generator) -> Method | None:
    """The same step to other weights."""
    places = list(found(method, lambda thing: isinstance(thing, Selector)))
    if not places or not vocabulary.parts:
        return None
    path, _ = _one(places, rng)
    return put(method, path, _one(vocabulary.parts, rng))


def add_term(method: Method, vocabulary: SearchVocabulary, rng: Generator) -> Method | None:
    """One more term in an objective."""
    path, objective = _objective(method, rng)
    if objective is None or not vocabulary.terms:
        return None
    new = _one(vocabulary.terms, rng)
    there = set(leaves(objective))
    return None if there & set(leaves(new)) else put(method, path, objective + new)


def drop_term(method: Method, vocabulary: SearchVocabulary, rng: Generator) -> Method | None:
    """One term less in an objective that has several."""
    path, objective = _objective(method, rng)
    if not isinstance(objective, Sum) or len(objective.parts) < 2:
        return None
    place = int(rng.integers(0, len(objective.parts)))
    left = objective.parts[:place] + objective.parts[place + 1 :]
    total = sum((weight * term for weight, term in left[1:]), start=left[0][0] * left[0][1])
    return put(method, path, total)


def weigh_term(method: Method, vocabulary: SearchVocabulary, rng: Generator) -> Method | None:
    """The other sign for one term, or a weight where it had none."""
    path, objective = _objective(method, rng)
    if not isinstance(objective, Sum):
        return None
    place = int(rng.integers(0, len(objective.parts)))
    weight = objective.parts[place][0]
    if not isinstance(weight, int | float):
        return None
    factor = -1.0 if rng.random() < 1 / 3 else 10 ** rng.normal(0, 0.5)
    return put(method, path, put(objective, ("parts", place, 0), rounded(weight * factor)))


# Numbers are changed more often than words: there are more of them to set right.
MUTATIONS: tuple[Mutation, ...] = (
    change_number,
    change_number,
    change_number,
    change_number,
    insert_step,
    drop_step,
    swap_steps,
    change_part,
    add_term,
    drop_term,
    weigh_term,
)


def _mutated(method: Method, vocabulary: SearchVocabulary, rng: Generator) -> Method:
    return _one(MUTATIONS, rng)(method, vocabulary, rng) or method


def _one(listed: Any, rng: Generator) -> Any:
    """One of several, each as likely."""
    return listed[int(rng.integers(0, len(listed)))]


def _sequence(method: Method, rng: Generator) -> tuple[Path, tuple[Step, ...]]:
    """The steps of the method, or those inside a `Repeat`."""
    places: list[Path] = [("steps",)]
    inside = found(method.steps, lambda thing: isinstance(thing, Repeat), ("steps",))
    places += [(*path, "steps") for path, _ in inside]
    path = _one(places, rng)
    return path, at(method, path)


def _objective(method: Method, rng: Generator) -> tuple[Path, Term | None]:
    """An objective of a `Train`; none where nothing is trained."""
    trains = list(found(method, lambda thing: isinstance(thing, Train)))
    if not trains:
        return (), None
    path, train = _one(trains, rng)
    return (*path, "objective"), train.objective
