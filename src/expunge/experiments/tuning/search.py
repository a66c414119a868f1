"""The article's item 9 taken literally: which combination of steps comes nearest to retraining?

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

from expunge.core.method import Method
from expunge.core.problem import Problem
from expunge.core.store import Store
from expunge.errors import BadSentence
from expunge.experiments.executors import Executor
from expunge.experiments.experiment import Experiment
from expunge.experiments.graph import Progress, make
from expunge.experiments.planning import plan_for
from expunge.experiments.summary import keep
from expunge.experiments.tuning.evolve import (
    CHILDREN,
    Candidate,
    evaluated,
    first_population,
    generations,
    nearness,
)
from expunge.experiments.tuning.held_out import held_out
from expunge.experiments.tuning.held_out_answers import Bench
from expunge.experiments.tuning.limits import TooDear, within
from expunge.experiments.tuning.search_vocabulary import SearchVocabulary
from expunge.experiments.tuning.tune import anchors, prepared, workers

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
