"""Train many seeds at once: a vmapped ensemble, or one model after another.

`Looped` trains one model after another, `Vmapped` all of them together on stacked weights. Which is
faster depends on the model and the machine, so a few steps are timed each way (`fastest`). Only
this file knows the axis of models, m.
"""

from __future__ import annotations

import copy
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from expunge.core.batch import Batch, Data, Images, Subset, holds_tokens, in_memory
from expunge.core.method import Method
from expunge.core.receipt import Spent, Unlearned
from expunge.core.selector import Mask, Selector
from expunge.core.term import Term, leaves
from expunge.core.view import Known, View, last_linear
from expunge.engine.loop import (
    SHARED,
    Epoch,
    ModelGroup,
    SingleModel,
    has_dropout,
    known_to,
    minibatch_edges,
    optimiser_place,
)
from expunge.engine.run import Run, run_steps
from expunge.engine.training import Train, unrolled
from expunge.engine.unlearning import finish, record_losses
from expunge.errors import Unsupported

State = tuple[dict[str, Tensor], dict[str, Tensor]]


class CannotStack(Unsupported):
    """These models cannot be trained together; the message says why. They are looped instead."""


class StackedModels(ModelGroup):
    """An ensemble of m models whose weights are stacked, [m, ...].

    Every run's own model keeps views of its slice, so that steps written for one model act on
    the stack.

    Raises:
        CannotStack: the model draws at random while it trains.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        if has_dropout(runs[0].model):
            raise CannotStack("Dropout draws other numbers when models are stacked.")
        self.runs, self.optimisers, self.frozen = runs, {}, {}
        self.skeleton = copy.deepcopy(runs[0].model)
        self.weights = _stacked([dict(run.model.named_parameters()) for run in runs])
        self.buffers = _stacked([dict(run.model.named_buffers()) for run in runs])
        for place, run in enumerate(runs):
            _share(run.model, self.weights, self.buffers, place)
        self.teachers: dict[str, tuple[nn.Module, State, int | None]] = {}
        self.asked: dict[str, list[nn.Module]] = {}
        self.facts: dict[Term, tuple[dict[str, Tensor], int | None]] = {}
        self.sources: dict[str, tuple[Data, Tensor | None]] = {}
        device = next(iter(self.weights.values())).device
        self.seeds = torch.tensor([run.seed for run in runs], device=device)

    def modules(self) -> nn.Module:
        return self.skeleton

    def gather(self, name: str, positions: Tensor) -> Batch:
        if name not in self.sources:
            self.sources[name] = shared([run.data(name) for run in self.runs])
        base, rows = self.sources[name]
        return base.batch(positions if rows is None else rows.gather(1, positions))

    def masks(self, where: Selector) -> Mask:
        each = [run.mask(where) for run in self.runs]
        if name := uneven(each):
            raise CannotStack(f"{name} may move in some models and not in others.")
        return _stacked(each)

    def marked(self, where: Selector) -> Mask:
        return _stacked([run.mask(where) for run in self.runs])

    def losses(self, objective: Term, batches: dict[str, Batch], progress: float) -> Tensor:
        teachers = {name: self._teacher(name) for name in objective.teachers}
        free = [name for name, w in self.weights.items() if w.requires_grad]
        common = known_to(objective, self.runs[0])
        modules = {"": self.skeleton, **{name: teacher[0] for name, teacher in teachers.items()}}
        heads = {name: last_linear(modules[name]) for name in common.heads}

        def one(
            state: State,
            others: dict[str, State],
            read: dict[str, tuple[Tensor, Tensor, Tensor]],
            seed: Tensor,
            facts: dict[str, dict[str, Tensor]],
        ) -> Tensor:
            models = {n: _caller(teachers[n][0], others[n]) for n in others}
            minibatch = {n: Images(*parts) for n, parts in read.items()}
            moving = {n: state[0][n] for n in free}
            known = Known(common.sizes, facts, heads)
            caller = _caller(self.skeleton, state)
            return objective(View(caller, minibatch, models, moving, progress, seed, known))

        states = {name: state for name, (_, state, _) in teachers.items()}
        axes = {name: (axis, axis) for name, (_, _, axis) in teachers.items()}
        read = {n: (b.inputs, b.targets, b.index) for n, b in batches.items()}
        facts = {repr(t): self._facts(t) for t in leaves(objective) if t.reads_whole_sets}
        along = {name: axis for name, (_, axis) in facts.items()}
        together = vmap(one, in_dims=((0, 0), axes, 0, 0, along))
        worked_out = {name: found for name, (found, _) in facts.items()}
        return together((self.weights, self.buffers), states, read, self.seeds, worked_out)

    def clip(self, largest: float) -> None:
        slopes = [w.grad for w in self.weights.values() if w.grad is not None]
        norms = torch.stack([g.flatten(1).square().sum(1) for g in slopes]).sum(0).sqrt()
        factor = (largest / (norms + 1e-6)).clamp_max(1.0)
        for slope in slopes:
            slope.mul_(factor.view(-1, *[1] * (slope.ndim - 1)))

    def _facts(self, term: Term) -> tuple[dict[str, Tensor], int | None]:
        """A term's facts: shared by all models, or each one's own, stacked."""
        if term not in self.facts:
            each = [run.facts(term) for run in self.runs]
            alike = all(found is each[0] for found in each)
            self.facts[term] = (each[0], None) if alike else (_stacked(each), 0)
        return self.facts[term]

    def _teacher(self, name: str) -> tuple[nn.Module, State, int | None]:
        """A teacher's module and weights: shared by all models, or one for each, stacked."""
        each = [run.teacher(name) for run in self.runs]
        # a module equals itself alone: a teacher that was taught again is not the one before
        if self.asked.get(name) != each:
            self.asked[name] = each
            if all(teacher is each[0] for teacher in each):
                state: State = dict(each[0].named_parameters()), dict(each[0].named_buffers())
                self.teachers[name] = each[0], state, None
            else:
                weights = _stacked([dict(teacher.named_parameters()) for teacher in each])
                buffers = _stacked([dict(teacher.named_buffers()) for teacher in each])
                self.teachers[name] = each[0], (weights, buffers), 0
        return self.teachers[name]


def _stacked(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([s[name].detach() for s in states]) for name in states[0]}


def _caller(module: nn.Module, state: State) -> Callable[[Tensor], Tensor]:
    return lambda inputs: functional_call(module, state, (inputs,))


def _share(
    model: nn.Module, weights: dict[str, Tensor], buffers: dict[str, Tensor], place: int
) -> None:
    """Make one run's model share its slice of the stack."""
    for name, weight in model.named_parameters():
        weight.data = weights[name].detach()[place]
    for name, buffer in model.named_buffers():
        buffer.data = buffers[name][place]


def shared(each: Sequence[Data]) -> tuple[Data, Tensor | None]:
    """One set that all runs read from, and each one's own rows of it [m, n] where they differ.

    Raises:
        CannotStack: the runs' sets are no equally large subsets of one set.
    """
    if all(data is each[0] for data in each):
        return each[0], None
    subsets = [data for data in each if isinstance(data, Subset)]
    alike = {(len(data), id(data.base)) for data in subsets}
    if len(subsets) < len(each) or len(alike) > 1:
        raise CannotStack("The runs' sets are no equally large subsets of one set.")
    return subsets[0].base, torch.stack([data.index for data in subsets])


def unequal(runs: Sequence[Run], names: Sequence[str]) -> str:
    """The name of a set whose minibatches the runs cannot gather together; empty when none."""
    for name in names:
        try:
            shared([run.data(name) for run in runs])
        except CannotStack:
            return name
    return ""


class Engine(ABC):
    """How a group of runs is trained; abstract."""

    @abstractmethod
    def __call__(self, runs: Sequence[Run], method: Method) -> Iterator[Epoch]:
        """Run a method for all runs; yield after each epoch of each group."""

    @abstractmethod
    def label(self, count: int) -> str:
        """What a receipt says of a group of `count` models."""


@dataclass(frozen=True)
class Looped(Engine):
    """One model after another."""

    def __call__(self, runs: Sequence[Run], method: Method) -> Iterator[Epoch]:
        for run in runs:
            yield from run_steps(method.steps, SingleModel(run))

    def label(self, count: int) -> str:
        return "alone"


@dataclass(frozen=True)
class Vmapped(Engine):
    """All models together, stacked with `torch.func.vmap`."""

    def __call__(self, runs: Sequence[Run], method: Method) -> Iterator[Epoch]:
        yield from run_steps(method.steps, StackedModels(runs))

    def label(self, count: int) -> str:
        return f"stacked of {count}"


def uneven(masks: Sequence[Mask]) -> str:
    """The name of a parameter that only some models may move; empty when there is none."""
    for name in masks[0]:
        if len({bool(mask[name].any()) for mask in masks}) > 1:
            return name
    return ""


def stackable(runs: Sequence[Run], method: Method) -> str:
    """Why these runs cannot be stacked; empty when they can."""
    if len(runs) < 2:
        return "one model is not a stack"
    if len(by_way(runs, method)) > 1:
        return "a mixture sends the seeds different ways"
    plan = unrolled(method.steps, seed=runs[0].seed)
    trains = [step for _, _, step in plan if isinstance(step, Train)]
    if not trains:
        return "the method trains nothing"
    shared_by = {
        (optimiser_place(p), isinstance(step, Train)) for p, _, step in plan if SHARED in p
    }
    if len({place for place, _ in shared_by}) < len(shared_by):
        return "one optimiser serves training and steps that go one model at a time"
    if has_dropout(runs[0].model):
        return "dropout draws other numbers when models are stacked"
    for train in trains:
        if any(holds_tokens(runs[0].data(name)) for name in train.objective.sets):
            return "language models are trained one after another: their minibatches are ragged"
        if train.accumulate > 1 or train.precision or train.checkpointing:
            return "micro-batches, bf16 and checkpointing are for models on their own"
        lazy = [name for name in train.objective.sets if not in_memory(runs[0].data(name))]
        if lazy:
            return f"the set {lazy[0]} is read from disk"
        if name := unequal(runs, train.objective.sets):
            return f"the runs' sets {name} are no equally large subsets of one set"
        if train.where.redraws:
            return "a selector draws other weights for each model"
        if name := uneven([run.mask(train.where) for run in runs]):
            return f"{name} may move in some models and not in others"
    return ""


def unlearn_runs(
    runs: Sequence[Run], method: Method, engine: Engine
) -> Iterator[Epoch | list[Unlearned]]:
    """Run a method for several seeds; yield each epoch, and at the end the unlearned models.

    Runs that cannot be stacked are looped, and their receipts say so. Those that a `Mixture`
    sends different ways are stacked apart.
    """
    done: dict[Run, Unlearned] = {}
    for group in by_way(runs, method):
        chosen = Looped() if stackable(group, method) else engine
        start = Spent.now()
        for epoch in chosen(group, method):
            record_losses(epoch, group)
            paused = Spent.now()
            yield epoch
            # what the caller does with an epoch's record is no cost of the method
            start = start.plus(paused.elapsed())
        share, label = start.elapsed(len(group)), chosen.label(len(group))
        done |= {run: finish(run, method, label, share) for run in group}
    yield [done[run] for run in runs]


def by_way(runs: Sequence[Run], method: Method) -> list[list[Run]]:
    """Group the runs, each group of those that every `Mixture` of a method sends the same way."""
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        places = tuple(place for place, _, _ in unrolled(method.steps, seed=run.seed))
        groups.setdefault(places, []).append(run)
    return list(groups.values())


@dataclass(frozen=True)
class Timing:
    """What `fastest` measured: seconds of one training step of one model, each way."""

    looped: float
    vmapped: float | None
    reason: str = ""

    @property
    def engine(self) -> Engine:
        """The faster way."""
        return Vmapped() if self.vmapped is not None and self.vmapped < self.looped else Looped()


# Seconds. A stack saves the calls between small kernels; the wider CIFAR network, 0.02 s a step, is
# slower stacked already (docs/performance.md). Larger ones are not tried: 64 ResNet-18, to be timed
# in one stack, had taken 21.8 GiB when the machine killed them.
LARGE = 0.3


def fastest(make: Callable[[int], list[Run]], method: Method, count: int) -> Timing:
    """Time a few training steps of a method each way.

    Args:
        make: number of runs -> fresh runs.
        method: what they are going to do.
        count: models that would be stacked.
    """
    reason = stackable(make(2)[:count], method)
    alone = _seconds_a_step(Looped(), make(1), method, 12)
    if not reason and alone > LARGE:
        reason = f"a step of one model takes {alone:.2f} s: too large to try a stack"
    if reason:
        return Timing(alone, None, reason)
    try:
        return Timing(alone, _seconds_a_step(Vmapped(), make(count), method, 4))
    except (CannotStack, RuntimeError) as fault:
        # vmap refuses models with operations that it has no rule for, or in-place tricks
        return Timing(alone, None, f"vmap refused the model: {str(fault).splitlines()[0]}")


def _seconds_a_step(engine: Engine, runs: list[Run], method: Method, steps: int) -> float:
    """Seconds of one step of one model, without the time to begin: a difference of two runs."""
    plan = unrolled(method.steps, seed=runs[0].seed)
    train = next(step for _, _, step in plan if isinstance(step, Train))
    sizes = {name: len(runs[0].data(name)) for name in train.objective.sets}
    length = len(
        minibatch_edges(sizes[train.over] if train.over else max(sizes.values()), train.batch)
    )
    spent = []
    for count in (1, 1, steps + 1):  # the first run warms up
        brief = replace(train, epochs=count / length)
        start = time.perf_counter()
        for _ in engine(runs, Method("timing", (brief,))):
            continue
        spent.append(time.perf_counter() - start)
    return max(spent[2] - spent[1], 1e-9) / steps / len(runs)
