"""Gradient descent: one loop that trains a model alone or many stacked, as its crew has it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from expunge.core.batch import Batch
from expunge.core.schedules import value
from expunge.core.term import Term
from expunge.engine.group import Epoch, ModelGroup, TrainingSettings
from expunge.engine.memory import (
    ANSWERS,
    activation_checkpointing,
    apart,
    microbatches,
    mixed_precision,
    more_than_one,
)
from expunge.errors import BadData, Diverged

if TYPE_CHECKING:
    from expunge.core.run import ProblemProtocol, RunProtocol


def train_group(
    train: TrainingSettings, crew: ModelGroup, advance: Advance | None = None
) -> Iterator[Epoch]:
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
        with crew.randomness(first), activation_checkpointing(crew.modules(), train.checkpointing):
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
    [TrainingSettings, ModelGroup, torch.optim.Optimizer, dict[str, Batch], float],
    Tensor,
]


def course(train: TrainingSettings, sizes: Mapping[str, int]) -> tuple[str, int, int]:
    """The set that an epoch is a pass over, and minibatches: of an epoch, and of the whole step."""
    lead = train.over or max(sizes, key=lambda name: sizes[name])
    length = len(minibatch_edges(sizes[lead], train.batch))
    return lead, length, max(1, round(train.epochs * length))


def read_by(train: TrainingSettings, problem: ProblemProtocol) -> Counter[str]:
    """Examples of each set that a `Train` reads: every set begins again when it is through.

    Under `ANSWERS` stand those that teachers answer besides, and all other passes beyond the first.
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


def note_read(crew: ModelGroup, batches: dict[str, Batch]) -> None:
    """Write one minibatch of each set into every member's ledger."""
    counts = {name: batch.index.shape[-1] for name, batch in batches.items()}
    for run in crew.runs:
        run.ledger.saw(counts)


def one_step(
    train: TrainingSettings,
    crew: ModelGroup,
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
    train: TrainingSettings,
    crew: ModelGroup,
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
    objective: Term,
    train: TrainingSettings,
    crew: ModelGroup,
    batches: dict[str, Batch],
    progress: float,
) -> Tensor:
    """Add an objective's gradient to the weights', worked out as `train` says; the losses [m]."""
    losses = torch.zeros(len(crew.runs))
    team = crew.runs[0].team
    pieces = microbatches(objective, batches, train.accumulate * (team.size if team else 1))
    for whole, piece in team.share(pieces) if team else pieces:
        for term in (parts := apart(whole, piece)):
            found = _lost(term, train, crew, piece, progress)
            # a part may lie beneath all that moves; a whole objective that does is a mistake
            if found.requires_grad or len(parts) == 1:
                found.sum().backward()
            losses = losses.to(found) + found.detach()
    return losses


def _lost(
    term: Term,
    train: TrainingSettings,
    crew: ModelGroup,
    batches: dict[str, Batch],
    progress: float,
) -> Tensor:
    """The losses of each member, [m], as `train` says; a class beyond the outputs is told."""
    try:
        with mixed_precision(train.precision, next(iter(crew.weights.values())).device):
            return crew.losses(term, batches, progress)
    except IndexError as fault:  # torch's word for a class that the model has no output for
        raise BadData(f"A class or token lies beyond the model's outputs: {fault}") from None


def finished(run: RunProtocol, crew: ModelGroup, number: float, of: float, losses: Tensor) -> Epoch:
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


def feed(runs: Sequence[RunProtocol], name: str, n: int, batch: int) -> Iterator[Tensor]:
    """Positions [m, b], for ever: each member's own order, a new one each pass."""
    if n == 0:
        raise BadData(f"The set {name!r} holds no example.")
    streams = [run.stream(f"order of {name}") for run in runs]
    while True:
        order = torch.stack([torch.randperm(n, generator=one) for one in streams])
        for first, last in minibatch_edges(n, batch):
            yield order[:, first:last]


def minibatch_edges(n: int, batch: int) -> list[tuple[int, int]]:
    """Where the minibatches of one pass begin and end.

    A last minibatch of one joins the one before: no statistics can be taken over one example.
    """
    edges = [*range(0, n, batch), n]
    if len(edges) > 2 and edges[-1] - edges[-2] == 1:
        del edges[-2]
    return list(itertools.pairwise(edges))
