"""What is done: the nine primitive steps that every method is a sentence of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from expunge import descent
from expunge.curvature import conjugate_gradient, full_gradient, hessian_times, importance
from expunge.errors import BadSentence
from expunge.optimisers import SGD, Optimiser
from expunge.parts import Everything, Part
from expunge.schedules import Schedule
from expunge.terms import Term
from expunge.words import word

if TYPE_CHECKING:
    from expunge.unlearn import Run


MOST_TURNS = 10_000


class Step(ABC):
    """One thing done to one model, in place; abstract."""

    @abstractmethod
    def __call__(self, run: Run) -> None: ...


@word
class Noise(Step):
    """Add Gaussian noise of one standard deviation to some weights."""

    std: float
    where: Part = Everything()

    def check(self) -> None:
        if self.std < 0:
            raise BadSentence(f"Noise: std must be 0 or more, got {self.std}.")

    @torch.no_grad()
    def __call__(self, run: Run) -> None:
        stream, mask = run.stream("noise"), run.mask(self.where)
        for name, weight in run.model.named_parameters():
            drawn = torch.randn(weight.shape, generator=stream).to(weight)
            weight.add_(self.std * drawn * mask[name])


@word
class Reset(Step):
    """Initialise some weights anew, and the buffers of layers that are wholly among them.

    Buffers matter: running statistics of normalisation layers have seen the forget set.
    """

    where: Part = Everything()

    @torch.no_grad()
    def __call__(self, run: Run) -> None:
        mask, fresh = run.mask(self.where), run.fresh("reset")
        new_weights, new_buffers = dict(fresh.named_parameters()), dict(fresh.named_buffers())
        for name, weight in run.model.named_parameters():
            weight.copy_(torch.where(mask[name], new_weights[name], weight))
        for name, buffer in run.model.named_buffers():
            if _owner_is_inside(name, mask):
                buffer.copy_(new_buffers[name])


def _owner_is_inside(buffer: str, mask: dict[str, Tensor]) -> bool:
    """Whether all weights of the buffer's module are reset; of all weights, if it has none."""
    owner = buffer.rpartition(".")[0] + "."
    own = [inside for name, inside in mask.items() if name.startswith(owner)]
    return all(bool(inside.all()) for inside in own or mask.values())


@word
class Zero(Step):
    """Set some weights to zero: prune them."""

    where: Part

    @torch.no_grad()
    def __call__(self, run: Run) -> None:
        mask = run.mask(self.where)
        for name, weight in run.model.named_parameters():
            weight.masked_fill_(mask[name], 0.0)


@word
class Dampen(Step):
    """Shrink the weights that matter much more to the forget set than to the training set.

    Where F_forget > alpha F_train: weight *= min(strength F_train / F_forget, 1), with F the mean
    of the *squared gradients of single examples*, so that no batch size or order enters.

    Source: Foster et al., Selective Synaptic Dampening, arXiv 2308.07707, equations 3 and 4;
    if-loops/selective-synaptic-dampening squares gradients of batches instead.
    """

    alpha: float = 10.0
    strength: float = 1.0
    set: str = "forget"
    against: str = "train"

    @torch.no_grad()
    def __call__(self, run: Run) -> None:
        ours, theirs = importance(run, self.set), importance(run, self.against)
        for name, weight in run.model.named_parameters():
            factor = (self.strength * theirs[name] / ours[name].clamp_min(1e-30)).clamp_max(1.0)
            chosen = ours[name] > self.alpha * theirs[name]
            weight.mul_(torch.where(chosen, factor, torch.ones_like(factor)))


@word
class Newton(Step):
    """One damped Newton step on an objective: weights -= scale (H + damping)^-1 gradient.

    On the retain set this is the influence of leaving the forget set out; it is exact where the
    objective is quadratic. H is the Hessian in evaluation mode, solved by conjugate gradients.

    Source: Guo et al., Certified Data Removal, arXiv 1911.03030, equation 3.
    """

    objective: Term
    damping: float = 0.01
    iterations: int = 20
    scale: float = 1.0

    def check(self) -> None:
        if self.damping < 0 or self.iterations < 1:
            raise BadSentence("Newton: damping must be 0 or more and iterations 1 or more.")
        if not self.objective.sets:
            raise BadSentence(f"Newton: {self.objective!r} reads no set, so it has no gradient.")

    def __call__(self, run: Run) -> None:
        gradient = full_gradient(run, self.objective)
        times = hessian_times(run, self.objective, self.damping)
        change = conjugate_gradient(times, gradient, self.iterations)
        with torch.no_grad():
            for name, weight in run.model.named_parameters():
                weight.sub_(self.scale * change[name])


@word
class Blend(Step):
    """Move back towards the original model by a share of the way (weights and statistics)."""

    share: float

    def check(self) -> None:
        if not 0 <= self.share <= 1:
            raise BadSentence(f"Blend: share must lie between 0 and 1, got {self.share}.")

    @torch.no_grad()
    def __call__(self, run: Run) -> None:
        before = run.original.state_dict()
        for name, now in run.model.state_dict().items():
            if now.is_floating_point():
                now.lerp_(before[name].to(now), self.share)


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
