"""Training with more than one gradient a step: primal-dual, sharpness-aware, rectified."""

from __future__ import annotations

import functools
import operator
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from expunge.core.batch import Batch
from expunge.core.method import Step
from expunge.core.schedules import AdamW, Optimiser, Schedule, value
from expunge.core.term import Coefficient, Term
from expunge.core.vocabulary import word
from expunge.engine import loop
from expunge.engine.loop import Epoch, ModelGroup, SingleModel
from expunge.engine.memory import ANSWERS, parts_of, passes
from expunge.engine.training import Descent, Train
from expunge.errors import BadSentence

if TYPE_CHECKING:
    from expunge.core.run import ProblemProtocol, RunProtocol


Batches = dict[str, Batch]


@word
class PrimalDual(Descent):
    """Minimise an objective while a term stays below a limit, by a multiplier that follows it.

    Each minibatch descends on objective + m (term - limit). Then, once the warm-up is over,
    m becomes max(0, m + rate (term - limit)): it grows while the limit is broken.

    Args:
        train: what is minimised, and how. An epoch is a pass over its largest set, or `over`.
        term: what stays below the limit, such as CE("retain").
        limit: epsilon of the paper, in the unit of the term: a little above what the original has.
        weight: the multiplier at the beginning.
        rate: how fast the multiplier follows, per step.
        warmup: epochs before it moves.

    Source: Entesari et al., Constrained Entropic Unlearning (PDU), arXiv 2506.05314;
    locuslab/open-unlearning@0e57336, pdu.py and community/methods/PDU (limit 0.3, weight 100, rate
    5, warm-up 5), where each process keeps a multiplier of its own, and moves it with each piece
    of a minibatch.
    """

    draws: ClassVar[bool] = True
    sees_original: ClassVar[bool] = False
    train: Train
    term: Term
    limit: float
    weight: float = 100.0
    rate: float = 5.0
    warmup: float = 5.0

    def check(self) -> None:
        if min(self.weight, self.rate, self.warmup) < 0:
            raise BadSentence("PrimalDual: weight, rate and warmup must be 0 or more.")
        if not self.term.sets:
            raise BadSentence(f"PrimalDual: {self.term!r} reads no set, so nothing limits it.")
        _ = self.trained  # which refuses a term that cannot be cut into micro-batches

    @property
    def trained(self) -> Train:
        return replace(self.train, objective=self.train.objective + self.term)

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        return read_of(self.trained, problem, (self.train.objective, self.term))

    def train_group(self, group: ModelGroup) -> Iterator[Epoch]:
        train, objective = self.trained, self.train.objective
        sizes = {name: len(group.runs[0].data(name)) for name in train.objective.sets}
        _, length, _ = loop.course(train, sizes)
        multiplier, waits = self.weight, round(self.warmup * length)

        def gradients(batches: Batches, progress: float) -> Tensor:
            nonlocal multiplier, waits
            held = loop.backward(self.term, train, group, batches, progress)
            for weight in group.weights.values():
                if weight.grad is not None:
                    weight.grad.mul_(multiplier)
            free = loop.backward(objective, train, group, batches, progress)
            excess = held - self.limit
            losses = free + multiplier * excess
            if waits > 0:
                waits -= 1
            else:
                multiplier = max(0.0, multiplier + self.rate * float(excess))
            return losses

        yield from loop.train_group(train, group, gradients)


@word
class SharpnessAware(Descent):
    """Train with the terms on one set computed at the worst weights nearby (SAM).

    The gradient of these terms is taken at w + rho g / ||g||, where g is their gradient at w: what
    is forgotten shall stay so when the weights are moved a little. All other terms are computed at
    w.

    Args:
        train: what is minimised, and how.
        set: the set whose terms are computed so; these terms read no other set.
        rho: how far away, L2 norm over all weights.

    Source: Fan et al., Towards LLM Unlearning Resilient to Relearning Attacks, arXiv 2502.05374;
    OPTML-Group/Unlearn-Smooth@fc655ba, WMDP/src/unlearn/base.py (0.1 for NPO on WMDP; 0.01 in
    MUSE/, whose NPO takes raw logits for log-probabilities (fault)). There the weights come back by
    subtraction, here bit for bit.
    """

    draws: ClassVar[bool] = True
    sees_original: ClassVar[bool] = False
    train: Train
    set: str = "forget"
    rho: float = 0.1

    def check(self) -> None:
        if self.rho <= 0:
            raise BadSentence(f"SharpnessAware: rho must be above 0, got {self.rho}.")
        if self._halves[0] is None:
            raise BadSentence(f"SharpnessAware: no term of the objective reads {self.set!r} alone.")

    @property
    def trained(self) -> Train:
        return self.train

    @property
    def _halves(self) -> tuple[Term | None, Term | None]:
        """The terms that are computed at the worst weights, and the others."""
        parts = parts_of(self.train.objective)
        return (
            joined(part for part in parts if part[1].sets == (self.set,)),
            joined(part for part in parts if part[1].sets != (self.set,)),
        )

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        sharp, plain = self._halves
        return read_of(self.train, problem, filter(None, (sharp, sharp, plain)), (self.set,))

    def train_group(self, group: ModelGroup) -> Iterator[Epoch]:
        sharp, plain = self._halves
        assert sharp is not None  # see `check`

        def gradients(batches: Batches, progress: float) -> Tensor:
            loop.backward(sharp, self.train, group, batches, progress)
            with worst_nearby(group, self.rho):
                losses = loop.backward(sharp, self.train, group, batches, progress)
            loop.count_read(group, {self.set: batches[self.set]})
            if plain is not None:
                losses = losses + loop.backward(plain, self.train, group, batches, progress)
            return losses

        yield from loop.train_group(self.train, group, gradients)


@contextmanager
def worst_nearby(group: ModelGroup, rho: float) -> Iterator[None]:
    """Move the weights by rho along their gradients while the block runs; no gradient is left.

    Frozen weights take no part; the weights come back bit for bit.
    """
    slopes = {n: w.grad for n, w in group.weights.items() if w.grad is not None}
    for name, (inside, _) in group.frozen.items():
        if name in slopes:
            slopes[name] = slopes[name] * inside
    before = {name: group.weights[name].detach().clone() for name in slopes}
    size = torch.stack([slope.norm() for slope in slopes.values()]).norm().clamp_min(1e-12)
    with torch.no_grad():
        for name, slope in slopes.items():
            group.weights[name].add_(slope * (rho / size))
    for name in slopes:
        group.weights[name].grad = None
    yield
    with torch.no_grad():
        for name, weight in before.items():
            group.weights[name].copy_(weight)


def joined(parts: Iterable[tuple[Coefficient, Term]]) -> Term | None:
    """Terms with their coefficients as one objective; None where there is none."""
    terms = [coefficient * term for coefficient, term in parts]
    return functools.reduce(operator.add, terms) if terms else None


def read_of(
    train: Train, problem: ProblemProtocol, passed: Iterable[Term], again: tuple[str, ...] = ()
) -> Counter[str]:
    """Count the examples of a training that computes several objectives one after another.

    Args:
        train: whose minibatches they are.
        passed: the objectives, one for each time that it is computed with a backward pass.
        again: sets whose minibatches the receipt counts twice.
    """
    objectives = list(passed)
    once = loop.read_by(train, problem)
    read = Counter({name: n for name, n in once.items() if name != ANSWERS})
    times = {name: sum(passes(o)[name] for o in objectives) for name in read}
    counted = {name: 1 + (name in again) for name in read}
    total = Counter({name: n * counted[name] for name, n in read.items()})
    total[ANSWERS] = sum(n * (times[name] - counted[name]) for name, n in read.items())
    return +total


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

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        return loop.read_by(self.train, problem)

    def __call__(self, run: RunProtocol) -> None:
        train, group = self.train, SingleModel(run)
        group.begin(train)
        optimiser, weights = group.optimiser(train), list(group.weights.values())
        sizes = {name: len(run.data(name)) for name in train.objective.sets}
        orders = {n: loop.minibatches(group.runs, n, size, self.batch) for n, size in sizes.items()}
        _, _, total = loop.course(train, sizes)
        with group.randomness(0):
            for number in range(total):
                batches = {n: group.gather(n, next(orders[n])).to(group.device) for n in sizes}
                progress = (run.turn[0] + number / total) / run.turn[1]
                optimiser.param_groups[0]["lr"] = value(self.lr, progress)
                kept, keeping = slopes(group.losses(self.retain, batches, progress), weights)
                _, leaving = slopes(group.losses(self.forget, batches, progress), weights)
                share = torch.sigmoid(-self.sharpness * (kept - self.target))
                for weight, ours, theirs in zip(weights, leaving, keeping, strict=True):
                    a, b = rectified(ours, theirs)
                    weight.grad = share * a + (1 - share) * b
                optimiser.step()
                loop.count_read(group, batches)


def slopes(loss: Tensor, weights: list[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """A loss without its history, and its gradients; 0 for a weight that it does not use."""
    found = torch.autograd.grad(loss.sum(), weights, materialize_grads=True)
    return loss.detach().sum(), found


def rectified(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Two gradients of one tensor, each without its part along the other where they conflict."""
    conflict = (a * b).sum().clamp_max(0.0)
    along = [conflict / g.square().sum().clamp_min(1e-30) for g in (a, b)]
    return a - along[1] * b, b - along[0] * a
