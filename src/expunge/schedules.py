"""Numbers that change while a step runs: learning rates and the coefficients of terms."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Self

from expunge.errors import BadSentence
from expunge.words import word


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


def value(number: float | Schedule, progress: float) -> float:
    """The number now; a plain number is the same all along."""
    return number(progress) if isinstance(number, Schedule) else number
