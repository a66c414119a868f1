"""The training loop, for one model or for several that are stacked."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from expunge.core.batch import Batch
from expunge.core.schedules import value
from expunge.core.seeds import isolated
from expunge.core.selector import Everything, Mask, Selector
from expunge.core.term import Term, leaves
from expunge.core.view import Known, View, last_linear, layer_of, lens_of
from expunge.engine.memory import (
    ANSWERS,
    activation_checkpointing,
    apart,
    microbatches,
    mixed_precision,
    more_than_one,
)
from expunge.errors import BadData, Diverged, Unsupported

if TYPE_CHECKING:
    from expunge.core.method import Step
    from expunge.core.run import ProblemProtocol, RunProtocol
    from expunge.core.schedules import Optimiser, Schedule, Slowed


class TrainingSettings(Protocol):
    """The settings that the training loop reads of a `Train`, which explains each."""

    @property
    def objective(self) -> Term: ...
    @property
    def epochs(self) -> float: ...
    @property
    def lr(self) -> float | Schedule: ...
    @property
    def batch(self) -> int: ...
    @property
    def optimiser(self) -> Optimiser: ...
    @property
    def where(self) -> Selector: ...
    @property
    def over(self) -> str: ...
    @property
    def clip(self) -> float: ...
    @property
    def slowed(self) -> Slowed | None: ...
    @property
    def accumulate(self) -> int: ...
    @property
    def precision(self) -> str: ...
    @property
    def checkpointing(self) -> bool: ...


# In the place of a step: all steps behind it share the optimiser of the place before it.
SHARED = "/shared"


def optimiser_place(place: str) -> str:
    """The place whose optimiser a step takes: its own, or that of the `OneOptimiser` around it."""
    return place.partition(SHARED)[0]


@dataclass(frozen=True)
class Epoch:
    """One epoch of a `Train`: the mean loss of each model, by seed."""

    place: str
    number: float
    of: float
    losses: dict[int, float]


class ModelGroup(ABC):
    """One model, or m stacked ones, behind one interface; abstract.

    `weights` are leaves with gradients: [...] for one model, [m, ...] for m stacked ones.
    """

    runs: Sequence[RunProtocol]
    weights: dict[str, Tensor]
    optimisers: dict[str, torch.optim.Optimizer]
    frozen: dict[str, tuple[Tensor, Tensor]]
    factors: dict[str, Tensor]

    @abstractmethod
    def gather(self, name: str, positions: Tensor) -> Batch:
        """The minibatch at positions [m, b] of each model's own set of that name."""

    @abstractmethod
    def losses(self, objective: Term, batches: dict[str, Batch], progress: float) -> Tensor:
        """The objective of each model, [m]."""

    @abstractmethod
    def masks(self, where: Selector) -> Mask:
        """What the selector chooses in each model, shaped as `weights`."""

    @abstractmethod
    def marked(self, where: Selector) -> Mask:
        """The same for a selector that may choose other weights in each model."""

    @abstractmethod
    def clip(self, largest: float) -> None:
        """Scale each model's gradient down to an L2 norm of at most `largest`."""

    @abstractmethod
    def modules(self) -> nn.Module:
        """The module whose training and evaluation modes all models share."""

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(iter(self.weights.values())).device

    def already_done(self, number: int, step: Step) -> bool:
        """Whether a resumed run had finished this step before it stopped."""
        kept = self.runs[0].checkpointer
        return kept is not None and kept.already_done(self.runs[0], number, step)

    def resumed_progress(self, train: TrainingSettings, total: int) -> tuple[int, Tensor]:
        """Minibatches done before a resumed run stopped, and their epoch's summed losses, [m]."""
        kept = self.runs[0].checkpointer
        return (
            kept.resumed_progress(self, train, total) if kept else (0, torch.zeros(len(self.runs)))
        )

    def save_if_due(self, done: int, summed: Tensor) -> None:
        """Write a checkpoint between two minibatches if it is time for one."""
        if kept := self.runs[0].checkpointer:
            kept.save_if_due(self, done, summed)

    def begin(self, train: TrainingSettings) -> None:
        """Set training mode and what may move; weights outside `where` stay, bit for bit."""
        self.frozen, self.factors = {}, {}
        self.modules().train()
        for weight in self.weights.values():
            weight.requires_grad_(True)
            weight.grad = None
        if not isinstance(train.where, Everything):
            self._freeze(self.masks(train.where))
        if train.slowed:
            marks, less = self.marked(train.slowed.where), train.slowed.factor - 1
            self.factors = {name: 1 + less * mark for name, mark in marks.items() if mark.any()}
        for name, (inside, _) in self.frozen.items():
            self.factors[name] = self.factors.get(name, 1) * inside

    def _freeze(self, masks: Mask) -> None:
        for name, weight in self.weights.items():
            if not masks[name].any():
                weight.requires_grad_(False)
            elif not masks[name].all():
                self.frozen[name] = (masks[name], weight.detach().clone())
        if not any(w.requires_grad for w in self.weights.values()):
            raise BadData("No weight lies in the part that may move, so there is nothing to train.")
        free = {name for name, weight in self.weights.items() if weight.requires_grad}
        for prefix, module in self.modules().named_modules():
            own = {f"{prefix}.{n}".lstrip(".") for n, _ in module.named_parameters(recurse=False)}
            # a normalisation without weights has statistics to keep still; dropout has neither
            state = own or any(True for _ in module.buffers(recurse=False))
            if state and not own & free:
                module.training = False

    def scale_gradients(self) -> None:
        """Scale down the gradients of slowed weights; those outside `where` become 0.

        Neither the norm that `clip` bounds nor an optimiser that steps share then sees them.
        """
        for name, factor in self.factors.items():
            if (slope := self.weights[name].grad) is not None:
                slope.mul_(factor)

    def restore_frozen(self) -> None:
        """Restore weights outside `where`, which momentum and weight decay would move."""
        for name, (inside, before) in self.frozen.items():
            weight = self.weights[name]
            weight.data.copy_(torch.where(inside, weight.data, before))

    def optimiser(self, train: TrainingSettings) -> torch.optim.Optimizer:
        """The optimiser of this place in the sentence; all turns of a `Repeat` share it.

        Raises:
            Unsupported: steps that share an optimiser train other weights than one before them.
        """
        place = optimiser_place(self.runs[0].place)
        if place not in self.optimisers:
            self.optimisers[place] = train.optimiser.over(self.weights.values())
        held = self.optimisers[place].param_groups[0]["params"]
        if [id(weight) for weight in held] != [id(weight) for weight in self.weights.values()]:
            raise Unsupported(
                f"Step {self.runs[0].place} trains other weights than a step before it, so "
                "OneOptimiser cannot serve both; take it out of the OneOptimiser."
            )
        return self.optimisers[place]

    def randomness(self, number: int) -> AbstractContextManager[None]:
        """Seed torch's global generator for this epoch, for models that draw, as dropout does.

        Every model gets it, since a draw inside `forward` cannot be seen from outside.
        """
        run = self.runs[0]
        return isolated(run.role, run.seed, run.place, run.turn, "dropout", number)


def has_dropout(model: nn.Module) -> bool:
    """Whether the model draws at random while it trains."""
    return any(isinstance(m, nn.modules.dropout._DropoutNd) for m in model.modules())


class SingleModel(ModelGroup):
    """One model on its own."""

    def __init__(self, run: RunProtocol) -> None:
        self.runs, self.optimisers = (run,), run.optimisers
        self.weights = dict(run.model.named_parameters())

    def modules(self) -> nn.Module:
        return self.runs[0].model

    def gather(self, name: str, positions: Tensor) -> Batch:
        return self.runs[0].data(name).batch(positions[0])

    def masks(self, where: Selector) -> Mask:
        return self.runs[0].mask(where)

    def marked(self, where: Selector) -> Mask:
        return self.runs[0].mask(where)

    def losses(self, objective: Term, batches: dict[str, Batch], progress: float) -> Tensor:
        run = self.runs[0]
        teachers = {name: run.teacher(name) for name in objective.teachers}
        free = {name: w for name, w in self.weights.items() if w.requires_grad}
        known = known_to(objective, run)
        view = View(run.model, batches, teachers, free, progress, run.seed, known)
        return objective(view).reshape(1)

    def clip(self, largest: float) -> None:
        nn.utils.clip_grad_norm_(self.weights.values(), largest)


def known_to(objective: Term, run: RunProtocol) -> Known:
    """What an objective may know of one run besides its minibatches.

    Raises:
        Unsupported: a term asks for features that the model does not have.
    """
    sizes = {name: len(run.data(name)) for name in objective.sets}
    facts = {repr(term): run.facts(term) for term in leaves(objective) if term.reads_whole_sets}
    numbers = {n for term in leaves(objective) for n in term.reads_layers}
    featured = any(term.reads_features for term in leaves(objective))
    if not numbers and not featured:
        return Known(sizes, facts)
    models = {"": run.model, **{name: run.teacher(name) for name in objective.teachers}}
    heads = {name: last_linear(model) for name, model in models.items()} if featured else {}
    layers = {(name, n): layer_of(model, n) for name, model in models.items() for n in numbers}
    seen = any(term.reads_lens for term in leaves(objective))
    return Known(sizes, facts, heads, layers, {"": lens_of(run.model)} if seen else {})


def train_group(
    train: TrainingSettings, group: ModelGroup, gradients: Gradients | None = None
) -> Iterator[Epoch]:
    """Minimise the objective for every model of a group; yield a record after each epoch.

    Args:
        train: what is minimised, and how.
        group: whose weights move.
        gradients: gives the weights their gradients for one minibatch of each set; `backward` of
            the objective by default.

    Raises:
        Diverged: a loss became infinite or not a number.
        BadData: a set of the objective holds no example.
    """
    run = group.runs[0]
    gradients = gradients or partial(backward, train.objective, train, group)
    sizes = {name: len(run.data(name)) for name in train.objective.sets}
    _, length, total = course(train, sizes)
    done, summed = group.resumed_progress(train, total)
    if done == total:
        return
    group.begin(train)
    optimiser = group.optimiser(train)
    orders = {n: minibatches(group.runs, n, size, train.batch) for n, size in sizes.items()}
    orders = {name: itertools.islice(order, done, None) for name, order in orders.items()}
    for first in range(done - done % length, total, length):
        last, summed = min(first + length, total), summed if first < done else summed * 0
        # closed before each yield, so that the caller's generator is the caller's again
        with (
            group.randomness(first),
            activation_checkpointing(group.modules(), train.checkpointing),
        ):
            for number in range(max(first, done), last):
                group.save_if_due(number, summed)
                batches = {name: group.gather(name, next(orders[name])) for name in sizes}
                batches = {name: batch.to(group.device) for name, batch in batches.items()}
                progress = (run.turn[0] + number / total) / run.turn[1]
                optimiser.param_groups[0]["lr"] = value(train.lr, progress)
                optimiser.zero_grad()
                losses = gradients(batches, progress)
                if run.team:
                    losses = run.team.gather(group.weights.values(), losses)
                group.scale_gradients()
                if train.clip:
                    group.clip(train.clip)
                optimiser.step()
                group.restore_frozen()
                summed += losses.cpu()
                count_read(group, batches)
        yield finished(run, group, last / length, train.epochs, summed / (last - first))


# Adds gradients to the weights': (minibatch of each set, progress 0.0 to 1.0) -> the losses, [m].
Gradients = Callable[[dict[str, Batch], float], Tensor]


def backward(
    objective: Term,
    train: TrainingSettings,
    group: ModelGroup,
    batches: dict[str, Batch],
    progress: float,
) -> Tensor:
    """Add an objective's gradient to the weights', one micro-batch after another.

    Returns:
        The losses of all models, [m], without history.

    Raises:
        BadData: a class or token that the model has no output for.
    """
    losses, team = torch.zeros(len(group.runs)), group.runs[0].team
    micro = microbatches(objective, batches, train.accumulate * (team.size if team else 1))
    for whole, micro_batches in team.share(micro) if team else micro:
        for term in (parts := apart(whole, micro_batches)):
            try:
                with mixed_precision(train.precision, group.device):
                    found = group.losses(term, micro_batches, progress)
            except IndexError as fault:  # torch's word for a class that the model has no output for
                raise BadData(
                    f"A class or token lies beyond the model's outputs: {fault}"
                ) from None
            # a part may lie beneath all that moves; a whole objective that does is a mistake
            if found.requires_grad or len(parts) == 1:
                found.sum().backward()
            losses = losses.to(found) + found.detach()
    return losses


def course(train: TrainingSettings, sizes: Mapping[str, int]) -> tuple[str, int, int]:
    """The set that an epoch is a pass over, and minibatches an epoch and in all."""
    lead = train.over or max(sizes, key=lambda name: sizes[name])
    length = len(minibatch_edges(sizes[lead], train.batch))
    return lead, length, max(1, round(train.epochs * length))


def read_by(train: TrainingSettings, problem: ProblemProtocol) -> Counter[str]:
    """Count the examples of each set that a `Train` reads; a set starts again when it is through.

    `ANSWERS` counts those that teachers answer besides, and all passes beyond the first.
    """
    sizes = {name: len(problem.data(name)) for name in train.objective.sets}
    _, _, total = course(train, sizes)
    read: Counter[str] = Counter()
    for name, size in sizes.items():
        edges = minibatch_edges(size, train.batch)
        rounds, more = divmod(total, len(edges))
        read[name] = rounds * size + (edges[more - 1][1] if more else 0)
    read[ANSWERS] = more_than_one(train.objective, read)
    return +read


def count_read(group: ModelGroup, batches: dict[str, Batch]) -> None:
    """Count one minibatch of each set in every model's receipt."""
    counts = {name: batch.index.shape[-1] for name, batch in batches.items()}
    for run in group.runs:
        run.counts.add(counts)


def finished(
    run: RunProtocol, group: ModelGroup, number: float, of: float, losses: Tensor
) -> Epoch:
    """The record of an epoch, once every model's loss is known to be finite.

    Raises:
        Diverged: a loss is infinite or not a number.
    """
    lost = [r.seed for r, ok in zip(group.runs, torch.isfinite(losses), strict=True) if not ok]
    if lost:
        seeds = ", ".join(map(str, lost[:8]))
        raise Diverged(
            f"The loss became infinite or not a number in epoch {number:g} of step {run.place} "
            f"(seeds {seeds}). Lower the learning rate, or clip the gradient (clip=1.0)."
        )
    by_seed = {r.seed: float(loss) for r, loss in zip(group.runs, losses, strict=True)}
    return Epoch(run.place, number, of, by_seed)


def minibatches(runs: Sequence[RunProtocol], name: str, n: int, batch: int) -> Iterator[Tensor]:
    """Yield positions [m, b] for ever, in each model's own order, a new one each pass."""
    if n == 0:
        raise BadData(f"The set {name!r} holds no example.")
    streams = [run.stream(f"order of {name}") for run in runs]
    while True:
        order = torch.stack([torch.randperm(n, generator=one) for one in streams])
        for first, last in minibatch_edges(n, batch):
            yield order[:, first:last]


def minibatch_edges(n: int, batch: int) -> list[tuple[int, int]]:
    """Where the minibatches of one pass over a set begin and end.

    A last minibatch of one joins the one before: no statistics can be taken over one example.
    """
    edges = [*range(0, n, batch), n]
    if len(edges) > 2 and edges[-1] - edges[-2] == 1:
        del edges[-2]
    return list(itertools.pairwise(edges))
