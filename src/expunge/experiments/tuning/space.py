"""The space of a sentence: every number in it that may vary, found by walking its words.

Tuning changes numbers and never words. Defaults vary like what is written down, since a method that
says little is to have no less of a chance. Held are a minibatch's size and a term's neutral 1 where
they are left unsaid, what is 0, whole numbers that no row of `KINDS` names, and the optimiser's own
numbers. So whoever wants one of the first two tuned writes it down; `hold` keeps what is to stay.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

from expunge.core.method import Method
from expunge.core.schedules import Optimiser, Schedule
from expunge.core.term import Sum, Term
from expunge.engine.training import Train
from expunge.errors import BadSentence, did_you_mean
from expunge.experiments.tuning.ranges import (
    Number,
    Range,
    WordPath,
    at,
    children,
    doubled,
    found,
    neighbours,
    odds,
    put,
    rounded,
    tenfold,
)

Kind = Callable[[Number], Range]


# (class, field) -> how it varies; "*" stands for every class that has no row of its own.
# A fraction that no row names is taken tenfold either way, a whole number is held.
KINDS: Mapping[tuple[str, str], Kind] = MappingProxyType(
    {
        ("Train", "lr"): tenfold,
        ("Train", "epochs"): tenfold,
        ("Train", "batch"): doubled,
        ("Repeat", "times"): doubled,
        ("First", "layers"): neighbours,
        ("Last", "layers"): neighbours,
        ("Lotus", "epochs"): doubled,
        ("RandomTensors", "count"): neighbours,
        ("*", "share"): odds,
        ("*", "times"): doubled,
        ("*", "batch"): doubled,
    }
)


# An optimiser belongs to the recipe of the network; its numbers stay.
HELD = (Optimiser,)


@dataclass(frozen=True)
class Hyperparameter:
    """One number of a sentence that may vary.

    Args:
        name: what a report calls it, such as "epochs['retain']".
        path: fields and positions that lead to it from the method.
        value: as the sentence gives it, without its sign; of a schedule the number it begins with.
        range: where it may go.
    """

    name: str
    path: WordPath
    value: Number
    range: Range

    @property
    def place(self) -> float:
        """Where the given value is in the range, 0 to 1."""
        return self.range.place(self.value)

    def at(self, unit: float) -> Number:
        """The value at a place in the range; at its own place the given one, to the last digit."""
        return self.value if unit == self.place else self.range.at(unit)


def search_space(method: Method, hold: Sequence[str] = ()) -> tuple[Hyperparameter, ...]:
    """Every number of a method that may vary, under names that are unlike one another.

    Args:
        method: its sentence is walked.
        hold: names that stay as they are; * and ? stand for signs.
    """
    seen: dict[str, int] = {}
    named = []
    for parameter in _walk(method.steps, ("steps",)):
        seen[parameter.name] = seen.get(parameter.name, 0) + 1
        number = seen[parameter.name]
        name = parameter.name if number == 1 else f"{parameter.name} ({number})"
        if not any(fnmatchcase(name, pattern) for pattern in hold):
            named.append(dataclasses.replace(parameter, name=name))
    return tuple(named)


def check_held(methods: Iterable[Method], hold: Sequence[str]) -> None:
    """Refuse a name to be held that no method has a number of.

    Raises:
        BadSentence: with the nearest name that there is.
    """
    names = sorted({parameter.name for method in methods for parameter in search_space(method)})
    for pattern in hold:
        if not any(fnmatchcase(name, pattern) for name in names):
            hint = did_you_mean(pattern, names)
            raise BadSentence(f"--hold: no method has a number called {pattern!r}.{hint}")


def configured(method: Method, chosen: Sequence[tuple[Hyperparameter, Number]]) -> Method:
    """The same words with other numbers."""
    for parameter, number in chosen:
        method = put(method, parameter.path, _like(at(method, parameter.path), number))
    return method


def _walk(thing: Any, path: WordPath) -> Iterator[Hyperparameter]:
    """The numbers below a word, in the order in which one reads them."""
    if isinstance(thing, HELD):
        return
    if isinstance(thing, Sum):
        yield from _addends(thing, path)
        return
    for place, value in children(thing):
        here = (*path, place)
        kind = _kind(thing, place, value)
        if kind is not None:
            yield _parameter(f"{place}[{_label(thing)}]", here, value, kind)
        elif not isinstance(value, Schedule):
            yield from _walk(value, here)


def _addends(total: Sum, path: WordPath) -> Iterator[Hyperparameter]:
    """Coefficients and terms; one term of coefficient 1 is what the others are weighed against."""
    weights = [_size(coefficient) for coefficient, _ in total.parts]
    plain = next((i for i, weight in enumerate(weights) if weight == 1), None)
    for place, (coefficient, term) in enumerate(total.parts):
        here = (*path, "parts", place)
        if place != plain and len(total.parts) > 1 and _size(coefficient):
            yield _parameter(f"weight[{term!r}]", (*here, 0), coefficient, tenfold)
        yield from _walk(term, (*here, 1))


def _kind(owner: Any, name: str | int, value: Any) -> Kind | None:
    """How a field varies; None where it does not."""
    if isinstance(value, bool) or not isinstance(value, int | float | Schedule):
        return None
    if not dataclasses.is_dataclass(owner):
        return None
    entry = (type(owner).__name__, str(name))
    if not _size(value) or _unsaid(owner, str(name), value):
        return None
    kind = KINDS.get(entry) or KINDS.get(("*", str(name)))
    # Named by no row: a fraction has a scale to vary on, a whole number counts something.
    return kind or (None if isinstance(value, int) else tenfold)


def _unsaid(owner: Any, name: str, value: Any) -> bool:
    """Whether a number is a default that says nothing: a minibatch's size, or a term's 1."""
    default = next(each.default for each in dataclasses.fields(owner) if each.name == name)
    neutral = name == "batch" or (isinstance(owner, Term) and value == 1)
    return value == default and neutral


def _parameter(name: str, path: WordPath, value: Any, kind: Kind) -> Hyperparameter:
    size = _size(value)
    return Hyperparameter(name, path, size, kind(size))


def _size(value: Any) -> Number:
    """A number without its sign; of a schedule, the first number that it is written with."""
    if isinstance(value, Schedule):
        return next((abs(number) for _, number in found(value, _is_number) if number), 0)
    return abs(value)


def _is_number(thing: Any) -> bool:
    return isinstance(thing, int | float) and not isinstance(thing, bool)


def _label(owner: Any) -> str:
    """Which word a number belongs to: a `Train` and a term are named by their sets."""
    if isinstance(owner, Train):
        return ", ".join(map(repr, owner.objective.sets))
    if isinstance(owner, Term):
        return repr(owner).partition("(")[0] + "".join(f" {name!r}" for name in owner.sets)
    return type(owner).__name__


def _like(before: Any, number: Number) -> Any:
    """A number of the same sign; of a schedule the same course, scaled."""
    if not isinstance(before, Schedule):
        return -number if before < 0 else number
    return _scaled(before, number)


def _scaled(course: Schedule, first: Number) -> Schedule:
    """A schedule whose first number is this, and the others in proportion, as one writes them."""
    new = course.scaled(first / _size(course))
    for path, number in list(found(new, _is_number)):
        if isinstance(number, float) and number != at(course, path):
            new = put(new, path, rounded(number))
    return new
