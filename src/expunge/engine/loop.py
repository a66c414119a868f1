"""The training loop, for one model or a stacked ensemble."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
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
                group.scale_slowed()
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
