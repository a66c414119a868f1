"""Evolution over sentences on the tuning split, with successive halving of each generation.

A generation's children are evaluated by one group of members; the better half by a second group;
the better quarter by two more. Groups are of one size, so their mean distances compare. What
comes through joins the population, of which the nearest are kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from expunge.core.method import Method
from expunge.core.problem import Problem
from expunge.core.seeds import derived
from expunge.engine.check import check_fit
from expunge.errors import BadSentence, ExpungeError
from expunge.experiments.executors import Executor, completed
from expunge.experiments.tuning.evaluate import Evaluation, evaluate
from expunge.experiments.tuning.held_out_answers import Bench
from expunge.experiments.tuning.limits import within
from expunge.experiments.tuning.mutations import Generator, crossed, mutated
from expunge.experiments.tuning.search_vocabulary import SearchVocabulary

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
