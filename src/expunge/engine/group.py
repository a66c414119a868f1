"""A group of models that train together: one on its own, or several stacked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from expunge.core.batch import Batch
from expunge.core.seeds import isolated
from expunge.core.selector import Everything, Mask, Selector
from expunge.core.term import Term, leaves
from expunge.core.view import Known, View, last_linear, layer_of, lens_of
from expunge.errors import BadData

if TYPE_CHECKING:
    from expunge.core.method import Step
    from expunge.core.optimisers import Optimiser, Slowed
    from expunge.core.run import RunProtocol
    from expunge.core.schedules import Schedule


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
    slowed: dict[str, Tensor]

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
        self.frozen, self.slowed = {}, {}
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

    def scale_slowed(self) -> None:
        """Scale down the gradients of slowed weights."""
        for name, factor in self.slowed.items():
            if (slope := self.weights[name].grad) is not None:
                slope.mul_(factor)

    def restore_frozen(self) -> None:
        """Restore weights outside `where`, which momentum and weight decay would move."""
        for name, (inside, before) in self.frozen.items():
            weight = self.weights[name]
            weight.data.copy_(torch.where(inside, weight.data, before))

    def optimiser(self, train: TrainingSettings) -> torch.optim.Optimizer:
        """The optimiser of this place in the sentence; all turns of a `Repeat` share it."""
        place = self.runs[0].place
        if place not in self.optimisers:
            self.optimisers[place] = train.optimiser.over(self.weights.values())
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
