"""The tuning split, held out from the ranking: other forget examples, other members.

The protocol. The ranking scores a forget set R with models of the seeds of the experiment. Tuning
never sees either. It takes, by the same chooser, another forget set T from the examples that are
not in R, so that no example on which a distance is measured is one that the ranking scores:

- `RandomShare`: a random draw, as large as R, from the examples outside R. Where R is more than
  half of them, a draw with another seed, and the overlap is reported.
- `WholeClass(k)`: class k + 1, or the first class after the last.
- `Given`: a random draw of as many rows, of the same classes where there are enough, outside R.
- `CoherentGroup`: the group around another example, drawn and gathered outside R.
- `Mislabelled`: the same two classes, other examples swapped, and R rightly labelled.

The original and the oracles of the split are trained with seeds of their own, without the
test set being there at all; utility is measured on `val`. R's examples are
training data of the split, as is everything outside T. Trials are compared with half of the
oracles; finalists, made again with fresh unlearning seeds, with the other half.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from expunge.core.batch import Data, Subset, all_targets
from expunge.core.problem import Problem
from expunge.core.seeds import stream
from expunge.errors import BadData
from expunge.experiments.classification import CLASSIFICATION
from expunge.experiments.experiment import BY_SHADOWS, Experiment, forget_chooser
from expunge.experiments.plan import Plan, problem_spec
from expunge.experiments.planning import architecture, load_pool
from expunge.problems.forget_sets import (
    CoherentGroup,
    ForgetSet,
    Given,
    Mislabelled,
    RandomShare,
    WholeClass,
)
from expunge.problems.images.canaries import planted

# Experiments differ by their seed; that of tuning lies this far off.
APART = 1_000_000_000


FRESH = 10_000


MEASURED = ("forget", "retain", "val")


# Enough to know an accuracy to a point, and no more to wait for.
MOST_MEASURED = 2_000


@dataclass(frozen=True, eq=False)
class TuningSplit:
    """A problem to tune on, with what must be said about it.

    Args:
        plan: the held-out problem; its members are the oracles.
        measured: the sets that models are measured on, a part of those that are large.
        said: how the forget set of the split differs from that of the ranking.
        overlap: forget examples of the split that the ranking scores too; 0 where possible.
    """

    plan: Plan
    measured: Problem
    said: str
    overlap: int

    @property
    def problem(self) -> Problem:
        """The sets, the architecture and the recipe."""
        return self.plan.problem

    def members(self, count: int, draw: int = 0) -> tuple[int, ...]:
        """The seeds of so many unlearned models: draw 0 to tune on, further ones for finalists."""
        first = self.plan.experiment.seeds[0] + FRESH * draw
        return tuple(range(first, first + count))

    def oracles(self, fresh: bool = False) -> tuple[int, ...]:
        """The seeds of the oracles: one half to tune on, the other to evaluate again."""
        seeds = self.plan.experiment.seeds
        half = len(seeds) // 2
        return seeds[half:] if fresh else seeds[:half]


def held_out(experiment: Experiment, oracles: int, forget: str = "") -> TuningSplit:
    """The tuning split of an experiment.

    Args:
        experiment: whose forget set and seeds are kept out.
        oracles: retrained models, in each of the two halves.
        forget: the split's own forget set, where the one that is drawn would not do.

    Raises:
        BadData: no other forget set can be drawn; give one.
    """
    pool = load_pool(experiment)
    targets = all_targets(pool.train)
    ranking = drawable(experiment.forget)
    scored = ranking(pool.train, targets, seed=experiment.forget_seed)
    chosen, said = _drawn(ranking, experiment, pool.train, targets, scored, forget)
    problem = Problem.split(
        planted(pool.train, chosen),
        chosen.indices,
        name=experiment.problem,
        val=pool.val if len(pool.val) else None,
        architecture=architecture(experiment.architecture, pool),
        recipe=experiment.recipe,
        classes=pool.classes,
    )
    own = replace(
        experiment,
        seed=other_seed(experiment.seed),
        members=2 * oracles,
        shadows=0,
        methods=(),
        forget=said,
    )
    overlap = int(torch.isin(chosen.indices, scored.indices).sum())
    return TuningSplit(
        Plan(own, problem, problem_spec(problem), CLASSIFICATION), _measured(problem), said, overlap
    )


def drawable(sentence: str) -> Any:
    """The chooser of a forget set that can be drawn before any model is trained.

    Raises:
        BadData: shadow models choose it; those of the split would be of other examples.
    """
    chooser = forget_chooser(sentence)
    if isinstance(chooser, BY_SHADOWS):
        raise BadData(
            f"{sentence} is chosen by shadow models, and tuning has none. Tune on a forget set "
            "that is drawn, such as --forget 'RandomShare(0.1)', and rank the tuned experiment "
            "on this one."
        )
    return chooser


def other_seed(seed: int) -> int:
    """The seed of the split: never that of an experiment that one would rank with."""
    return seed - APART if seed > 0 else seed + APART


def _drawn(
    ranking: Any,
    experiment: Experiment,
    train: Data,
    targets: Tensor,
    scored: ForgetSet,
    forget: str,
) -> tuple[ForgetSet, str]:
    """The forget set of the split and its sentence."""
    seed = experiment.forget_seed + 1
    if forget:
        own = drawable(forget)
        return own(train, targets, seed=seed), f"{own!r}, as given"
    if isinstance(ranking, WholeClass):
        return _other_class(ranking, train, targets)
    outside = torch.ones(len(train), dtype=torch.bool)
    outside[scored.indices] = False
    rows = outside.nonzero().flatten()
    if len(rows) <= len(scored.indices):
        return _again(ranking, train, targets, scored, seed)
    found = _elsewhere(ranking, train, targets, scored, rows, seed)
    return found, f"{ranking!r} drawn again (seed {seed}) outside the ranking's forget set"


def _other_class(ranking: WholeClass, train: Data, targets: Tensor) -> tuple[ForgetSet, str]:
    present = sorted(set(targets.tolist()))
    after = [label for label in present if label > ranking.label]
    other = WholeClass((after or present)[0])
    return other(train, targets, seed=0), f"{other!r} in the place of {ranking!r}"


def _again(
    ranking: Any, train: Data, targets: Tensor, scored: ForgetSet, seed: int
) -> tuple[ForgetSet, str]:
    """The same chooser with another seed, where what is left outside would not be enough."""
    found = ranking(train, targets, seed=seed)
    if torch.equal(found.indices, scored.indices):
        raise BadData(
            f"{ranking!r} holds too much for another forget set to be drawn beside it; name the "
            "one to tune on with --held-out, as in --held-out 'RandomShare(0.1)'."
        )
    return found, f"{ranking!r} drawn again (seed {seed}); it overlaps the ranking's forget set"


def _elsewhere(
    ranking: Any, train: Data, targets: Tensor, scored: ForgetSet, rows: Tensor, seed: int
) -> ForgetSet:
    """The same kind of choice among the rows outside the ranking's forget set."""
    size = len(scored.indices)
    left = targets[rows]
    if isinstance(ranking, RandomShare):
        inside = torch.randperm(len(rows), generator=stream("held-out", seed))[:size]
        return ForgetSet(rows[inside].sort()[0], targets)
    if isinstance(ranking, Given):
        inside = _alike(left, targets[scored.indices], seed)
        return ForgetSet(rows[inside].sort()[0], targets)
    changed = _moved(ranking, len(rows), targets, left, seed)
    found = changed(Subset(train, rows), left, seed=seed)
    patched = targets.clone()
    patched[rows] = found.targets
    # Both are sorted, so what belongs to an example stays beside it.
    return replace(found, indices=rows[found.indices], targets=patched)


def _moved(ranking: Any, count: int, targets: Tensor, left: Tensor, seed: int) -> Any:
    """The chooser as it must be said among fewer examples to choose as many as before."""
    if isinstance(ranking, CoherentGroup):
        drawn = int(torch.randint(count, (), generator=stream("held-out", seed)))
        return replace(ranking, example=drawn)
    if isinstance(ranking, Mislabelled):
        both = torch.tensor([ranking.a, ranking.b])
        before, now = (int(torch.isin(each, both).sum()) for each in (targets, left))
        return replace(ranking, share=min(1.0, ranking.share * before / now))
    return ranking


def _alike(left: Tensor, wanted: Tensor, seed: int) -> Tensor:
    """Positions of as many examples, of the same classes where there are enough."""
    order = torch.randperm(len(left), generator=stream("held-out", seed))
    taken = torch.zeros(len(left), dtype=torch.bool)
    for label in wanted.unique():
        of_class = order[left[order] == label]
        taken[of_class[: int((wanted == label).sum())]] = True
    missing = len(wanted) - int(taken.sum())
    taken[order[~taken[order]][:missing]] = True
    return taken.nonzero().flatten()


def _measured(problem: Problem) -> Problem:
    names = [name for name in MEASURED if name in problem.sets]
    return Problem(problem.name, {name: _few(problem.sets[name], name) for name in names})


def _few(data: Data, name: str) -> Data:
    """A fixed part of a set that is larger than one needs."""
    if len(data) <= MOST_MEASURED:
        return data
    rows = torch.randperm(len(data), generator=stream("measured", name))[:MOST_MEASURED]
    return Subset(data, rows.sort()[0])
