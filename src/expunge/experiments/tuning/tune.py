"""Tuning every method of an experiment with the same budget, on forget examples held out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from expunge.core.method import Method
from expunge.core.store import Store
from expunge.experiments.executors import Executor, completed, executor
from expunge.experiments.experiment import Experiment
from expunge.experiments.graph import Progress
from expunge.experiments.tuning.held_out import held_out
from expunge.experiments.tuning.held_out_answers import Bench, HeldOutAnswers, distance, first
from expunge.experiments.tuning.space import check_held
from expunge.experiments.tuning.trials import AGAIN, Budget, Tune, Tuned, optuna


@dataclass(frozen=True)
class MakeOriginals:
    """Task: train the originals of some members."""

    seeds: tuple[int, ...]

    def __call__(self, bench: Bench) -> None:
        bench.make_originals(self.seeds)


@dataclass(frozen=True)
class MakeOracles:
    """Task: train a group of oracles."""

    seeds: tuple[int, ...]

    def __call__(self, bench: Bench) -> None:
        bench.make_oracles(self.seeds)


@dataclass(frozen=True)
class Tuning:
    """What tuning an experiment gave.

    Args:
        experiment: as it was given.
        said: the held-out forget set, in words.
        overlap: forget examples that the ranking scores too.
        budget: what every method was given.
        retrained, original: the distance of held-out oracles and of the original: the two anchors.
        methods: what was found about each.
    """

    experiment: Experiment
    said: str
    overlap: int
    budget: Budget
    retrained: float
    original: float
    methods: tuple[Tuned, ...]

    @property
    def experiment_tuned(self) -> Experiment:
        """The experiment with the tuned sentences; a method that failed stays as it was."""
        return replace(self.experiment, methods=tuple(map(self._tuned, self.methods)))

    def _tuned(self, found: Tuned) -> Method:
        winner, method = found.winner, found.method
        if winner is None:
            return method
        how = "as given, no trial was nearer" if winner.trial.number == 0 else "numbers tuned"
        note = f"{how}: expunge tune, {self.budget.trials} trials of {self.budget.members} members"
        source = f"{method.source}; {note}" if method.source else note
        return replace(method, steps=winner.trial.method.steps, source=source)


def tune(
    experiment: Experiment, store: Store, budget: Budget, *, jobs: int = 1, forget: str = ""
) -> Iterator[Progress | Tuning]:
    """Tune every method of an experiment; the last thing yielded is what was found.

    Args:
        experiment: its methods are tuned, its forget set and seeds are kept out; see `held_out`.
        store: keeps every trial, so that a run that was stopped goes on.
        budget: the same for every method.
        jobs: processes.
        forget: the forget set to tune on, where the one that is drawn would not do.

    Raises:
        MissingOptuna: Optuna is not installed.
        BadSentence: a name to be held that no method knows, a budget that is too small.
        BadData: no other forget set can be drawn.
    """
    optuna()
    check_held(experiment.methods, budget.hold)
    bench = Bench(held_out(experiment, budget.oracles, forget), store)
    with workers(experiment, budget.oracles, forget, bench, jobs) as crew:
        yield from prepared(crew, bench, budget.members)
        found: dict[int, Tuned] = {}
        tasks = [Tune(method, budget) for method in experiment.methods]
        for number, result in completed(crew, tasks):
            found[number] = result
            yield Progress("tuned", tasks[number].method.name, len(found), len(tasks))
    methods = tuple(found[number] for number in sorted(found))
    yield Tuning(
        experiment,
        bench.split.said,
        bench.split.overlap,
        budget,
        *anchors(bench, budget.members),
        methods,
    )


@contextmanager
def workers(
    experiment: Experiment, oracles: int, forget: str, bench: Bench, jobs: int
) -> Iterator[Executor[Bench]]:
    """What tasks of tuning run on: this process for one job, a pool of processes for more.

    Args:
        experiment, oracles, forget: what `held_out` makes the tuning split from, in each process.
        bench: the same split in this process, with its store.
        jobs: processes.

    Raises:
        StoreError: a process died.
    """
    # One thread a process, so that results do not depend on how many processes there are.
    torch.set_num_threads(1)
    build = partial(_bench, experiment, oracles, forget, bench.store.root)
    with executor(bench, build, jobs) as crew:
        yield crew


def _bench(experiment: Experiment, oracles: int, forget: str, root: Path) -> Bench:
    return Bench(held_out(experiment, oracles, forget), Store(root))


def prepared(crew: Executor[Bench], bench: Bench, members: int) -> Iterator[Progress]:
    """Train originals and oracles of the tuning split, where they are missing."""
    seeds = [seed for draw in range(AGAIN + 1) for seed in bench.split.members(members, draw)]
    for _ in completed(crew, [MakeOriginals(tuple(seeds))]):
        yield Progress("originals", "originals", 1, 1)
    tasks = [MakeOracles(group) for group in bench.oracle_blocks()]
    for done, _ in enumerate(completed(crew, tasks), start=1):
        yield Progress("oracles", "oracles", done, len(tasks))


def anchors(bench: Bench, members: int) -> tuple[float, float]:
    """The distance of held-out retrained models, and of the original: what numbers lie between."""
    oracles = bench.oracles()
    held: HeldOutAnswers = first(bench.oracles(fresh=True), members)
    return distance(held, oracles), distance(bench.untouched(bench.split.members(members)), oracles)
