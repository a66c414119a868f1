"""Numbers that change while a step runs: learning rates and the coefficients of terms."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Self

from expunge.core.vocabulary import word
from expunge.errors import BadSentence


class Schedule(ABC):
    """A number as a function of progress: 0.0 at the first minibatch, towards 1.0 at the last."""

    @abstractmethod
    def __call__(self, progress: float) -> float: ...

    @abstractmethod
    def scaled(self, factor: float) -> Self:
        """The same course, every value times `factor`."""


@word
class Linear(Schedule):
    """From `start` to `end` in a straight line."""

    start: float
    end: float = 0.0

    def __call__(self, progress: float) -> float:
        return self.start + (self.end - self.start) * progress

    def scaled(self, factor: float) -> Linear:
        return Linear(self.start * factor, self.end * factor)


@word
class Cosine(Schedule):
    """From `start` to `end` along half a cosine wave.

    Source: Loshchilov and Hutter, SGDR, arXiv 1608.03983, equation 5, without restarts.
    """

    start: float
    end: float = 0.0

    def __call__(self, progress: float) -> float:
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * progress)) / 2

    def scaled(self, factor: float) -> Cosine:
        return Cosine(self.start * factor, self.end * factor)


@word
class Warmup(Schedule):
    """Up in a straight line from 0 to `peak` at the share `until`, then down to 0."""

    peak: float
    until: float = 0.2

    def check(self) -> None:
        if not 0 < self.until < 1:
            raise BadSentence(f"Warmup: until must lie between 0 and 1, got {self.until}.")

    def __call__(self, progress: float) -> float:
        if progress < self.until:
            return self.peak * progress / self.until
        return self.peak * (1 - progress) / (1 - self.until)

    def scaled(self, factor: float) -> Warmup:
        return replace(self, peak=self.peak * factor)


@word
class Steps(Schedule):
    """`start`, times `factor` at each of the shares `at` of the way (torch's MultiStepLR)."""

    start: float
    at: tuple[float, ...]
    factor: float = 0.1

    def check(self) -> None:
        if not self.at or any(not 0 < share < 1 for share in self.at):
            raise BadSentence(f"Steps: at must be shares between 0 and 1, got {self.at}.")

    def __call__(self, progress: float) -> float:
        return self.start * self.factor ** sum(progress >= share for share in self.at)

    def scaled(self, factor: float) -> Steps:
        return replace(self, start=self.start * factor)


@word
class Listed(Schedule):
    """One value after another, each for an equal share of the step."""

    values: tuple[float, ...]

    def check(self) -> None:
        if not self.values:
            raise BadSentence("Listed: expected values, as in Listed((0.001, 0.0001)).")

    def __call__(self, progress: float) -> float:
        return self.values[_stretch(progress, len(self.values))]

    def scaled(self, factor: float) -> Listed:
        return Listed(tuple(factor * each for each in self.values))


@word
class Stairs(Schedule):
    """Another schedule in `steps` equal stairs, each at the value where it begins.

    With as many steps as epochs it is what torch's schedulers give that are moved once an epoch.
    """

    course: Schedule
    steps: int

    def check(self) -> None:
        if self.steps < 1:
            raise BadSentence(f"Stairs: steps must be 1 or more, got {self.steps}.")

    def __call__(self, progress: float) -> float:
        return self.course(_stretch(progress, self.steps) / self.steps)

    def scaled(self, factor: float) -> Stairs:
        return replace(self, course=self.course.scaled(factor))


def _stretch(progress: float, count: int) -> int:
    """The number of the stretch that `progress` is in, of `count` equal ones, from 0 on."""
    # 1 / 49 times 49 lies a rounding error below 1
    return min(int(progress * count + 1e-9), count - 1)


def value(number: float | Schedule, progress: float) -> float:
    """The number now; a plain number is the same all along."""
    return number(progress) if isinstance(number, Schedule) else number
