"""Numbers that change while a step runs, and the optimisers that use them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from typing import Self

import torch
from torch import Tensor

from expunge.core.selector import Selector
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


class Optimiser(ABC):
    """Makes one of torch's optimisers for some weights; the step size comes from the schedule."""

    @abstractmethod
    def over(self, weights: Iterable[Tensor]) -> torch.optim.Optimizer: ...


@word
class SGD(Optimiser):
    """Stochastic gradient descent with momentum (torch.optim.SGD)."""

    momentum: float = 0.9
    weight_decay: float = 0.0
    nesterov: bool = False

    def check(self) -> None:
        if self.momentum < 0 or self.weight_decay < 0:
            raise BadSentence("SGD: momentum and weight_decay must be 0 or more.")
        if self.nesterov and self.momentum == 0:
            raise BadSentence("SGD: nesterov=True needs a momentum above 0.")

    def over(self, weights: Iterable[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            weights,
            lr=0.0,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov,
        )


@word
class Adam(Optimiser):
    """Adam (torch.optim.Adam)."""

    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999

    def check(self) -> None:
        _check_adam(self)

    def over(self, weights: Iterable[Tensor]) -> torch.optim.Optimizer:
        betas = (self.beta1, self.beta2)
        return torch.optim.Adam(weights, lr=0.0, betas=betas, weight_decay=self.weight_decay)


@word
class AdamW(Optimiser):
    """Adam with decoupled weight decay (torch.optim.AdamW)."""

    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999

    def check(self) -> None:
        _check_adam(self)

    def over(self, weights: Iterable[Tensor]) -> torch.optim.Optimizer:
        betas = (self.beta1, self.beta2)
        return torch.optim.AdamW(weights, lr=0.0, betas=betas, weight_decay=self.weight_decay)


@word
class Slowed:
    """Weights whose gradients are multiplied by a factor before the optimiser sees them.

    Weight decay, which the optimiser adds, is not slowed.

    Source: second prize of the NeurIPS 2023 challenge (Kookmin Y): kernels' weights that were not
    drawn again learn at a tenth of the rate.
    """

    where: Selector
    factor: float = 0.1

    def check(self) -> None:
        if self.factor < 0:
            raise BadSentence(f"Slowed: factor must be 0 or more, got {self.factor}.")


def _check_adam(owner: Adam | AdamW) -> None:
    if not (0 <= owner.beta1 < 1 and 0 <= owner.beta2 < 1 and owner.weight_decay >= 0):
        raise BadSentence(
            f"{type(owner).__name__}: beta1 and beta2 must be 0 or more and below 1, and "
            "weight_decay 0 or more."
        )
