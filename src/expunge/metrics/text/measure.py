"""From one number an example to a score with its interval, between the two anchors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from expunge.core.evidence import Answers, Floats, aligned
from expunge.errors import BadEvidence
from expunge.metrics.agreement import Aim, Score
from expunge.statistics.resample import mean_over_both, over_models

Bounds = tuple[float, float]

Statistic = Callable[..., float]

RESAMPLES = 1000

# Below this gap between original and oracle there is nothing to recover, only rounding.
NO_GAP = 1e-12


@dataclass(frozen=True)
class ExampleMetric:
    """A metric that is a mean over examples: one function from answers to a number an example.

    Args:
        name: as printed.
        unit: what the number counts.
        aim: near the oracle's own value, high, or low.
        bounds: the least and the largest value.
        needs: the fields of `Answers` that it reads.
        values: takes answers, returns float64 [example].
    """

    name: str
    unit: str
    aim: Aim
    bounds: Bounds
    needs: tuple[str, ...]
    values: Callable[[Answers], Floats]

    def __call__(self, answers: Answers) -> Floats:
        """Return the metric of each example, float64 [example].

        Raises:
            BadEvidence: what it reads was not recorded, or there are no examples.
        """
        answers.need(*self.needs)
        return self.values(answers)

    def score(
        self, subject: Answers | Sequence[Answers], rng: np.random.Generator, *,
        groups: ArrayLike | None = None,
    ) -> Score:  # fmt: skip
        """Return the mean with its 95 % interval: over examples, and over models if there are 3.

        Args:
            subject: one model's answers, or those of several on the same examples.
            rng: draws for the interval.
            groups: [example], such as each question's author; examples of one group are drawn
                together, since questions on one person are hard or easy together.

        Raises:
            BadEvidence: too few examples or groups, groups of unequal size, or as `__call__`.
        """
        models = [subject] if isinstance(subject, Answers) else list(subject)
        table = np.stack([self(one) for one in _on_the_same(models)])
        return mean_score(table, rng, unit=self.unit, bounds=self.bounds, groups=groups)


def per_example(
    *, unit: str, aim: Aim, needs: tuple[str, ...], bounds: Bounds = (-math.inf, math.inf)
) -> Callable[[Callable[[Answers], Floats]], ExampleMetric]:
    """Make a metric of a function from answers to one number an example; as a decorator."""

    def made(function: Callable[[Answers], Floats]) -> ExampleMetric:
        name = function.__name__.replace("_", " ")
        metric = ExampleMetric(name, unit, aim, bounds, needs, function)
        # Frozen fields carry no docstring, and help() on a metric should say what it measures.
        object.__setattr__(metric, "__doc__", function.__doc__)
        return metric

    return made


def mean_score(
    table: Floats, rng: np.random.Generator, *, unit: str, bounds: Bounds,
    groups: ArrayLike | None = None,
) -> Score:  # fmt: skip
    """Return the mean of a table with its 95 % interval, over both axes from 3 models on.

    With one or two models the interval is over examples alone, and says nothing of other trainings.

    Args:
        table: float64 [model, example].
        rng, unit, bounds: as for `Score` and the statistics.
        groups: [example], drawn together; or None.

    Raises:
        BadEvidence: fewer than 3 examples or groups, values not finite, groups of unequal size.
    """
    grouped = table if groups is None else _group_means(table, groups)
    if len(grouped) >= 3:
        found = mean_over_both(grouped, rng)
    else:
        found = over_models(lambda one: float(one.mean()), [grouped.T], rng, resamples=RESAMPLES)
    value = float(table.mean())
    low, high = max(found.low, bounds[0]), min(found.high, bounds[1])
    return Score(value, low, high, len(table), unit)


def over_rows(
    statistic: Statistic, samples: Sequence[Floats], rng: np.random.Generator, *,
    unit: str, bounds: Bounds, models: int = 1,
) -> Score:  # fmt: skip
    """Return a statistic of rows of examples with its 95 % interval over examples.

    Args:
        statistic: takes one array a sample, with fewer rows; returns a float.
        samples: float64 [example, ...] each, drawn apart; what belongs to one example is a row.
        rng, unit, bounds: as for `mean_score`.
        models: how many models were measured.

    Raises:
        BadEvidence: fewer than 3 examples in a sample, values that are not finite.
    """
    found = over_models(statistic, samples, rng, resamples=RESAMPLES)
    low, high = max(found.low, bounds[0]), min(found.high, bounds[1])
    return Score(found.value, low, high, models, unit)


@dataclass(frozen=True)
class Anchored:
    """A score between its anchors: the retrained oracle, and the original that forgot nothing.

    Args:
        name: of the metric.
        subject, oracle: scores on the same examples.
        original: of the untouched model, or None where it was not measured.
        gap: subject less oracle, with an interval over examples that pairs them.
    """

    name: str
    subject: Score
    oracle: Score
    original: Score | None
    gap: Score

    @property
    def remaining(self) -> float | None:
        """Return how much of the original's distance from the oracle is left: 0 forgotten, 1 not.

        None where the original was not measured, or is itself where the oracle is.
        """
        if self.original is None:
            return None
        whole = self.original.value - self.oracle.value
        return self.gap.value / whole if abs(whole) > NO_GAP else None


def anchored(
    metric: ExampleMetric, subject: Answers | Sequence[Answers],
    oracle: Answers | Sequence[Answers] | None, rng: np.random.Generator, *,
    original: Answers | Sequence[Answers] | None = None, groups: ArrayLike | None = None,
) -> Anchored:  # fmt: skip
    """Return a metric of the unlearned models next to that of retrained ones on the same examples.

    Args:
        metric: what to measure.
        subject, oracle, original: one model's answers or several; examples are matched by index.
        rng: draws for the intervals.
        groups: as for `ExampleMetric.score`, in the order of the first model's index.

    Raises:
        BadEvidence: no oracle, or models that were not asked the same examples.
    """
    held = need_oracle(oracle, metric.name)
    models = [subject] if isinstance(subject, Answers) else list(subject)
    tables = []
    for others in (models, held, _several(original)):
        # All are in the order of the first model's examples, so that pairs are pairs.
        ordered = _on_the_same([models[0], *others])[1:]
        tables.append(np.stack([metric(one) for one in ordered]) if ordered else None)
    scores = [
        None
        if table is None
        else mean_score(table, rng, unit=metric.unit, bounds=metric.bounds, groups=groups)
        for table in tables
    ]
    mine, theirs = tables[0], tables[1]
    if mine is None or theirs is None or scores[0] is None or scores[1] is None:
        raise BadEvidence("Got no models; expected at least one unlearned and one retrained.")
    apart = mine.mean(axis=0, keepdims=True) - theirs.mean(axis=0, keepdims=True)
    widest = metric.bounds[1] - metric.bounds[0]
    gap = mean_score(apart, rng, unit=metric.unit, bounds=(-widest, widest), groups=groups)
    return Anchored(metric.name, scores[0], scores[1], scores[2], replace(gap, n=len(mine)))


def need_oracle(oracle: Answers | Sequence[Answers] | None, name: str) -> list[Answers]:
    """Return the oracle's answers as a list; refuse where there is none.

    Raises:
        BadEvidence: no oracle.
    """
    models = _several(oracle)
    if not models:
        raise BadEvidence(
            f"{name!r} is read against a model that was retrained without the forget set, and "
            "there is none. Retrain one and record its answers; no number takes its place."
        )
    return models


def _several(models: Answers | Sequence[Answers] | None) -> list[Answers]:
    """One model or several as a list."""
    if models is None:
        return []
    return [models] if isinstance(models, Answers) else list(models)


def _on_the_same(models: Sequence[Answers]) -> list[Answers]:
    """All of them in the order of the first one's examples."""
    if not models:
        raise BadEvidence("Got no models; expected at least one.")
    return [models[0], *(aligned(models[0], one) for one in models[1:])]


def _group_means(table: Floats, groups: ArrayLike) -> Floats:
    """The mean of each group, float64 [model, group]; groups of one size weigh the same."""
    names, places = np.unique(np.asarray(groups), return_inverse=True)
    sizes = np.bincount(places, minlength=len(names))
    if places.shape != table.shape[1:] or (sizes != sizes[0]).any():
        raise BadEvidence(
            f"Got {len(places)} group labels for {table.shape[1]} examples, in groups of "
            f"{sizes.min()} to {sizes.max()}; expected one each, and groups of one size."
        )
    sums = np.stack([np.bincount(places, row, minlength=len(names)) for row in table])
    return sums / sizes
