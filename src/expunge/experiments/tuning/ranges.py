"""The ranges that numbers of a sentence may be tuned in, and the cost that it may have."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from expunge.core.method import Method
from expunge.core.problem import Problem
from expunge.errors import BadSentence
from expunge.methods.cost import share_of_retraining

Number = int | float


DIGITS = 3


TENFOLD = 10.0


FEW_LAYERS = 1


class Range(ABC):
    """The values of one number, laid out from 0 to 1; abstract."""

    @abstractmethod
    def at(self, unit: float) -> Number:
        """The value at a place between 0 and 1, in so many digits as one would write."""

    @abstractmethod
    def place(self, number: Number) -> float:
        """The place of a value; values beyond the ends stand at the ends."""


@dataclass(frozen=True)
class Log(Range):
    """From `low` to `high`, both above 0; equal ratios take equal room."""

    low: float
    high: float

    def at(self, unit: float) -> Number:
        return rounded(self.low * (self.high / self.low) ** unit)

    def place(self, number: Number) -> float:
        if self.high <= self.low:
            return 0.5
        return _within(math.log(number / self.low) / math.log(self.high / self.low))


@dataclass(frozen=True)
class Odds(Range):
    """A share strictly between 0 and 1, from `low` to `high`; equal ratios of odds, equal room."""

    low: float
    high: float

    def at(self, unit: float) -> Number:
        odds = math.exp(_logit(self.low) * (1 - unit) + _logit(self.high) * unit)
        return rounded(odds / (1 + odds))

    def place(self, number: Number) -> float:
        inside = min(max(float(number), self.low), self.high)
        return _within((_logit(inside) - _logit(self.low)) / (_logit(self.high) - _logit(self.low)))


@dataclass(frozen=True)
class OneOf(Range):
    """A few values in their order."""

    values: tuple[int, ...]

    def at(self, unit: float) -> Number:
        return self.values[min(int(unit * len(self.values)), len(self.values) - 1)]

    def place(self, number: Number) -> float:
        found = min(bisect_left(self.values, number), len(self.values) - 1)
        return (found + 0.5) / len(self.values)


def tenfold(number: Number) -> Range:
    """A tenth of the number to ten times the number."""
    return Log(number / TENFOLD, number * TENFOLD)


def odds(number: Number) -> Range:
    """A share whose odds go from a tenth to ten times what they are; of all, from half on."""
    middle = min(max(float(number), 0.001), 0.9)
    low, high = (_logit(middle) + sign * math.log(TENFOLD) for sign in (-1, 1))
    return Odds(*(1 / (1 + math.exp(-end)) for end in (low, high)))


def doubled(number: Number) -> Range:
    """Half, the same, twice: for whole numbers of which a tenth makes no sense."""
    whole = int(number)
    return OneOf(tuple(sorted({max(1, whole // 2), whole, 2 * whole})))


def neighbours(number: Number) -> Range:
    """One less, the same, one more."""
    whole = int(number)
    around = range(whole - FEW_LAYERS, whole + FEW_LAYERS + 1)
    return OneOf(tuple(value for value in around if value >= 1))


def rounded(number: float) -> float:
    """A number in three significant digits, as one would write it."""
    return float(f"{number:.{DIGITS}g}")


def floored(number: float) -> float:
    """The largest number of three significant digits that is not above this one."""
    near = rounded(number)
    if near <= number:
        return near
    step = 10.0 ** (math.floor(math.log10(number)) - DIGITS + 1)
    return rounded(near - step)


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def _within(unit: float) -> float:
    return min(max(unit, 0.0), 1.0)


WordPath = tuple[str | int, ...]


def children(thing: Any) -> Iterator[tuple[str | int, Any]]:
    """What a word or a tuple holds, with the field or position that leads to it."""
    if isinstance(thing, tuple):
        yield from enumerate(thing)
    elif dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        for field in dataclasses.fields(thing):
            yield field.name, getattr(thing, field.name)


def found(
    thing: Any, wanted: Callable[[Any], bool], path: WordPath = ()
) -> Iterator[tuple[WordPath, Any]]:
    """Everything in a tree that is wanted; what is found is not looked into."""
    if wanted(thing):
        yield path, thing
        return
    for place, inner in children(thing):
        yield from found(inner, wanted, (*path, place))


def at(thing: Any, path: WordPath) -> Any:
    """What lies at a path."""
    for place in path:
        thing = thing[int(place)] if isinstance(thing, tuple) else getattr(thing, str(place))
    return thing


def put(thing: Any, path: WordPath, new: Any) -> Any:
    """The tree with something new at a path, all else as it was.

    Raises:
        BadSentence: a word refuses what it is given.
    """
    if not path:
        return new
    place, rest = path[0], path[1:]
    if isinstance(thing, tuple):
        number = int(place)
        return (*thing[:number], put(thing[number], rest, new), *thing[number + 1 :])
    name = str(place)
    return dataclasses.replace(thing, **{name: put(getattr(thing, name), rest, new)})


HALVINGS = 12


class TooDear(BadSentence):
    """A sentence that costs more than is allowed even with hardly any training."""


def within(method: Method, problem: Problem, cap: float) -> Method:
    """Return the method itself if it costs no more than allowed; else with all epochs scaled down.

    Where every turn already takes one minibatch, there are half as many turns, and half again.

    Args:
        method: any.
        problem: with a recipe.
        cap: the most that it may cost, as a share of retraining.

    Raises:
        TooDear: what it reads besides training is above the cap already.
        OffLimits, BadData: the method names a set that it may not see or that is not there.
    """
    if share_of_retraining(method, problem) <= cap:
        return method
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        fits = share_of_retraining(shortened(method, middle), problem) <= cap
        low, high = (middle, high) if fits else (low, middle)
    if low:
        return shortened(method, low)
    halved = _changed(method.steps, "times", lambda times, kind: max(1, times // 2))
    fewer = dataclasses.replace(method, steps=halved)
    if fewer == method:
        raise TooDear(
            f"{method.name} reads more than {cap:.0%} of what retraining reads even with the "
            "shortest training; raise --cost, or drop a step that reads whole sets."
        )
    return within(fewer, problem, cap)


def shortened(method: Method, factor: float) -> Method:
    """All epochs times a factor, in so many digits as one would write."""

    def shorter(epochs: Any, kind: Any) -> Any:
        return max(1, int(epochs * factor)) if kind == "int" else floored(epochs * factor)

    return dataclasses.replace(method, steps=_changed(method.steps, "epochs", shorter))


def _changed(thing: Any, name: str, change: Callable[[Any, Any], Any]) -> Any:
    """The same words with every field of this name changed, however deep it lies."""
    if isinstance(thing, tuple):
        return tuple(_changed(item, name, change) for item in thing)
    if not dataclasses.is_dataclass(thing) or isinstance(thing, type):
        return thing
    fields = dataclasses.fields(thing)
    inner = {field.name: _changed(getattr(thing, field.name), name, change) for field in fields}
    for field in fields:
        if field.name == name:
            inner[name] = change(inner[name], field.type)
    return dataclasses.replace(thing, **inner)
