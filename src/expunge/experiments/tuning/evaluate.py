"""Evaluate one method on the tuning split; results are cached and resumable.

A trial that was cut short has left nothing behind, so its place in the budget is free again; one
that ended is never made twice, whichever process, command or resumed run asks for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from expunge.core.machine import __version__
from expunge.core.method import Method
from expunge.core.receipt import Receipt, Unlearned
from expunge.core.store import Corrupt, Job, Store
from expunge.core.vocabulary import in_full
from expunge.engine.check import check_fit
from expunge.engine.stacking import Engine, Timing, unlearn_runs
from expunge.engine.training import from_scratch
from expunge.errors import BadEvidence, ExpungeError, StoreError
from expunge.experiments.collect import evidence_of
from expunge.experiments.make import (
    STACK,
    Block,
    block_size,
    choose_engine,
    load_model,
    make_block,
    missing,
    runs_of,
)
from expunge.experiments.tuning.held_out import TuningSplit
from expunge.methods.cost import share_of_retraining
from expunge.metrics.agreement import accuracies
from expunge.metrics.challenge.quality import forget_signal, forgetting_quality

Floats = NDArray[np.float64]


# Raised when what is kept of the answers, or how it is measured, changes.
ANSWERS_VERSION = 1


@dataclass(frozen=True, eq=False)
class HeldOutAnswers:
    """What some models answer.

    Args:
        signal: float64 [model, example], the challenge's scalar on the forget examples.
        accuracy: name of a set -> float64 [model], the share of right answers.
    """

    signal: Floats
    accuracy: dict[str, Floats]

    def __len__(self) -> int:
        return len(self.signal)


def answers_of(models: Sequence[torch.nn.Module], split: TuningSplit) -> HeldOutAnswers:
    """Measure models on the split's sets."""
    names = tuple(split.measured.sets)
    evidence = evidence_of(models, split.measured, names)
    utility = {name: accuracies(evidence, name) for name in names if name != "forget"}
    return HeldOutAnswers(forget_signal(evidence), utility)


def joined(parts: Sequence[HeldOutAnswers]) -> HeldOutAnswers:
    """The answers of several groups of models, one after the other."""
    accuracy = {
        name: np.concatenate([part.accuracy[name] for part in parts]) for name in parts[0].accuracy
    }
    return HeldOutAnswers(np.concatenate([part.signal for part in parts]), accuracy)


def first(answers: HeldOutAnswers, count: int) -> HeldOutAnswers:
    """The answers of the first so many models."""
    accuracy = {name: shares[:count] for name, shares in answers.accuracy.items()}
    return HeldOutAnswers(answers.signal[:count], accuracy)


class Bench:
    """A tuning split with its store: where models are made, measured and dropped.

    Args:
        split: what is tuned on.
        store: keeps the originals and what the oracles answer; no model of a trial.
    """

    def __init__(self, split: TuningSplit, store: Store) -> None:
        self.split, self.store = split, store
        self._oracles: dict[bool, HeldOutAnswers] = {}

    @cached_property
    def timing(self) -> Timing:
        """How members are trained here, timed once a store, problem and machine."""
        return choose_engine(self.split.plan, self.store)

    @property
    def engine(self) -> Engine:
        """Stacked or one after another."""
        return self.timing.engine

    def original_block(self, seeds: Sequence[int]) -> Block:
        """The originals from which members of these seeds start."""
        plan = self.split.plan
        owners = tuple(dict.fromkeys(plan.original(seed).seed for seed in seeds))
        return Block("original", from_scratch(plan.problem, "train", "original"), owners)

    def make_originals(self, seeds: Sequence[int]) -> None:
        """Train the originals of these members, where they are missing."""
        plan, block = self.split.plan, self.original_block(seeds)
        while missing(plan, self.store, block):
            make_block(plan, self.store, block, self.engine, wait=True)

    def oracle_blocks(self) -> list[tuple[int, ...]]:
        """The oracles' seeds, in groups that are made together; no group lies in both halves."""
        size = block_size(self.timing)
        halves = (self.split.oracles(), self.split.oracles(fresh=True))
        return [half[i : i + size] for half in halves for i in range(0, len(half), size)]

    def make_oracles(self, seeds: tuple[int, ...]) -> None:
        """Train a group of oracles, keep what they answer, and drop the models."""
        job = self.oracle_job(seeds)
        with self.store.claim(job.key, wait=True):
            if self.store.has(job):
                return
            method = from_scratch(self.split.problem, "retain", "oracle")
            runs = runs_of(self.split.plan, self.store, Block("oracle", method, seeds))
            made = run_all(runs, method, self.engine)
            self._keep(job, answers_of([each.model for each in made], self.split))

    def oracle_job(self, seeds: tuple[int, ...]) -> Job:
        """What a group of oracles answers."""
        steps = in_full(from_scratch(self.split.problem, "retain", "oracle").steps)
        spec = f"{steps}; {len(seeds)} oracles; answers {ANSWERS_VERSION}"
        return Job("answers", spec, seeds[0], (self.split.plan.root,))

    def oracles(self, fresh: bool = False) -> HeldOutAnswers:
        """What half of the oracles answer: the first to tune on, the other to evaluate again."""
        if fresh not in self._oracles:
            half = self.split.oracles(fresh)
            wanted = [seeds for seeds in self.oracle_blocks() if seeds[0] in half]
            self._oracles[fresh] = joined([self._read(seeds) for seeds in wanted])
        return self._oracles[fresh]

    def unlearn(self, method: Method, seeds: tuple[int, ...]) -> tuple[HeldOutAnswers, Receipt]:
        """Run a method with these seeds, measure the models, and drop them."""
        check_fit(method, self.split.problem)
        self.make_originals(seeds)
        parts, receipts = [], []
        for group in grouped(seeds, STACK):
            block = Block("unlearned", method, group)
            runs = runs_of(self.split.plan, self.store, block)
            made = run_all(runs, method, self.engine)
            parts.append(answers_of([each.model for each in made], self.split))
            receipts += [each.receipt for each in made]
        return joined(parts), receipts[0]

    def untouched(self, seeds: tuple[int, ...]) -> HeldOutAnswers:
        """What the originals answer, one for each member, before anything is forgotten."""
        self.make_originals(seeds)
        plan = self.split.plan
        jobs = [plan.original(seed) for seed in seeds]
        each = {job.key: job for job in jobs}
        models = {key: load_model(plan, self.store, job) for key, job in each.items()}
        found = {key: answers_of([model], self.split) for key, model in models.items()}
        return joined([found[job.key] for job in jobs])

    def _read(self, seeds: tuple[int, ...]) -> HeldOutAnswers:
        """The answers of a group of oracles, made again should they be missing or torn."""
        while True:
            self.make_oracles(seeds)
            try:
                kept = self.store.tensors(self.oracle_job(seeds), "answers")
            except Corrupt:
                continue
            found = {name: tensor.numpy() for name, tensor in kept.items()}
            return HeldOutAnswers(found.pop("signal"), found)

    def _keep(self, job: Job, found: HeldOutAnswers) -> None:
        arrays = {"signal": found.signal, **found.accuracy}
        tensors = {name: torch.as_tensor(array) for name, array in arrays.items()}
        self.store.write(job, {"answers": tensors})


def run_all(runs: list[Any], method: Method, engine: Engine) -> list[Unlearned]:
    """Run a method for all runs, without measuring on the way."""
    *_, made = unlearn_runs(runs, method, engine)
    return made  # type: ignore[return-value]


def grouped(seeds: tuple[int, ...], size: int) -> Iterator[tuple[int, ...]]:
    """Seeds in groups of a size."""
    for first in range(0, len(seeds), size):
        yield seeds[first : first + size]


# This share of the oracles' mean spread is added to both sides: models that all answer alike are
# far, but not without end.
LEAST_SPREAD = 0.1


# A lost share of accuracy, in units of the distance on the forget set.
UTILITY = 2.0


def distance(subject: HeldOutAnswers, oracle: HeldOutAnswers) -> float:
    """Distance on the forget set, and what the models lost elsewhere; 0 is as retrained.

    Args:
        subject, oracle: unlearned and retrained models, measured on the same examples.

    Raises:
        BadEvidence: fewer than 2 models on a side, or other examples.
    """
    return forgetting(subject, oracle) + UTILITY * sum(losses(subject, oracle).values())


def forgetting(subject: HeldOutAnswers, oracle: HeldOutAnswers) -> float:
    """Mean over forget examples of log(1 + J), J the divergence of two normals, both ways."""
    return float(np.log1p(divergences(subject.signal, oracle.signal)).mean())


def divergences(unlearned: Floats, retrained: Floats) -> Floats:
    """Jeffreys' divergence of normals fitted to the signal, nats, for each example.

    J = ((a + d) / b + (b + d) / a) / 2 - 1, with a, b the variances and d the squared difference of
    means: the mean of both directions of the Kullback-Leibler divergence. To both variances a
    hundredth of the mean of the oracles' is added.

    Args:
        unlearned, retrained: float64 [model, example].

    Returns:
        float64 [example], 0 or more.

    Source: Jeffreys (1946); closed form from the Kullback-Leibler divergence of two normals.
    """
    if unlearned.shape[1:] != retrained.shape[1:] or min(len(unlearned), len(retrained)) < 2:
        raise BadEvidence(
            f"Got signals {unlearned.shape} and {retrained.shape}; expected [model, example] on "
            "the same examples, 2 models or more a side."
        )
    a, b = np.var(unlearned, axis=0, ddof=1), np.var(retrained, axis=0, ddof=1)
    least = LEAST_SPREAD**2 * b.mean() + np.finfo(np.float64).tiny
    a, b = a + least, b + least
    d = (unlearned.mean(axis=0) - retrained.mean(axis=0)) ** 2
    found: Floats = ((a + d) / b + (b + d) / a) / 2 - 1
    return found


def losses(subject: HeldOutAnswers, oracle: HeldOutAnswers) -> dict[str, float]:
    """The share of the oracles' accuracy that the models lost, on each set; gains count nothing."""
    means = {
        name: (subject.accuracy[name].mean(), kept.mean()) for name, kept in oracle.accuracy.items()
    }
    return {
        name: max(0.0, 1 - float(mine / full)) if full else 0.0
        for name, (mine, full) in means.items()
    }


def quality(subject: HeldOutAnswers, oracle: HeldOutAnswers, rule: str) -> float:
    """The challenge's forgetting quality of the same models, to be read beside the distance."""
    return forgetting_quality(subject.signal, oracle.signal, rule=rule)


# Raised when the distance is computed in another way.
VERSION = 1


@dataclass(frozen=True)
class Evaluation:
    """What was found about one sentence.

    Args:
        distance: to the oracles; infinite for a sentence that failed.
        forgetting, losses: the parts that the distance is made of.
        quality: forgetting quality of the same few models, under the experiment's rule.
        cost: forecast, as a share of retraining's examples.
        seconds: of one member, wall clock.
        reason: why the sentence failed; empty when it did not.
    """

    distance: float
    forgetting: float = 0.0
    losses: tuple[tuple[str, float], ...] = ()
    quality: float = 0.0
    cost: float = 0.0
    seconds: float = 0.0
    reason: str = ""

    @property
    def failed(self) -> bool:
        """Whether there is no distance."""
        return bool(self.reason)


def evaluate(
    method: Method, bench: Bench, members: int, draw: int = 0, *, fresh: bool = False
) -> Evaluation:
    """Run a sentence on the tuning split and measure how far from the oracles it comes.

    Args:
        method: what is run; its name and source change nothing.
        bench: split and store.
        members: unlearned models, of the same seeds for every sentence.
        draw: which group of seeds; each is as good as another.
        fresh: against the half of the oracles that no trial is compared with.

    Raises:
        StoreError: the store cannot be read or written.
    """
    job = job_of(method, bench, members, draw, fresh)
    with bench.store.claim(job.key, wait=True):
        while bench.store.has(job):
            try:
                return read(bench.store.about(job))
            except Corrupt:
                continue
        found = _evaluate(method, bench, members, draw, fresh)
        bench.store.write(job, about=_written(found))
        return found


def failure(fault: ExpungeError) -> Evaluation:
    """The evaluation of what cannot be run."""
    return Evaluation(math.inf, reason=str(fault))


def job_of(method: Method, bench: Bench, members: int, draw: int, fresh: bool) -> Job:
    """The product that keeps an evaluation: its key is all that decides it, this version too."""
    seeds, split = bench.split.members(members, draw), bench.split
    half = "second" if fresh else "first"
    halves = f"{members} members against the {half} {len(split.oracles(fresh))} oracles"
    rule = f"{split.plan.experiment.rule}; {split.plan.experiment.protocol}"
    versions = f"{__version__}, answers {ANSWERS_VERSION}, distance {VERSION}"
    spec = f"{in_full(method.steps)}; {halves}; {rule}; {versions}"
    return Job("verdict", spec, seeds[0], (split.plan.root,))


def _evaluate(method: Method, bench: Bench, members: int, draw: int, fresh: bool) -> Evaluation:
    oracle = bench.oracles(fresh)
    try:
        seeds = bench.split.members(members, draw)
        subject, receipt = bench.unlearn(method, seeds)
        return _measured(method, bench, subject, oracle, receipt)
    except StoreError:
        raise
    except ExpungeError as fault:
        return failure(fault)


def _measured(
    method: Method, bench: Bench, subject: HeldOutAnswers, oracle: HeldOutAnswers, receipt: Receipt
) -> Evaluation:
    rule = bench.split.plan.experiment.rule
    return Evaluation(
        distance=distance(subject, oracle),
        forgetting=forgetting(subject, oracle),
        losses=tuple(losses(subject, oracle).items()),
        quality=quality(subject, oracle, rule),
        cost=share_of_retraining(method, bench.split.problem),
        seconds=receipt.seconds,
    )


def _written(verdict: Evaluation) -> dict[str, Any]:
    """As JSON, which knows no infinity: a failed evaluation has no distance."""
    record = asdict(verdict)
    if verdict.failed:
        del record["distance"]
    return record


def read(record: dict[str, Any]) -> Evaluation:
    """An evaluation from what was written about it."""
    pairs = tuple((name, lost) for name, lost in record["losses"])
    return Evaluation(**{"distance": math.inf, **record, "losses": pairs})
