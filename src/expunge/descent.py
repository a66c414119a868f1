"""Gradient descent: one loop that trains a model alone or many stacked, as its crew has it."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from expunge.batch import Batch
from expunge.errors import BadData, Diverged
from expunge.parts import Everything, Mask, Part
from expunge.passes import ANSWERS, more_than_one
from expunge.pieces import apart, checkpointed, mixed, pieces_of
from expunge.schedules import value
from expunge.streams import isolated
from expunge.terms import Term, leaves
from expunge.view import Known, View, last_linear, layer_of, lens_of

if TYPE_CHECKING:
    from expunge.problem import Problem
    from expunge.steps import Step, Train
    from expunge.unlearn import Run


@dataclass(frozen=True)
class Epoch:
    """What one pass of a `Train` gave: the mean loss of each member, by seed."""

    place: str
    number: float
    of: float
    losses: dict[int, float]


class Crew(ABC):
    """One member, or several stacked, behind one interface; abstract.

    `weights` are leaves with gradients: [...] for one member, [m, ...] for several.
    """

    runs: Sequence[Run]
    weights: dict[str, Tensor]
    memory: dict[str, torch.optim.Optimizer]
    kept: dict[str, tuple[Tensor, Tensor]]
    slowed: dict[str, Tensor]

    @abstractmethod
    def gather(self, name: str, positions: Tensor) -> Batch:
        """The minibatch at positions [m, b] of each member's own set of that name."""

    @abstractmethod
    def losses(self, objective: Term, batches: dict[str, Batch], progress: float) -> Tensor:
        """The objective of each member, [m]."""

    @abstractmethod
    def masks(self, where: Part) -> Mask:
        """The part of each member, shaped as `weights`."""

    @abstractmethod
    def marked(self, where: Part) -> Mask:
        """The same for a part that may hold other weights of each member."""

    @abstractmethod
    def clip(self, largest: float) -> None:
        """Scale each member's gradient down to an L2 norm of `largest`."""

    @abstractmethod
    def modules(self) -> nn.Module:
        """The module whose training and evaluation modes all members share."""

    def passed(self, number: int, step: Step) -> bool:
        """Whether a step was over already, in a run that is taken up again."""
        keeper = self.runs[0].keeper
        return keeper is not None and keeper.passed(self.runs[0], number, step)

    def stood(self, train: Train, total: int) -> tuple[int, Tensor]:
        """Minibatches of a training that were done already, and the losses of its epoch, [m]."""
        keeper = self.runs[0].keeper
        return keeper.stood(self, train, total) if keeper else (0, torch.zeros(len(self.runs)))

    def rest(self, done: int, summed: Tensor) -> None:
        """Between two minibatches, where a run may be put down and taken up again."""
        if keeper := self.runs[0].keeper:
            keeper.rest(self, done, summed)

    def begin(self, train: Train) -> None:
        """Set modes and what may move: a weight outside the part is kept, bit for bit."""
        self.kept, self.slowed = {}, {}
        self.modules().train()
        for weight in self.weights.values():
            weight.requires_grad_(True)
            weight.grad = None
        if not isinstance(train.where, Everything):
            self._freeze(self.masks(train.where))
        if train.slowed:
            marks, less = self.marked(train.slowed.where), train.slowed.factor - 1
            self.slowed = {name: 1 + less * mark for name, mark in marks.items() if mark.any()}

    def _freeze(self, masks: Mask) -> None:
        for name, weight in self.weights.items():
            if not masks[name].any():
                weight.requires_grad_(False)
            elif not masks[name].all():
                self.kept[name] = (masks[name], weight.detach().clone())
        if not any(w.requires_grad for w in self.weights.values()):
            raise BadData("No weight lies in the part that may move, so there is nothing to train.")
        free = {name for name, weight in self.weights.items() if weight.requires_grad}
        for prefix, module in self.modules().named_modules():
            own = {f"{prefix}.{n}".lstrip(".") for n, _ in module.named_parameters(recurse=False)}
            # a normalisation without weights has statistics to keep still; dropout has neither
            state = own or any(True for _ in module.buffers(recurse=False))
            if state and not own & free:
                module.training = False

    def slow(self) -> None:
        """Make the gradients of slowed weights smaller."""
        for name, factor in self.slowed.items():
            if (slope := self.weights[name].grad) is not None:
                slope.mul_(factor)

    def restore(self) -> None:
        """Put back what lies outside the part: momentum and weight decay would leak into it."""
        for name, (inside, before) in self.kept.items():
            weight = self.weights[name]
            weight.data.copy_(torch.where(inside, weight.data, before))

    def optimiser(self, train: Train) -> torch.optim.Optimizer:
        """The optimiser of this place; within `Repeat` the same place keeps the same one."""
        place = self.runs[0].place
        if place not in self.memory:
            self.memory[place] = train.optimiser.over(self.weights.values())
        return self.memory[place]

    def randomness(self, number: int) -> AbstractContextManager[None]:
        """A stream of the member's own for models that draw at random, as dropout does.

        Every model gets it, since a draw inside `forward` cannot be seen from without.
        """
        run = self.runs[0]
        return isolated(run.role, run.seed, run.place, run.turn, "dropout", number)


def has_dropout(model: nn.Module) -> bool:
    """Whether the model draws at random while it trains."""
    return any(isinstance(m, nn.modules.dropout._DropoutNd) for m in model.modules())


class Solo(Crew):
    """One model on its own."""

    def __init__(self, run: Run) -> None:
        self.runs, self.memory = (run,), run.optimisers
        self.weights = dict(run.model.named_parameters())

    def modules(self) -> nn.Module:
        return self.runs[0].model

    def gather(self, name: str, positions: Tensor) -> Batch:
        return self.runs[0].data(name).batch(positions[0])

    def masks(self, where: Part) -> Mask:
        return self.runs[0].mask(where)

    def marked(self, where: Part) -> Mask:
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


def known_to(objective: Term, run: Run) -> Known:
    """What an objective may know of one member besides its minibatches.

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


def descend(train: Train, crew: Crew, advance: Advance | None = None) -> Iterator[Epoch]:
    """Minimise the objective for all members of a crew; yield after each epoch.

    Args:
        train: what is minimised, and how.
        crew: whose weights move.
        advance: what is done with each minibatch; `one_step` where nothing else is said.

    Raises:
        Diverged: a loss became infinite or not a number.
        BadData: a set of the objective holds no example.
    """
    run, go = crew.runs[0], advance or one_step
    sets = {name: run.data(name) for name in train.objective.sets}
    feeds = {name: feed(crew.runs, name, len(data), train.batch) for name, data in sets.items()}
    _, length, total = course(train, {name: len(data) for name, data in sets.items()})
    begun, summed = crew.stood(train, total)
    if begun == total:
        return
    crew.begin(train)
    optimiser, device = crew.optimiser(train), next(iter(crew.weights.values())).device
    feeds = {name: itertools.islice(each, begun, None) for name, each in feeds.items()}
    for first in range(begun - begun % length, total, length):
        last, summed = min(first + length, total), summed if first < begun else summed * 0
        # closed before each yield, so that the caller's generator is his own again
        with crew.randomness(first), checkpointed(crew.modules(), train.checkpointing):
            for number in range(max(first, begun), last):
                crew.rest(number, summed)
                batches = {name: crew.gather(name, next(feeds[name])) for name in sets}
                batches = {name: batch.to(device) for name, batch in batches.items()}
                losses = go(train, crew, optimiser, batches, number / total)
                summed += losses.cpu()
                note_read(crew, batches)
        yield finished(run, crew, last / length, train.epochs, summed / (last - first))


# (train, crew, optimiser, minibatches, share of the step that lies behind) -> losses [m]
Advance = Callable[
    ["Train", Crew, torch.optim.Optimizer, dict[str, Batch], float],
    Tensor,
]


def course(train: Train, sizes: Mapping[str, int]) -> tuple[str, int, int]:
    """The set that an epoch is a pass over, and minibatches: of an epoch, and of the whole step."""
    lead = train.over or max(sizes, key=lambda name: sizes[name])
    length = len(cuts(sizes[lead], train.batch))
    return lead, length, max(1, round(train.epochs * length))


def read_by(train: Train, problem: Problem) -> Counter[str]:
    """Examples of each set that a `Train` reads: every set begins again when it is through.

    Under `ANSWERS` stand those that teachers answer besides, and all other passes beyond the first.
    """
    sizes = {name: len(problem.data(name)) for name in train.objective.sets}
    _, _, total = course(train, sizes)
    read: Counter[str] = Counter()
    for name, size in sizes.items():
        edges = cuts(size, train.batch)
        rounds, more = divmod(total, len(edges))
        read[name] = rounds * size + (edges[more - 1][1] if more else 0)
    read[ANSWERS] = more_than_one(train.objective, read)
    return +read


def note_read(crew: Crew, batches: dict[str, Batch]) -> None:
    """Write one minibatch of each set into every member's ledger."""
    counts = {name: batch.index.shape[-1] for name, batch in batches.items()}
    for run in crew.runs:
        run.ledger.saw(counts)


def one_step(
    train: Train,
    crew: Crew,
    optimiser: torch.optim.Optimizer,
    batches: dict[str, Batch],
    share: float,
) -> Tensor:
    """One minibatch of plain descent."""
    objective = train.objective
    return moved(
        train, crew, optimiser, share, lambda at: slope(objective, train, crew, batches, at)
    )


def moved(
    train: Train,
    crew: Crew,
    optimiser: torch.optim.Optimizer,
    share: float,
    gradient: Callable[[float], Tensor],
) -> Tensor:
    """One change of the weights: gradient, step, and what must not move put back.

    Args:
        share: how much of the step lies behind, 0.0 to 1.0.
        gradient: progress -> the losses [m], once it has given every weight its gradient.
    """
    turn, turns = crew.runs[0].turn
    progress = (turn + share) / turns
    optimiser.param_groups[0]["lr"] = value(train.lr, progress)
    optimiser.zero_grad()
    losses = gradient(progress)
    if team := crew.runs[0].team:
        losses = team.gather(crew.weights.values(), losses)
    crew.slow()
    if train.clip:
        crew.clip(train.clip)
    optimiser.step()
    crew.restore()
    return losses


def slope(
    objective: Term, train: Train, crew: Crew, batches: dict[str, Batch], progress: float
) -> Tensor:
    """Add an objective's gradient to the weights', worked out as `train` says; the losses [m]."""
    losses = torch.zeros(len(crew.runs))
    team = crew.runs[0].team
    pieces = pieces_of(objective, batches, train.accumulate * (team.size if team else 1))
    for whole, piece in team.share(pieces) if team else pieces:
        for term in (parts := apart(whole, piece)):
            found = _lost(term, train, crew, piece, progress)
            # a part may lie beneath all that moves; a whole objective that does is a mistake
            if found.requires_grad or len(parts) == 1:
                found.sum().backward()
            losses = losses.to(found) + found.detach()
    return losses


def _lost(
    term: Term, train: Train, crew: Crew, batches: dict[str, Batch], progress: float
) -> Tensor:
    """The losses of each member, [m], as `train` says; a class beyond the outputs is told."""
    try:
        with mixed(train.precision, next(iter(crew.weights.values())).device):
            return crew.losses(term, batches, progress)
    except IndexError as fault:  # torch's word for a class that the model has no output for
        raise BadData(f"A class or token lies beyond the model's outputs: {fault}") from None


def finished(run: Run, crew: Crew, number: float, of: float, losses: Tensor) -> Epoch:
    """The record of an epoch, once every member's loss is known to be finite."""
    lost = [r.seed for r, ok in zip(crew.runs, torch.isfinite(losses), strict=True) if not ok]
    if lost:
        seeds = ", ".join(map(str, lost[:8]))
        raise Diverged(
            f"The loss became infinite or not a number in epoch {number:g} of step {run.place} "
            f"(members {seeds}). Lower the learning rate, or clip the gradient (clip=1.0)."
        )
    by_seed = {r.seed: float(loss) for r, loss in zip(crew.runs, losses, strict=True)}
    return Epoch(run.place, number, of, by_seed)


def feed(runs: Sequence[Run], name: str, n: int, batch: int) -> Iterator[Tensor]:
    """Positions [m, b], for ever: each member's own order, a new one each pass."""
    if n == 0:
        raise BadData(f"The set {name!r} holds no example.")
    streams = [run.stream(f"order of {name}") for run in runs]
    while True:
        order = torch.stack([torch.randperm(n, generator=one) for one in streams])
        for first, last in cuts(n, batch):
            yield order[:, first:last]


def cuts(n: int, batch: int) -> list[tuple[int, int]]:
    """Where the minibatches of one pass begin and end.

    A last minibatch of one joins the one before: no statistics can be taken over one example.
    """
    edges = [*range(0, n, batch), n]
    if len(edges) > 2 and edges[-1] - edges[-2] == 1:
        del edges[-2]
    return list(itertools.pairwise(edges))
