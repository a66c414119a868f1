"""Search for the combination of steps that comes nearest to retraining, by evolution.

The protocol. Sentences are searched on the tuning split of `held_out`: neither the forget set nor
the seeds of the ranking are there. The nearest, and the nearest published entries, are evaluated
again there with fresh seeds against fresh oracles. What is left, three at the most, is then scored
as `expunge run` scores, with the experiment's own forget set and members, which the search never
saw, and on further experiments (another data set) if some are given.

The control `sham` is no entry: a distance by answers alone would be won by hiding well, and what it
finds may do so too; look beneath the answers before believing it.

The published entries take part with the numbers that they come with, so tune them first: a search
that may set numbers beats sentences that nobody tuned, and that says nothing about combinations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from expunge.core.method import Method
from expunge.core.problem import Problem
from expunge.core.seeds import derived
from expunge.core.store import Store
from expunge.engine.check import check_fit
from expunge.errors import BadSentence, ExpungeError
from expunge.experiments.executors import Executor, completed
from expunge.experiments.experiment import Experiment
from expunge.experiments.graph import Progress, make
from expunge.experiments.planning import plan_for
from expunge.experiments.summary import keep
from expunge.experiments.tuning.evaluate import Bench, Evaluation, evaluate
from expunge.experiments.tuning.held_out import held_out
from expunge.experiments.tuning.mutations import Generator, SearchVocabulary, crossed, mutated
from expunge.experiments.tuning.ranges import TooDear, within
from expunge.experiments.tuning.tune import anchors, prepared, workers

# Groups of members that a rung's candidates have been evaluated by, in all.
RUNGS = (1, 2, 4)


CHILDREN = 16


POPULATION = 16


CROSSED = 0.3


ATTEMPTS = 200


# Seeds of the search lie apart from those of tuning, so that neither is tuned on the other's.
FIRST_DRAW = 10


@dataclass(frozen=True)
class Evaluate:
    """Task: evaluate one sentence by one group of members."""

    method: Method
    members: int
    draw: int
    fresh: bool = False

    def __call__(self, bench: Bench) -> Evaluation:
        return evaluate(self.method, bench, self.members, self.draw, fresh=self.fresh)


@dataclass(frozen=True)
class Candidate:
    """A sentence with what its groups of members gave.

    Args:
        method: its name is that of the published entry, or of the generation it was born in.
        verdicts: one for each group.
    """

    method: Method
    verdicts: tuple[Evaluation, ...] = ()

    @property
    def distance(self) -> float:
        """The mean over the groups; infinite where one failed, or before any was made."""
        if not self.verdicts:
            return math.inf
        return sum(verdict.distance for verdict in self.verdicts) / len(self.verdicts)

    @property
    def quality(self) -> float:
        """Forgetting quality, the mean over the groups."""
        return sum(verdict.quality for verdict in self.verdicts) / len(self.verdicts)


def evaluated(
    crew: Executor[Bench],
    candidates: Sequence[Candidate],
    members: int,
    draws: Sequence[int],
    fresh: bool,
) -> list[Candidate]:
    """The candidates evaluated by further groups of members."""
    tasks = [Evaluate(c.method, members, draw, fresh) for c in candidates for draw in draws]
    found = dict(completed(crew, tasks))
    wide = len(draws)
    return [
        replace(one, verdicts=one.verdicts + tuple(found[i * wide + j] for j in range(wide)))
        for i, one in enumerate(candidates)
    ]


def successive_halving(
    crew: Executor[Bench], candidates: Sequence[Candidate], members: int
) -> list[Candidate]:
    """Successive halving: those that come through all rungs, the nearest first."""
    alive, before = list(candidates), 0
    for groups in RUNGS:
        draws = range(FIRST_DRAW + before, FIRST_DRAW + groups)
        alive = sorted(evaluated(crew, alive, members, draws, fresh=False), key=nearness)
        alive = [one for one in alive if math.isfinite(one.distance)]
        if groups != RUNGS[-1]:
            alive = alive[: max(1, len(alive) // 2)]
        before = groups
    return alive


def nearness(candidate: Candidate) -> float:
    """What candidates are sorted by."""
    return candidate.distance


def first_population(
    crew: Executor[Bench], methods: Sequence[Method], problem: Problem, members: int, cost: float
) -> tuple[list[Candidate], list[tuple[str, str]]]:
    """The published sentences, evaluated by all groups; those that cannot take part, with why."""
    fit: list[Candidate] = []
    unfit: list[tuple[str, str]] = []
    for method in methods:
        try:
            check_fit(method, problem)
            fit.append(Candidate(within(method, problem, cost)))
        except ExpungeError as fault:
            unfit.append((method.name, str(fault)))
    draws = range(FIRST_DRAW, FIRST_DRAW + RUNGS[-1])
    found = evaluated(crew, fit, members, draws, fresh=False)
    failed = [(c.method.name, c.verdicts[0].reason) for c in found if math.isinf(c.distance)]
    sound = [candidate for candidate in found if math.isfinite(candidate.distance)]
    return sorted(sound, key=nearness), unfit + failed


def children_of(
    parents: Sequence[Candidate],
    vocabulary: SearchVocabulary,
    problem: Problem,
    cost: float,
    seen: set[str],
    rng: Generator,
    count: int,
    title: str,
) -> list[Candidate]:
    """New sentences from those that are near, none of them seen before, all within the cost."""
    children: list[Candidate] = []
    for _ in range(ATTEMPTS * count):
        if len(children) == count:
            break
        try:
            child = within(_child(parents, vocabulary, rng), problem, cost)
            check_fit(child, problem)
        except ExpungeError:
            continue  # too dear, or not for this problem
        if child.sentence not in seen:
            seen.add(child.sentence)
            named = Method(f"{title}_{len(children) + 1}", child.steps, "found by expunge search")
            children.append(Candidate(named))
    return children


def generations(
    crew: Executor[Bench],
    population: list[Candidate],
    vocabulary: SearchVocabulary,
    problem: Problem,
    *,
    budget: int,
    members: int,
    cost: float,
    seed: int,
) -> Iterator[list[Candidate]]:
    """The population after each generation, until so many sentences have been tried.

    Raises:
        BadSentence: no published sentence can take part, or none leads anywhere.
    """
    if not population:
        raise BadSentence("No sentence of the experiment can be run, so none to start at.")
    seen = {candidate.method.sentence for candidate in population}
    tried, number = len(population), 0
    while tried < budget:
        number += 1
        rng = np.random.default_rng(derived("search", seed, number))
        count = min(CHILDREN, budget - tried)
        children = children_of(
            population, vocabulary, problem, cost, seen, rng, count, f"generation_{number}"
        )
        if not children:
            raise BadSentence("No mutation leads to a sentence within the cost; give more words.")
        tried += len(children)
        through = successive_halving(crew, children, members)
        population = sorted([*population, *through], key=nearness)[:POPULATION]
        yield population


def _child(parents: Sequence[Candidate], vocabulary: SearchVocabulary, rng: Generator) -> Method:
    one, other = _parent(parents, rng), _parent(parents, rng)
    child = crossed(one, other, rng) if rng.random() < CROSSED else one
    return mutated(child, vocabulary, rng)


def _parent(parents: Sequence[Candidate], rng: Generator) -> Method:
    """The nearer of two drawn at random; the population is sorted."""
    first, second = rng.integers(0, len(parents), size=2)
    return parents[int(min(first, second))].method


FINALISTS = 8


RIVALS = 3


FOUND = 3


# Groups of members that evaluate the finalists again, with seeds that no candidate has met.
FRESH_DRAWS = range(20, 28)


@dataclass(frozen=True)
class SearchBudget:
    """What a search is given.

    Args:
        budget: sentences that are tried, the published ones among them.
        members: unlearned models in a group; one group for a first look, four for the survivors.
        oracles: retrained models to compare with, and as many again for the finalists.
        cost: the most that a sentence may read, as a share of retraining.
        seed: draws the mutations.
    """

    budget: int = 200
    members: int = 8
    oracles: int = 64
    cost: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.budget < 2 or self.members < 2 or self.oracles < 2:
            raise BadSentence("--budget, --members and --oracles must be 2 or more.")
        if not 0 < self.cost <= 1:
            raise BadSentence(f"--cost {self.cost}: expected a share of retraining, 0 to 1.")


@dataclass(frozen=True)
class SearchResult:
    """What a search gave, on the tuning split.

    Args:
        experiment: as it was given.
        terms: what the search was given.
        said: the held-out forget set, in words.
        best_so_far: the least distance of the population after each generation; optimistic.
        unfit: published entries that could not take part, with the reason.
        retrained, original: the distance of held-out oracles and of the original.
        found, published: finalists with fresh distances, the nearest first.
    """

    experiment: Experiment
    terms: SearchBudget
    said: str
    best_so_far: tuple[float, ...]
    unfit: tuple[tuple[str, str], ...]
    retrained: float
    original: float
    found: tuple[Candidate, ...]
    published: tuple[Candidate, ...]

    @property
    def to_score(self) -> tuple[Method, ...]:
        """What is scored on sets that the search never saw: the nearest of both kinds."""
        best = [
            Method(f"found_{number}", candidate.method.steps, candidate.method.source)
            for number, candidate in enumerate(self.found[:FOUND], start=1)
        ]
        return (*(candidate.method for candidate in self.published[:RIVALS]), *best)

    @property
    def experiment_with_found(self) -> Experiment:
        """The experiment with the sentences that were found beside its own."""
        own = {method.name for method in self.experiment.methods}
        new = tuple(method for method in self.to_score if method.name not in own)
        return replace(self.experiment, methods=(*self.experiment.methods, *new))


def search(
    experiment: Experiment,
    store: Store,
    terms: SearchBudget,
    vocabulary: SearchVocabulary,
    *,
    jobs: int = 1,
    forget: str = "",
) -> Iterator[Progress | SearchResult]:
    """Search over sentences; the last thing yielded is what was found.

    A run that was stopped is resumed by the same call: the mutations follow from the seed, and what
    has been evaluated is in the store.

    Args:
        experiment: its published sentences are the first population.
        store: keeps every verdict.
        terms: budget, members, oracles, cost and seed.
        vocabulary: the words that may be put into a sentence.
        jobs: processes; the outcome does not depend on them.
        forget: the forget set to search on, where the one that is drawn would not do.

    Raises:
        BadSentence: no published sentence can be run.
        BadData: no other forget set can be drawn.
    """
    bench = Bench(held_out(experiment, terms.oracles, forget), store)
    problem = bench.split.problem
    with workers(experiment, terms.oracles, forget, bench, jobs) as crew:
        yield from prepared(crew, bench, terms.members)
        cost = terms.cost
        methods = [method for method in experiment.methods if method.name != "sham"]
        population, unfit = first_population(crew, methods, problem, terms.members, cost)
        entries, course = population, []
        yield Progress("tried", "published", len(entries), terms.budget)
        evolving = generations(
            crew, population, vocabulary, problem,
            budget=terms.budget, members=terms.members, cost=cost, seed=terms.seed,
        )  # fmt: skip
        for number, population in enumerate(evolving, start=1):
            course.append(population[0].distance)
            tried = min(terms.budget, len(entries) + number * CHILDREN)
            yield Progress("tried", population[0].method.name, tried, terms.budget)
        found, published = finals(crew, population, entries, terms)
    ends = anchors(bench, terms.members)
    said, why = bench.split.said, tuple(unfit)
    yield SearchResult(experiment, terms, said, tuple(course), why, *ends, found, published)


def finals(
    crew: Executor[Bench],
    population: Sequence[Candidate],
    entries: Sequence[Candidate],
    terms: SearchBudget,
) -> tuple[tuple[Candidate, ...], tuple[Candidate, ...]]:
    """The nearest that were found and the nearest published, evaluated again with fresh seeds."""
    names = {candidate.method.name for candidate in entries}
    new = [one for one in population if one.method.name not in names][:FINALISTS]
    bare = [Candidate(one.method) for one in (*new, *entries[:RIVALS])]
    fresh = evaluated(crew, bare, terms.members, FRESH_DRAWS, fresh=True)
    sound = sorted((one for one in fresh if math.isfinite(one.distance)), key=nearness)
    found = tuple(one for one in sound if one.method.name not in names)
    return found, tuple(one for one in sound if one.method.name in names)


def scored(
    found: SearchResult, experiment: Experiment, store: Store, jobs: int
) -> Iterator[Progress | dict[str, Any]]:
    """Score what was found as `expunge run` does; the last thing yielded is the summary.

    Args:
        found: its `to_score` are compared.
        experiment: sets and members; another data set brings its own entries of the same names.
        store: keeps models and scores.
        jobs: processes.
    """
    own = {method.name: method for method in experiment.methods}
    methods = [own.get(method.name, method) for method in found.to_score]
    plan = plan_for(experiment)
    allowed = tuple(_allowed(method, plan.problem, found.terms.cost) for method in methods)
    title = f"{experiment.name}, searched"
    plan = replace(plan, experiment=replace(experiment, name=title, methods=allowed))
    yield from make(plan, store, jobs)
    yield keep(plan, store)


def _allowed(method: Method, problem: Problem, cost: float) -> Method:
    """Shortened to the cost; where even that is too dear here, as it is, and its row says so."""
    try:
        return within(method, problem, cost)
    except TooDear:
        return method
