"""A plan: an experiment with its data at hand, and the jobs that it consists of."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Generic

import torch
from torch import Tensor, nn

from expunge.core.batch import Data, Joined, Subset, Tensors, all_targets
from expunge.core.method import Method
from expunge.core.problem import Problem, network_spec
from expunge.core.seeds import stream
from expunge.core.store import Job, Store
from expunge.core.texts import Texts
from expunge.core.vocabulary import in_full
from expunge.engine.training import from_scratch
from expunge.experiments.experiment import Experiment, forget_chooser
from expunge.experiments.rows import AllScores, Column, Record, S, TableRow

MEASURED = ("retain", "forget", "test")


METRICS_VERSION = 5


CHOICE_VERSION = 1


# Name of a file -> name of a tensor -> the tensor; and what JSON can hold.
Product = tuple[Mapping[str, Mapping[str, Tensor]], Mapping[str, Any]]


class Task(ABC, Generic[S]):
    """All that differs between problems of images and of texts; abstract.

    Args:
        S: the frozen dataclass that holds a method's scores, with `cost` and `to_json`.

    Every task has a name, the packages whose versions decide what its models become, the names of
    the rows that are controls, the columns of its table, and the resamples of its intervals.
    """

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    controls: ClassVar[tuple[str, ...]]
    columns: ClassVar[tuple[Column[Any], ...]]
    resamples: ClassVar[int]

    @abstractmethod
    def problem_record(self, plan: Plan) -> Product:
        """Return what the store keeps of the problem: the forget set, and the sizes of all sets."""

    @abstractmethod
    def evaluation_key(self, plan: Plan, model: str) -> str:
        """Return all that decides what models ("original", "oracle" ...) are asked, as text."""

    @abstractmethod
    def collect(self, plan: Plan, model: nn.Module, made_as: str) -> Product:
        """Return what a model, made as an "original" or an "oracle" ..., answers."""

    @abstractmethod
    def trace(self, plan: Plan, model: nn.Module) -> dict[str, float]:
        """Return a few numbers of a model after each epoch of a method; empty for none.

        The model is left as it was, its modes too.
        """

    @abstractmethod
    def score_key(self, plan: Plan) -> str:
        """Return all that decides the numbers besides the answers, as text."""

    @abstractmethod
    def score(self, plan: Plan, store: Store, method: Method) -> S:
        """Return all numbers of one method, from the answers in the store."""

    @abstractmethod
    def read_scores(self, record: Record) -> S:
        """Return the numbers of one method from what the store keeps of them."""

    @abstractmethod
    def rows(self, plan: Plan, store: Store, found: AllScores[S]) -> Sequence[TableRow]:
        """Return the rows of the table, in its order, each with a verdict in a few words."""

    @staticmethod
    @abstractmethod
    def read_row(record: Record) -> TableRow:
        """Return a row from what a summary keeps of it."""

    @abstractmethod
    def anchor(self, scores: S) -> dict[str, Any]:
        """Return the one number by which rows lie between the original and retrained models."""

    @abstractmethod
    def sections(
        self, plan: Plan, store: Store, found: AllScores[S], rows: Sequence[TableRow]
    ) -> dict[str, Any]:
        """Return what only this task's summary holds, "problem" and "not_shown" among it."""

    @staticmethod
    @abstractmethod
    def notes(summary: Record) -> list[str]:
        """Return the sentences that stand below the table in a terminal."""


@dataclass(frozen=True, eq=False)
class Plan:
    """An experiment on a problem whose data are at hand.

    Args:
        experiment: what is compared.
        problem: the sets, the architecture and the recipe.
        spec: all that decides the problem, the data's digest included.
        task: what models are asked, and how their answers are judged.
        settled: whether the forget set is the experiment's own, and no stand-in of its size.
    """

    experiment: Experiment
    problem: Problem
    spec: str
    task: Task[Any]
    settled: bool = True

    @property
    def root(self) -> Job:
        """The problem itself: its forget set's rows and examples."""
        return Job("problem", self.spec)

    def original(self, seed: int) -> Job:
        """The original of one member; under the challenge's protocol all share the first."""
        shared = self.experiment.protocol == "challenge"
        owner = self.experiment.seeds[0] if shared else seed
        recipe = from_scratch(self.problem, "train", "original")
        return Job("original", in_full(recipe.steps), owner, (self.root,))

    def oracle(self, seed: int) -> Job:
        """A model retrained from scratch without the forget set."""
        steps = from_scratch(self.problem, "retain", "oracle").steps
        return Job("oracle", in_full(steps), seed, (self.root,))

    def unlearned(self, method: Method, seed: int) -> Job:
        """A model unlearned by a method; without steps it is the original itself."""
        original = self.original(seed)
        if not method.steps:
            return original
        return Job("unlearned", in_full(method.steps), seed, (self.root, original))

    def shadow(self, seed: int) -> Job:
        """A model trained on a random half of the training set, whatever is to be forgotten."""
        return Job("shadow", self.shadow_spec, seed)

    @cached_property
    def shadow_spec(self) -> str:
        """All that decides a shadow model but its seed: no forget set, so that all share them."""
        sets = {name: self.problem.sets[name] for name in self.evaluation_sets("shadow")}
        recipe = from_scratch(self.problem, "train", "shadow")
        return f"{data_spec(self.problem, sets)}; {in_full(recipe.steps)}"

    def half(self, seed: int) -> Tensor:
        """The rows of the training set that a shadow model is trained on.

        Shadows 2k and 2k + 1 have opposite halves, so that of an even number of shadows each
        example is known to exactly half; of an odd number of examples the last one drawn is left
        out of both.
        """
        size = len(self.problem.sets["train"])
        order = torch.randperm(size, generator=stream("shadow", seed // 2, "half"))
        part, other = order[: size // 2], order[size // 2 : size // 2 * 2]
        return (other if seed % 2 else part).sort().values

    def shadow_problem(self, seed: int) -> Problem:
        """The problem as a shadow model meets it: its own half is all there is to train on."""
        own = Subset(self.problem.sets["train"], self.half(seed))
        return replace(self.problem, sets={**self.problem.sets, "train": own})

    def evaluation_sets(self, kind: str) -> tuple[str, ...]:
        """The sets that models of a kind answer on: shadows know of no forget set."""
        if kind == "shadow":
            return tuple(name for name in ("train", "test") if name in self.problem.sets)
        return self.measured

    def evidence(self, model: Job) -> Job:
        """What a model answers on the measured sets."""
        return Job("evidence", self.task.evaluation_key(self, model.kind), 0, (model,))

    @property
    def memorisation(self) -> Job:
        """How strongly each training example is memorised, from the shadow models."""
        shadows = tuple(self.evidence(self.shadow(s)) for s in self.experiment.shadow_seeds)
        return Job("memorisation", "confidence in minus out/1", len(shadows), shadows)

    @property
    def forget_set(self) -> Job:
        """The rows that shadow models choose to be forgotten."""
        chooser = in_full(forget_chooser(self.experiment.forget))
        said = f"{chooser}; seed {self.experiment.forget_seed}/{CHOICE_VERSION}"
        return Job("forget-set", said, 0, (self.memorisation, *self.memorisation.inputs))

    def failure(self, method: Method) -> Job:
        """The record that a method could not be run, with the reason."""
        first = self.unlearned(method, self.experiment.seeds[0])
        from expunge.core.machine import __version__

        # with the version: what failed may be fixed since
        return Job("failure", f"{__version__} {in_full(method.steps)}", 0, (first,))

    def score(self, method: Method) -> Job:
        """All numbers of one method against the oracles."""
        seeds = self.experiment.seeds
        spec = self.task.score_key(self)
        subjects = tuple(self.evidence(self.unlearned(method, seed)) for seed in seeds)
        oracles = tuple(self.evidence(self.oracle(seed)) for seed in seeds)
        shadows = tuple(self.evidence(self.shadow(s)) for s in self.experiment.shadow_seeds)
        return Job("score", spec, len(seeds), subjects + oracles + shadows)

    @property
    def measured(self) -> tuple[str, ...]:
        """The sets that evidence is collected on."""
        return tuple(name for name in MEASURED if name in self.problem.sets)

    @property
    def retrain(self) -> Method:
        """The control that must pass: the recipe on the retain set, with seeds of its own."""
        return from_scratch(self.problem, "retain", "retrain")

    @property
    def methods(self) -> tuple[Method, ...]:
        """All rows of the table: the controls, then what is compared."""
        return (self.retrain, *self.experiment.compared)


def problem_spec(problem: Problem) -> str:
    """Everything that decides a problem, as text: the data's digest, the rows, the network."""
    recipe = in_full(problem.recipe.steps) if problem.recipe else "none"
    return f"{data_spec(problem, problem.sets)}; {recipe}"


def data_spec(problem: Problem, sets: Mapping[str, Data]) -> str:
    """A network and some sets as text."""
    network = network_spec(problem) if problem.architecture else "none"
    return "; ".join([network, *(f"{name}={digest(data)}" for name, data in sorted(sets.items()))])


def digest(data: Data) -> str:
    """A hash of a data set's bytes; of one that is read on demand, of its length and targets."""
    total = hashlib.blake2b(digest_size=16)
    for piece in _content(data):
        total.update(piece)
    return total.hexdigest()


def _content(data: Data) -> list[Any]:
    if isinstance(data, Tensors):
        scale = repr((data.mean, data.std, data.inputs.dtype, tuple(data.inputs.shape))).encode()
        return [scale, _bytes(data.inputs), _bytes(data.targets)]
    if isinstance(data, Subset):
        return [*_content(data.base), _bytes(data.index)]
    if isinstance(data, Joined):
        return [*_content(data.first), *_content(data.second)]
    if isinstance(data, Texts):
        return [repr([row.key() for row in (*data.made, *data.instead)]).encode()]
    targets = all_targets(data)
    few = data.batch(torch.arange(min(len(data), 8))).inputs
    return [repr(tuple(few.shape)).encode(), _bytes(few), _bytes(targets)]


def _bytes(tensor: Tensor) -> Any:
    # As plain bytes: NumPy has no bfloat16.
    return tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
