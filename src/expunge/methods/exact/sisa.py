"""SISA: an ensemble in shards; a deletion retrains only the shards that saw the rows."""

from __future__ import annotations

import copy
import hashlib
import itertools
import math
import shutil
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from expunge.core.batch import Data, Subset
from expunge.core.machine import device
from expunge.core.method import Method, Step
from expunge.core.problem import Problem, network_spec
from expunge.core.store import Corrupt, Job, Store, model_state
from expunge.core.vocabulary import in_full
from expunge.engine.check import refuse_broken
from expunge.engine.loop import SingleModel
from expunge.engine.run import Run, frozen, run_steps
from expunge.engine.training import Repeat, Train, unrolled
from expunge.errors import BadData, BadSentence, OffLimits, Unsupported
from expunge.methods.cost import epochs_of
from expunge.methods.exact.deletions import (
    ENOUGH,
    NO_ROWS,
    Layout,
    Rows,
    deletion_share,
    requested,
    stage_share,
)


@dataclass(frozen=True, eq=False)
class Stage:
    """What a run may read of a problem while one stage trains: some rows, called "train".

    Args:
        name: as errors call it.
        rows: the rows of the stage.
    """

    name: str
    rows: Data

    def data(self, name: str) -> Data:
        """Return the rows of the stage.

        Raises:
            OffLimits: for any set but "train".
        """
        if name != "train":
            raise OffLimits(f"{self.name} reads its own rows of 'train' alone, not {name!r}.")
        return self.rows


def shortened(problem: Problem, share: float) -> tuple[Step, ...]:
    """Return the steps of a problem's recipe, every `Train` for a share of its epochs.

    Raises:
        Unsupported: the problem has no recipe.
        BadSentence: the recipe does more than train, has a teacher, or names a set besides "train".
    """
    if problem.recipe is None:
        raise Unsupported(
            f"{problem.name} has no recipe, so no shard can be trained. "
            "Give Problem a recipe: the Method that trains a model on 'train'."
        )
    _check(problem.recipe)
    return tuple(_shorter(step, share) for step in problem.recipe.steps)


def train_stage(model: nn.Module, steps: tuple[Step, ...], stage: Stage, seed: int) -> int:
    """Train a model in place on the rows of a stage; return the number of examples read.

    Raises:
        Diverged: a loss or a weight became infinite or not a number.
    """
    model.requires_grad_(True)
    # A run of Train steps without teachers asks its problem for data alone.
    run = Run(model, frozen(model), cast(Problem, stage), seed, f"sisa, {stage.name}")
    for _ in run_steps(steps, SingleModel(run)):
        continue
    refuse_broken(model, f"After {stage.name}: the model")
    return run.counts.examples.get("train", 0)


def content(data: Data, rows: Tensor, chunk: int = 512) -> str:
    """Hash some examples: their rows, inputs and targets."""
    total = hashlib.blake2b(digest_size=16)
    for part in rows.split(chunk):
        batch = data.batch(part)
        for piece in (part, batch.inputs, batch.targets):
            total.update(repr((piece.dtype, tuple(piece.shape))).encode())
            # as plain bytes: NumPy has no bfloat16
            flat = piece.detach().cpu().contiguous().flatten()
            total.update(flat.view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def _check(recipe: Method) -> None:
    steps = [step for _, _, step in unrolled(recipe.steps)]
    plain = all(isinstance(step, Train) and not step.objective.teachers for step in steps)
    if not steps or not plain or set(recipe.sets) != {"train"}:
        raise BadSentence(
            f"recipe = {recipe.sentence!r}: each stage of an ensemble trains by the recipe with "
            "fewer epochs, so it must consist of Train steps on the set 'train' alone, without a "
            "teacher."
        )


def _shorter(step: Step, share: float) -> Step:
    if isinstance(step, Repeat):
        return Repeat(tuple(_shorter(inner, share) for inner in step.steps), step.times)
    assert isinstance(step, Train)
    return replace(step, epochs=step.epochs * share)


class MeanSoftmax(nn.Module):
    """Answer with the logarithm of the mean of the members' probabilities.

    Source: Bourtoule et al., arXiv 1912.03817; `--output_type softmax` in
    cleverhans-lab/machine-unlearning at 50a3ada.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs [b, ...] to log-probabilities [b, k]."""
        return _mean(_answers(self.members, inputs))


class Votes(nn.Module):
    """Let each member vote for its likeliest class; the mean probabilities have one more vote.

    That vote breaks ties and keeps every class's log-probability finite; it cannot overrule a
    majority of one.

    Source: Bourtoule et al., arXiv 1912.03817 (majority vote), the default of
    cleverhans-lab/machine-unlearning at 50a3ada.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs [b, ...] to log-probabilities [b, k]."""
        answers = _answers(self.members, inputs)
        chosen = nn.functional.one_hot(answers.argmax(-1), answers.shape[-1]).sum(0)
        votes = chosen.to(answers.dtype).log()
        return torch.logaddexp(votes, _mean(answers)) - math.log(len(self.members) + 1)


def _answers(members: nn.ModuleList, inputs: Tensor) -> Tensor:
    """Log-probabilities of each member, [m, b, k]."""
    return torch.stack([member(inputs).log_softmax(-1) for member in members])


def _mean(answers: Tensor) -> Tensor:
    return answers.logsumexp(0) - math.log(len(answers))


State = dict[str, Tensor]


class Checkpoints(ABC):
    """Keeps model states by the job that made them; abstract."""

    @abstractmethod
    def get(self, job: Job) -> State | None:
        """Return a state, or None where none can be read."""

    @abstractmethod
    def put(self, job: Job, state: State) -> None:
        """Keep a state."""

    @abstractmethod
    def keep_only(self, jobs: Collection[Job]) -> None:
        """Destroy all states but these: the others saw rows that were deleted since."""


class InMemory(Checkpoints):
    """Checkpoints in memory, lost when the process ends."""

    def __init__(self) -> None:
        self.states: dict[str, State] = {}

    def get(self, job: Job) -> State | None:
        return self.states.get(job.key)

    def put(self, job: Job, state: State) -> None:
        self.states[job.key] = state

    def keep_only(self, jobs: Collection[Job]) -> None:
        kept = {job.key for job in jobs}
        self.states = {key: state for key, state in self.states.items() if key in kept}


class OnDisk(Checkpoints):
    """Checkpoints in a store, each whole or not there; interrupted training resumes from them.

    Args:
        folder: the store's folder.
        kind: of this ensemble's jobs alone, so that several ensembles may share a folder.
    """

    def __init__(self, folder: Path | str, kind: str) -> None:
        self.store, self.kind = Store(folder), kind
        self.store.sweep()

    def get(self, job: Job) -> State | None:
        try:
            return self.store.tensors(job, "model") if self.store.has(job) else None
        except Corrupt:  # it was set aside, where it would outlive the rows that it has seen
            for aside in (self.store.root / "corrupt").glob(f"{self.kind}-*"):
                shutil.rmtree(aside, ignore_errors=True)
            return None

    def put(self, job: Job, state: State) -> None:
        self.store.write(job, {"model": state})

    def keep_only(self, jobs: Collection[Job]) -> None:
        kept = {job.key for job in jobs}
        for place in (self.store.root / self.kind).glob("*/*"):
            if place.name not in kept:
                # first what says that the product is there, so that no half of it can be read
                (place / "job.json").unlink(missing_ok=True)
                shutil.rmtree(place)


GUARANTEE = (
    "Exact: the ensemble is, bit for bit on one machine, the one that training from nothing "
    "without the deleted rows gives, under the same assignment of rows and the same seed. "
    "Assumes: the requests do not depend on models that were published before; the arithmetic of "
    "the machine is deterministic. Not covered: what else has seen the rows (pretrained weights, "
    "statistics of normalisation, choices of hyperparameters, the list of classes), copies of a "
    "deleted row that stay, and models that were published before."
)


@dataclass(frozen=True)
class Deletion:
    """What a request cost, measured.

    Args:
        rows: the rows deleted.
        shards: the shards retrained.
        stages: number of stages trained.
        examples: examples read, counted once for each pass.
        share: the examples as a share of one retraining by the recipe on the rows that are left.
    """

    rows: tuple[int, ...]
    shards: tuple[int, ...]
    stages: int
    examples: int
    share: float

    def __str__(self) -> str:
        return (
            f"Deleted {len(self.rows)} rows: retrained {len(self.shards)} shards "
            f"({self.stages} stages); examples read: {self.examples}, {self.share:.1%} of "
            "retraining"
        )


class Sisa:
    """Train an ensemble in shards and slices, and delete rows from it exactly.

    Each shard's model is trained slice by slice: on the first, then on the first two, and so on,
    with a checkpoint after each. A deletion goes back to the checkpoint before the row's slice.

    Args:
        problem: with the set "train", an architecture, and a recipe that trains on "train".
        shards: models in the ensemble.
        slices: checkpoints a shard.
        seed: draws the assignment, the first weights and every order.
        without: rows that were deleted before, to load an ensemble again.
        folder: a store for the checkpoints; in memory when None.

    Raises:
        BadData, BadSentence, Unsupported, Diverged, StoreError: as their messages say.

    Source: Bourtoule et al., Machine Unlearning, arXiv 1912.03817;
    cleverhans-lab/machine-unlearning at 50a3ada. There the optimiser lives on from slice to slice
    unless training was interrupted; here each stage has its own, so that a deletion is exact.
    """

    guarantee = GUARANTEE

    def __init__(
        self,
        problem: Problem,
        *,
        shards: int,
        slices: int = 1,
        seed: int = 0,
        without: Rows = (),
        folder: Path | str | None = None,
    ) -> None:
        if "train" not in problem.sets:
            raise BadData(f"{problem.name} has no set 'train', so there is nothing to cut.")
        self.problem, self.data, self.seed = problem, problem.sets["train"], seed
        self.layout = Layout(len(self.data), shards, slices, seed)
        self.steps = shortened(problem, stage_share(self.layout))
        self.gone = requested(without, self.layout.n, NO_ROWS) if len(without) else NO_ROWS
        self.spec = f"{network_spec(problem)}; {in_full(self.steps)}; {self.layout!r}"
        self.kind = f"sisa-{hashlib.blake2b(self.spec.encode(), digest_size=8).hexdigest()}"
        self.checkpoints: Checkpoints = InMemory() if folder is None else OnDisk(folder, self.kind)
        self.members: dict[int, nn.Module] = {}
        self.jobs: dict[int, list[Job]] = {}
        self.trained = self._commit(self.gone, range(shards))

    def forget(self, rows: Rows) -> Deletion:
        """Delete some rows; only the shards that hold one are retrained, from its slice on.

        Checkpoints that have seen the rows are destroyed. On an error nothing is deleted.

        Raises:
            BadData: rows that are unknown, named twice or deleted before, or none would be left.
        """
        wanted = requested(rows, self.layout.n, self.gone)
        gone = torch.cat([self.gone, wanted]).sort()[0]
        shards = self.layout.shard_of[wanted].unique().tolist()
        return self._commit(gone, shards, wanted)

    def forecast(self, rows: Rows) -> float:
        """Compute the work of deleting these rows: a share of retraining on those then left."""
        return deletion_share(self.layout, rows, self.gone)

    def model(self, aggregate: type[Votes] | type[MeanSoftmax] = Votes) -> nn.Module:
        """Return the ensemble as one module from inputs to log-probabilities, in evaluation mode.

        Shards with fewer than two rows left have no model and no vote.
        """
        members = [copy.deepcopy(self.members[shard]) for shard in sorted(self.members)]
        return aggregate(members).eval().requires_grad_(False)

    def _commit(self, gone: Tensor, shards: Iterable[int], wanted: Tensor = NO_ROWS) -> Deletion:
        """Retrain some shards without the rows that are gone, and then destroy what saw them."""
        jobs, members, read, stages = dict(self.jobs), dict(self.members), 0, 0
        affected = tuple(shards)
        for shard in affected:
            jobs[shard], rows = self._stages(shard, gone)
            members.pop(shard, None)
            if jobs[shard]:
                members[shard], counts = self._trained(shard, jobs[shard], rows)
                read, stages = read + sum(counts), stages + len(counts)
        if not members:
            raise BadData(f"No shard has {ENOUGH} rows left, so no model would be left.")
        self.jobs, self.members, self.gone = jobs, members, gone
        self.checkpoints.keep_only(list(itertools.chain.from_iterable(jobs.values())))
        epochs = epochs_of(self.steps) / stage_share(self.layout)  # of the recipe
        whole = epochs * (self.layout.n - len(gone))
        return Deletion(tuple(wanted.tolist()), affected, stages, read, read / whole)

    def _stages(self, shard: int, gone: Tensor) -> tuple[list[Job], list[Tensor]]:
        """The stages of a shard that have enough rows: their jobs, and the rows of each."""
        jobs, seen = [], []
        before: tuple[Job, ...] = ()
        rows = NO_ROWS
        for number, part in enumerate(self.layout.parts[shard]):
            own = part[~torch.isin(part, gone)]
            rows = torch.cat([rows, own])
            spec = f"{self.spec}; shard {shard}, slice {number}, {content(self.data, own)}"
            job = Job(self.kind, spec, self.seed, before)
            before = (job,)
            if len(rows) >= ENOUGH:
                jobs.append(job)
                seen.append(rows)
        return jobs, seen

    def _trained(
        self, shard: int, jobs: list[Job], rows: list[Tensor]
    ) -> tuple[nn.Module, list[int]]:
        """Train a shard's model from its last checkpoint; with the examples of each new stage."""
        model, first = self.problem.untrained("sisa", self.seed, shard).to(device()), 0
        for number in reversed(range(len(jobs))):
            if (state := self.checkpoints.get(jobs[number])) is not None:
                model_state(state, model)
                first = number + 1
                break
        counts = []
        skipped = self.layout.slices - len(jobs)
        for number in range(first, len(jobs)):
            name = f"shard {shard}, slice {number + skipped}"
            stage = Stage(name, Subset(self.data, rows[number]))
            counts.append(train_stage(model, self.steps, stage, self.seed))
            self.checkpoints.put(jobs[number], _state(model))
        return model.eval().requires_grad_(False), counts


def _state(model: nn.Module) -> State:
    return {name: t.detach().cpu().clone() for name, t in model.state_dict().items()}
