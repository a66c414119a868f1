"""Tune every method of an experiment with the same number of trials on the tuning split."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from expunge.core.method import Method
from expunge.core.problem import Problem
from expunge.core.seeds import derived
from expunge.core.store import Store
from expunge.errors import BadSentence, ExpungeError, Unsupported
from expunge.experiments.executors import Executor, completed, executor
from expunge.experiments.experiment import Experiment
from expunge.experiments.graph import Progress
from expunge.experiments.tuning.evaluate import (
    Bench,
    Evaluation,
    HeldOutAnswers,
    distance,
    evaluate,
    failure,
    first,
)
from expunge.experiments.tuning.held_out import held_out
from expunge.experiments.tuning.ranges import TENFOLD, Log, Number, OneOf, within
from expunge.experiments.tuning.space import Hyperparameter, check_held, configured, search_space
from expunge.methods.cost import share_of_retraining

# Trials before the estimator takes over; the given sentence and its scalings are among them.
STARTUP = 10


# A third and three times, on ranges that go from a tenth to ten times.
THREEFOLD = math.log(3) / math.log(TENFOLD**2)


TREES = 32


class MissingOptuna(Unsupported):
    """Tuning was asked for and Optuna is not installed."""


def optuna() -> Any:
    """The module, asked for only where it is used.

    Raises:
        MissingOptuna: how to get it.
    """
    try:
        import optuna
    except ImportError:
        raise MissingOptuna(
            "Tuning needs Optuna, which is not installed. Get it with: pip install 'expunge[tune]'."
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


class Sampler:
    """Asks for places between 0 and 1, one for each number of a sentence.

    The study lives in memory: asked in the same order with the same answers it gives the same
    places, so a run that is resumed goes through the trials that are in the store.

    Args:
        space: the numbers that vary.
        seed: draws what is not fixed.
    """

    def __init__(self, space: Sequence[Hyperparameter], seed: int) -> None:
        self.space, self.optuna = tuple(space), optuna()
        sampler = self.optuna.samplers.TPESampler(seed=seed % 2**32, n_startup_trials=STARTUP)
        self.study = self.optuna.create_study(sampler=sampler)
        self.fixed = fixed(self.space)
        for units in self.fixed:
            self.study.enqueue_trial({k.name: u for k, u in zip(self.space, units, strict=True)})

    def ask(self) -> tuple[Any, tuple[float, ...]]:
        """A handle for `tell`, and the places."""
        trial = self.study.ask()
        return trial, tuple(trial.suggest_float(one.name, 0.0, 1.0) for one in self.space)

    def tell(self, trial: Any, distance: float) -> None:
        """The distance of a trial; an infinite one is a failure, and its neighbours are avoided."""
        if math.isfinite(distance):
            self.study.tell(trial, distance)
        else:
            # Pruned and not failed: the estimator learns from the one and forgets the other.
            self.study.tell(trial, state=self.optuna.trial.TrialState.PRUNED)

    def importances(self) -> dict[str, float]:
        """The share of each number in the variance of the distance; empty where that says nothing.

        Source: Hutter et al. (2014), functional analysis of variance; as in Optuna.
        """
        ended = [t.value for t in self.study.trials if t.value is not None]
        if len(ended) < STARTUP or len(set(ended)) < 3 or len(self.space) < 2:
            return {}
        evaluator = self.optuna.importance.FanovaImportanceEvaluator(n_trees=TREES, seed=0)
        found = self.optuna.importance.get_param_importances(self.study, evaluator=evaluator)
        return {name: float(share) for name, share in found.items()}


def fixed(space: Sequence[Hyperparameter]) -> list[tuple[float, ...]]:
    """The places of the first trials: as given, then learning rates and the rest a third and three.

    The rest is what is neither a learning rate nor epochs nor taken from a list.
    """
    given = tuple(one.place for one in space)
    rates = [one.path[-1] == "lr" for one in space]
    rest = [
        one.path[-1] not in ("lr", "epochs") and not isinstance(one.range, OneOf) for one in space
    ]
    found = [given]
    for chosen in (rates, rest):
        for shift in (-THREEFOLD, THREEFOLD):
            moved = [
                min(max(unit + shift, 0.0), 1.0) if picked else unit
                for unit, picked in zip(given, chosen, strict=True)
            ]
            found.append(tuple(moved))
    return list(dict.fromkeys(found))


FINALISTS = 3


# Evaluated again with so many times the members of a trial, in groups of as many.
AGAIN = 2


FEWEST_TRIALS = 2


@dataclass(frozen=True)
class Budget:
    """What every method is given, the same to each.

    Args:
        trials: configurations of one method.
        members: unlearned models of each, of the same seeds for all.
        oracles: retrained models to compare with, and as many again for the finalists.
        cost: the most that a configuration may read, as a share of retraining.
        hold: names of numbers that stay as they are.
    """

    trials: int = 30
    members: int = 16
    oracles: int = 64
    cost: float = 0.2
    hold: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.trials < FEWEST_TRIALS:
            raise BadSentence(
                f"--trials {self.trials}: too small to try each method twice; expected "
                f"{FEWEST_TRIALS} or more."
            )
        if self.members < 2 or self.oracles < 2:
            raise BadSentence("--members and --oracles must be 2 or more: a spread needs two.")
        if not 0 < self.cost <= 1:
            raise BadSentence(f"--cost {self.cost}: expected a share of retraining, 0 to 1.")


@dataclass(frozen=True)
class Trial:
    """One configuration of a method and what came of it.

    Args:
        number: from 0 on; 0 is the sentence as given.
        method: the configuration, shortened to the cost that is allowed.
        numbers: name -> value, as asked for.
        verdict: the distance, or why there is none.
        shortened: whether its epochs were scaled down to the cost that is allowed.
    """

    number: int
    method: Method
    numbers: tuple[tuple[str, Number], ...]
    verdict: Evaluation
    shortened: bool = False


@dataclass(frozen=True)
class Finalist:
    """A configuration that was evaluated again: its distance when tuned, and with fresh seeds."""

    trial: Trial
    fresh: tuple[Evaluation, ...]

    @property
    def distance(self) -> float:
        """The mean of the fresh groups."""
        return sum(verdict.distance for verdict in self.fresh) / len(self.fresh)

    @property
    def quality(self) -> float:
        """Forgetting quality, the mean of the fresh groups."""
        return sum(verdict.quality for verdict in self.fresh) / len(self.fresh)

    @property
    def optimism(self) -> float:
        """Distance when tuned less the fresh one: below 0 where it looked better than it is."""
        return self.trial.verdict.distance - self.distance


@dataclass(frozen=True)
class Tuned:
    """All that was found about one method.

    Args:
        method: as given.
        trials: every one, in order.
        finalists: the given sentence and the best, evaluated again; empty where all trials failed.
        importances: name of a number -> its share in the variance of the distance.
    """

    method: Method
    trials: tuple[Trial, ...]
    finalists: tuple[Finalist, ...]
    importances: tuple[tuple[str, float], ...]

    @property
    def winner(self) -> Finalist | None:
        """The finalist that is nearest with fresh seeds; the given sentence among equals."""
        sound = [each for each in self.finalists if math.isfinite(each.distance)]
        return min(sound, key=lambda each: each.distance, default=None)

    @property
    def given(self) -> Finalist | None:
        """The given sentence, evaluated again."""
        return next((each for each in self.finalists if each.trial.number == 0), None)


@dataclass(frozen=True)
class Tune:
    """Task: tune one method."""

    method: Method
    budget: Budget

    def __call__(self, bench: Bench) -> Tuned:
        return tuned(self.method, bench, self.budget)


def tuned(method: Method, bench: Bench, budget: Budget) -> Tuned:
    """Tune one method on the tuning split.

    A run that was cut short is resumed by asking the same questions: what is in the store is
    read, and the first trial that is not there is the next to be made.
    """
    problem = bench.split.problem
    try:
        space = limited(search_space(method, budget.hold), method, problem, budget.cost)
    except ExpungeError as fault:  # a set that is not there: no number can mend that
        return Tuned(method, (Trial(0, method, (), failure(fault)),), (), ())
    sampler = Sampler(space, derived("tune", method.sentence))
    trials = []
    for number in range(budget.trials):
        handle, units = sampler.ask()
        trials.append(_tried(number, method, space, units, bench, budget))
        sampler.tell(handle, trials[-1].verdict.distance)
    finalists = tuple(_again(trial, bench, budget) for trial in best(trials))
    return Tuned(method, tuple(trials), finalists, tuple(sampler.importances().items()))


def limited(
    space: Sequence[Hyperparameter], method: Method, problem: Problem, cap: float
) -> tuple[Hyperparameter, ...]:
    """The space with epochs that end where they alone would use up the cost that is allowed."""
    found = []
    for one in space:
        if one.path[-1] == "epochs":
            given, most = one.value, one.value * 10
            # Between these two, since fewer epochs may round to no minibatch less.
            low, high = (
                share_of_retraining(configured(method, [(one, e)]), problem) for e in (given, most)
            )
            rate = (high - low) / (given * 9)
            end = min(cap / rate, most) if rate > 0 else most
            one = replace(one, range=Log(given / 10, max(end, given / 5)))
        found.append(one)
    return tuple(found)


def best(trials: Sequence[Trial]) -> list[Trial]:
    """The given sentence and the best three others, no two of them alike."""
    found = {trials[0].method.sentence: trials[0]} if not trials[0].verdict.failed else {}
    for trial in sorted(trials, key=lambda each: each.verdict.distance):
        full = len([each for each in found.values() if each.number]) == FINALISTS
        if not trial.verdict.failed and not full:
            found.setdefault(trial.method.sentence, trial)
    return list(found.values())


def _tried(
    number: int,
    method: Method,
    space: Sequence[Hyperparameter],
    units: Sequence[float],
    bench: Bench,
    budget: Budget,
) -> Trial:
    """One trial: put the numbers in, shorten it if need be, evaluate it."""
    chosen = [(one, one.at(unit)) for one, unit in zip(space, units, strict=True)]
    numbers = tuple((one.name, value) for one, value in chosen)
    wanted = method
    try:
        wanted = configured(method, chosen)
        allowed = within(wanted, bench.split.problem, budget.cost)
    except ExpungeError as fault:
        return Trial(number, wanted, numbers, failure(fault))
    verdict = evaluate(allowed, bench, budget.members)
    return Trial(number, allowed, numbers, verdict, allowed != wanted)


def _again(trial: Trial, bench: Bench, budget: Budget) -> Finalist:
    draws = range(1, AGAIN + 1)
    return Finalist(
        trial,
        tuple(evaluate(trial.method, bench, budget.members, draw, fresh=True) for draw in draws),
    )


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
