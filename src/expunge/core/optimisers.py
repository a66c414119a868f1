"""Optimisers: those of torch, as words of a sentence."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor

from expunge.core.selector import Selector
from expunge.core.vocabulary import word
from expunge.errors import BadSentence


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
