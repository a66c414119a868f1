"""Mutations of sentences, and the words that a search may use."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from expunge.core.method import Method, Step
from expunge.core.selector import Selector
from expunge.core.sentence import parse
from expunge.core.term import Sum, Term, leaves
from expunge.engine.training import Repeat, Train
from expunge.errors import BadData, BadSentence, did_you_mean
from expunge.experiments.tuning.ranges import WordPath, at, found, put, rounded
from expunge.experiments.tuning.space import configured, search_space
from expunge.methods.sentences import method_words

KEYS: dict[str, type] = {"steps": Step, "parts": Selector, "terms": Term}


LARGEST_FILE = 1_000_000


@dataclass(frozen=True)
class SearchVocabulary:
    """What may be put into a sentence; their numbers are where the search begins."""

    steps: tuple[Step, ...]
    parts: tuple[Selector, ...]
    terms: tuple[Term, ...]


def search_vocabulary(path: Path | None = None) -> SearchVocabulary:
    """The words of a file, or those that come with the package.

    Raises:
        BadData: the file cannot be read.
        BadSentence: it is no TOML, or holds a key or a word that is not known.
    """
    if path is None:
        return read(
            (files("expunge.experiments.tuning") / "words.toml").read_text("utf-8"), "words.toml"
        )
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise BadData(f"{path} is larger than {LARGEST_FILE} bytes; no list of words is.")
        return read(path.read_text("utf-8", errors="replace"), str(path))
    except OSError as fault:
        raise BadData(f"{path} could not be read: {fault.strerror}.") from None


def read(text: str, origin: str) -> SearchVocabulary:
    """Read a vocabulary from TOML."""
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as fault:
        raise BadSentence(f"{origin} is not TOML: {fault}.") from None
    for key in table:
        if key not in KEYS:
            raise BadSentence(f"{origin}: unknown key {key!r}.{did_you_mean(key, KEYS)}")
    found = {key: _words(origin, table, key) for key in KEYS}
    if not found["steps"]:
        raise BadSentence(f"{origin}: the key 'steps' must list a step or more.")
    return SearchVocabulary(**found)


def _words(origin: str, table: dict[str, Any], key: str) -> tuple[Any, ...]:
    """The entries of one key, each of its kind."""
    listed = table.get(key, [])
    if not isinstance(listed, list) or not all(isinstance(entry, str) for entry in listed):
        raise BadSentence(f"{origin}: {key} must be a list of sentences in quotes.")
    return tuple(_word(origin, entry, key) for entry in listed)


def _word(origin: str, entry: str, key: str) -> Any:
    # A bare name is the word with its defaults, as far as it has them.
    said = f"{entry}()" if entry in method_words() else entry
    try:
        found = parse(said, method_words())
    except BadSentence as fault:
        raise BadSentence(f"{origin}: {key}: {fault}") from None
    if not isinstance(found, KEYS[key]):
        raise BadSentence(f"{origin}: {key}: {entry!r} is no {key.removesuffix('s')}.")
    return found


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


def _sequence(method: Method, rng: Generator) -> tuple[WordPath, tuple[Step, ...]]:
    """The steps of the method, or those inside a `Repeat`."""
    places: list[WordPath] = [("steps",)]
    inside = found(method.steps, lambda thing: isinstance(thing, Repeat), ("steps",))
    places += [(*path, "steps") for path, _ in inside]
    path = _one(places, rng)
    return path, at(method, path)


def _objective(method: Method, rng: Generator) -> tuple[WordPath, Term | None]:
    """An objective of a `Train`; none where nothing is trained."""
    trains = list(found(method, lambda thing: isinstance(thing, Train)))
    if not trains:
        return (), None
    path, train = _one(trains, rng)
    return (*path, "objective"), train.objective
