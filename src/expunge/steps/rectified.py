"""A step that trains on two objectives whose gradients are kept from undoing one another."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from expunge import descent
from expunge.batch import Batch
from expunge.errors import BadSentence
from expunge.optimisers import AdamW, Optimiser
from expunge.schedules import Schedule, value
from expunge.steps.step import Step
from expunge.steps.training import Train
from expunge.terms import Term
from expunge.words import word

if TYPE_CHECKING:
    from expunge.problem import Problem
    from expunge.unlearn import Run


@word
class Rectify(Step):
    """Gradient descent on two objectives, each gradient without what opposes the other.

    In each tensor where the two gradients conflict (a negative inner product), each is projected
    onto the plane that the other is normal to. They are then weighed 1 - w and w, with
    w = 1 / (1 + exp(sharpness (retain loss - target))), so that forgetting rests while the retain
    loss is above the target.

    Args:
        forget: minimised with weight w; an epoch is a pass over its set.
        retain: minimised with weight 1 - w; its value is the retain loss.
        epochs, lr, batch, optimiser: as for `Train`.
        sharpness: gamma of the paper.
        target: epsilon of the paper, in the unit of the retain objective.

    Source: Lin et al., GDR-GMA, ACM MM 2024 (openreview 52NGERGnlz);
    RUIYUN-ML/GDR-GMA@34ba079, unlearn.py, whose second projection uses the first's result, and
    which projects the last tensor once more, onto an epoch's mean of conflicting forget gradients.
    """

    draws: ClassVar[bool] = True
    sees_original: ClassVar[bool] = False

    forget: Term
    retain: Term
    epochs: float = 10.0
    lr: float | Schedule = 0.0001
    batch: int = 256
    optimiser: Optimiser = AdamW()
    sharpness: float = 100.0
    target: float = 0.02

    def check(self) -> None:
        if not self.forget.sets or not self.retain.sets:
            raise BadSentence("Rectify: both objectives must read a set.")
        if self.epochs <= 0 or self.batch < 1 or self.sharpness < 0:
            raise BadSentence("Rectify: epochs and batch must be above 0, sharpness 0 or more.")

    @property
    def train(self) -> Train:
        """The step that would minimise both at once: what it reads, this one reads too."""
        both, lead = self.forget + self.retain, self.forget.sets[0]
        return Train(both, self.epochs, self.lr, self.batch, self.optimiser, over=lead)

    def reads(self, problem: Problem) -> Counter[str]:
        return descent.read_by(self.train, problem)

    def __call__(self, run: Run) -> None:
        train, crew = self.train, descent.Solo(run)
        crew.begin(train)
        optimiser = crew.optimiser(train)
        sizes = {name: len(run.data(name)) for name in train.objective.sets}
        feeds = {name: descent.feed(crew.runs, name, n, self.batch) for name, n in sizes.items()}
        device = next(iter(crew.weights.values())).device
        _, _, total = descent.course(train, sizes)
        with crew.randomness(0):
            for number in range(total):
                batches = {n: crew.gather(n, next(feeds[n])).to(device) for n in sizes}
                progress = (run.turn[0] + number / total) / run.turn[1]
                optimiser.param_groups[0]["lr"] = value(self.lr, progress)
                self._slope(crew, batches, progress)
                optimiser.step()
                descent.note_read(crew, batches)

    def _slope(self, crew: descent.Solo, batches: dict[str, Batch], progress: float) -> None:
        """Give every weight its gradient: the two, rectified and weighed."""
        weights = list(crew.weights.values())
        kept, keeping = slopes(crew.losses(self.retain, batches, progress), weights)
        _, leaving = slopes(crew.losses(self.forget, batches, progress), weights)
        share = torch.sigmoid(-self.sharpness * (kept - self.target))
        for weight, ours, theirs in zip(weights, leaving, keeping, strict=True):
            a, b = rectified(ours, theirs)
            weight.grad = share * a + (1 - share) * b


def slopes(loss: Tensor, weights: list[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """A loss without its history, and its gradients; 0 for a weight that it does not use."""
    found = torch.autograd.grad(loss.sum(), weights, materialize_grads=True)
    return loss.detach().sum(), found


def rectified(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Two gradients of one tensor, each without its part along the other where they conflict."""
    conflict = (a * b).sum().clamp_max(0.0)
    along = [conflict / g.square().sum().clamp_min(1e-30) for g in (a, b)]
    return a - along[1] * b, b - along[0] * a
