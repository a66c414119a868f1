"""Steps that train: gradient descent, its opposite, and taking turns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from expunge import descent
from expunge.errors import BadSentence
from expunge.optimisers import SGD, Optimiser
from expunge.parts import Everything, Part
from expunge.schedules import Schedule
from expunge.steps.step import Step
from expunge.terms import Term
from expunge.words import word

if TYPE_CHECKING:
    from expunge.unlearn import Run

MOST_TURNS = 10_000


@word
class Train(Step):
    """Minimise an objective by gradient descent.

    Args:
        objective: terms on named sets.
        epochs: passes over the largest set of the objective, or over the set `over`; may be broken.
        lr: learning rate, a number or a schedule over the step.
        batch: examples of each set in a minibatch; a last minibatch of one joins the one before.
        optimiser: how gradients become changes.
        where: the weights that may move; all others stay as they are, bit for bit, and a module
            with no weight among them works in evaluation mode.
        over: the set that an epoch is a pass over; the largest when empty.
        clip: largest L2 norm of the gradient; 0 for none.
    """

    objective: Term
    epochs: float = 1.0
    lr: float | Schedule = 0.01
    batch: int = 64
    optimiser: Optimiser = SGD()
    where: Part = Everything()
    over: str = ""
    clip: float = 0.0

    def check(self) -> None:
        if self.epochs <= 0 or self.batch < 1 or self.clip < 0:
            raise BadSentence("Train: epochs and batch must be above 0, and clip 0 or more.")
        if not self.objective.sets:
            raise BadSentence(f"Train: {self.objective!r} reads no set, so there is no minibatch.")
        if self.over and self.over not in self.objective.sets:
            sets = ", ".join(self.objective.sets)
            raise BadSentence(f"Train: over={self.over!r} is not among the objective's: {sets}.")

    def __call__(self, run: Run) -> None:
        for _ in descent.descend(self, descent.Solo(run)):
            pass


@word
class Negate(Step):
    """Train a copy on what is to be forgotten and go the opposite way: a negated task vector.

    Buffers stay as they were: the opposite of a running variance can be negative.

    Source: Ilharco et al., Editing Models with Task Arithmetic, arXiv 2212.04089, section 3.
    """

    train: Train
    scale: float = 1.0

    @torch.no_grad()
    def __call__(self, run: Run) -> None:
        state = (*run.model.named_parameters(), *run.model.named_buffers())
        before = {name: tensor.detach().clone() for name, tensor in state}
        with torch.enable_grad():
            self.train(run)
        for name, buffer in run.model.named_buffers():
            buffer.copy_(before[name])
        for name, weight in run.model.named_parameters():
            weight.copy_(before[name] - self.scale * (weight - before[name]))


@word
class Repeat(Step):
    """Take turns: all steps in order, `times` times.

    A `Train` inside is one descent cut into turns: it keeps its optimiser's memory, and its
    schedule spans all turns.
    """

    steps: tuple[Step, ...]
    times: int

    def check(self) -> None:
        if not 1 <= self.times <= MOST_TURNS or not self.steps:
            raise BadSentence(f"Repeat: expected steps, and times between 1 and {MOST_TURNS}.")

    def __call__(self, run: Run) -> None:
        for place, turn, step in unrolled((self,)):
            run.place, run.turn = place, turn
            step(run)


def unrolled(steps: tuple[Step, ...], place: str = "", turn: Turn = (0, 1)) -> Plan:
    """The steps one by one, without `Repeat`: each with its place and (turn, of how many)."""
    plan: Plan = []
    for number, step in enumerate(steps):
        here = f"{place}/{number}"
        if not isinstance(step, Repeat):
            plan.append((here, turn, step))
            continue
        for again in range(step.times):
            inner = (turn[0] * step.times + again, turn[1] * step.times)
            plan.extend(unrolled(step.steps, here, inner))
    return plan


Turn = tuple[int, int]


Plan = list[tuple[str, Turn, Step]]
