"""Retrain from scratch, and check it: nothing of the original kept, no forgotten row read."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from expunge.core.batch import Batch, Data, Subset
from expunge.core.problem import Problem, reinitialised
from expunge.core.receipt import Receipt
from expunge.engine.training import from_scratch
from expunge.engine.unlearning import unlearn
from expunge.errors import BadSentence

GUARANTEE = (
    "Exact: the model was trained from fresh weights on the retain set alone; no row of the forget "
    "set was read, and no weight or statistic of the original is left. Assumes: the recipe was "
    "chosen without the forget set. Not covered: what else has seen the rows (pretrained weights "
    "in the architecture, statistics of normalisation, the list of classes), and copies of a "
    "forgotten row in the retain set."
)


# Two values of a coarse type may be equal by chance; bfloat16 has 8 bits to differ in.
BY_CHANCE = 0.05


@dataclass(frozen=True, eq=False)
class Retrained:
    """A model retrained without the forget set, and what the check found.

    Args:
        model: in evaluation mode.
        receipt: what it cost.
        rows: int64 [r], every row that was read, by its `index` in the batch, sorted.
        shared: weights that come with the architecture and are the same in the original: frozen,
            pretrained ones, which the guarantee leaves out.
    """

    model: nn.Module
    receipt: Receipt
    rows: Tensor
    shared: tuple[str, ...] = ()

    @property
    def guarantee(self) -> str:
        """What is guaranteed, what it assumes, and what it leaves out."""
        frozen = f" Shared with the original: {', '.join(self.shared)}." if self.shared else ""
        return GUARANTEE + frozen


@dataclass(frozen=True, eq=False)
class Watched:
    """A set that records which of its rows are read."""

    data: Data
    seen: list[Tensor] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, positions: Tensor) -> Batch:
        """The examples at `positions`."""
        found = self.data.batch(positions)
        self.seen.append(found.index.flatten())
        return found

    def rows(self) -> Tensor:
        """The rows that were read, sorted, int64 [r]."""
        return torch.cat([torch.zeros(0, dtype=torch.int64), *self.seen]).unique()


def retrain(original: nn.Module, problem: Problem, *, seed: int = 0) -> Retrained:
    """Retrain from scratch on the retain set, and refuse a model that owes the original anything.

    With the same seed it is the model that `unlearn` gives for the recipe on the retain set.

    Args:
        original: the model that must forget; only compared with.
        problem: with an architecture and a recipe.
        seed: draws the first weights and every order.

    Raises:
        BadSentence: a row of the forget set was read, or part of the original is left.
        Unsupported: the problem has no recipe.
        BadData, Diverged: as their messages say.
    """
    watched = {name: Watched(data) for name, data in problem.sets.items()}
    task = dataclasses.replace(problem, sets=watched)
    # The run starts from other weights than the original's, so that it cannot keep any of them.
    start = _fresh(original, problem, "start")
    done = unlearn(start, from_scratch(task, "retain", "retrain"), task, seed=seed)
    read = {name: watch.rows() for name, watch in watched.items()}
    _refuse_forgotten(problem, read)
    shared = _shared(original, done.model, start)
    return Retrained(done.model, done.receipt, read["retain"], shared)


def _fresh(original: nn.Module, problem: Problem, purpose: str) -> nn.Module:
    names = ("retrain", purpose)
    if problem.architecture is None:
        return reinitialised(original, *names)
    return problem.untrained(*names).to(next(original.parameters()).device)


def _refuse_forgotten(problem: Problem, read: dict[str, Tensor]) -> None:
    """Refuse a run that read the forget set, by the set's name or by its rows."""
    for name in ("forget", "train"):
        if len(read.get(name, ())):
            raise BadSentence(
                f"Retraining read {len(read[name])} rows of the set {name!r}, which must be "
                "forgotten. A recipe may read only the set 'train'."
            )
    forget, retain = problem.sets["forget"], problem.sets["retain"]
    if isinstance(forget, Subset) and isinstance(retain, Subset) and forget.base is retain.base:
        both = read["retain"][torch.isin(read["retain"], forget.index)]
        if len(both):
            raise BadSentence(f"Retraining read {len(both)} rows that must be forgotten.")


def _shared(original: nn.Module, model: nn.Module, fresh: nn.Module) -> tuple[str, ...]:
    """Names of weights that come with the architecture and that no training moved.

    A model that has anything else of the original is refused. A value that is still as it was
    initialised, as a bias of a unit that never fired, proves nothing; nor do counters of
    minibatches.
    """
    before, first, shared = original.state_dict(), fresh.state_dict(), []
    for name, now in model.state_dict().items():
        if not now.is_floating_point() or not now.numel():
            continue
        made, was = first[name].to(now), before[name].to(now)
        brought = len(made.unique()) > 1 and torch.equal(made, was)
        if brought and torch.equal(now, was):
            shared.append(name)
        kept = ((now == was) & (now != made)).float().mean()
        if (brought and not torch.equal(now, was)) or kept > BY_CHANCE:
            raise BadSentence(
                f"{name} comes from the original, so the model was not trained from scratch. Give "
                "Problem an architecture that makes a new, untrained model; if it does so already, "
                "retrain with another seed than the original's."
            )
    return tuple(shared)
