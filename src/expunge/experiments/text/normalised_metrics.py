"""Metrics of a row of language models between both anchors, and the distance made of them.

The bootstrap draws models and subjects at once. Source: Owen, The pigeonhole bootstrap, Annals of
Applied Statistics 1 (2007): rows and columns of a table are drawn with replacement, each alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from expunge.core.evidence import Answers, Floats
from expunge.errors import BadEvidence
from expunge.experiments.text.language_rows import AttackArea, Distance
from expunge.metrics.agreement import Score
from expunge.metrics.text.likelihood import (
    option_probability,
    probability,
    right_option,
    truth_ratio_closer_to_1,
    truth_ratio_true_better,
)
from expunge.metrics.text.measure import ExampleMetric
from expunge.metrics.text.membership import ATTACKS, Attack, privleak
from expunge.metrics.text.memorisation import exact_memorisation, extraction_strength, rouge_recall
from expunge.problems.text.evaluation_sets import EvaluationSet

FORGET: tuple[ExampleMetric, ...] = (
    probability, rouge_recall, exact_memorisation, extraction_strength, truth_ratio_closer_to_1,
)  # fmt: skip


RETAIN: tuple[ExampleMetric, ...] = (
    probability, rouge_recall, exact_memorisation, truth_ratio_true_better,
)  # fmt: skip


# Of multiple choice, on both sides.
CHOICE: tuple[ExampleMetric, ...] = (right_option, option_probability)


# A gauge on which the anchors are nearer than this tells nothing, and would blow rounding up.
LEAST_SCALE = 0.05


# Nor can one be read whose standard deviation from oracle to oracle is a quarter of its scale.
STEADY = 4.0


RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class Draws:
    """Shares of models and groups in each draw.

    Args:
        groups: name of a set -> float64 [draw, group].
        subject, oracle, original: float64 [draw, model].
    """

    groups: Mapping[str, Floats]
    subject: Floats
    oracle: Floats
    original: Floats

    @classmethod
    def of(
        cls, widths: Mapping[str, int], counts: tuple[int, int, int], rng: np.random.Generator
    ) -> Draws:
        """Draw the shares of models and groups.

        Args:
            widths: name of a set -> groups in it.
            counts: models of the row, oracles and originals.
            rng: gives the draws.
        """
        groups = {name: shares(width, rng) for name, width in sorted(widths.items())}
        return cls(groups, *(shares(count, rng) for count in counts))

    def means(self, table: Floats, name: str, models: str) -> Floats:
        """The mean of a table [model, group] in each draw, float64 [draw].

        Args:
            table: values.
            name: of the set whose groups are its columns.
            models: "subject", "oracle" or "original", its rows.
        """
        found: Floats = ((table @ self.groups[name].T).T * getattr(self, models)).sum(axis=1)
        return found


def shares(count: int, rng: np.random.Generator) -> Floats:
    """Shares of drawings with replacement, float64 [draw, count]."""
    found: Floats = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES) / count
    return found


def limits(drawn: Floats, value: float) -> tuple[float, float]:
    """The 95 % interval of some draws, wide enough to hold what was found.

    Means of absolute gaps are drawn too large, and their interval could lie above the value.
    """
    low, high = np.quantile(drawn, (0.025, 0.975))
    return min(float(low), value), max(float(high), value)


@dataclass(frozen=True, eq=False)
class RecordedAnswers:
    """What one model answered on every set; each metric is computed once."""

    answers: Mapping[str, Answers]
    known: dict[tuple[str, str], Floats] = field(default_factory=dict)

    def recorded(self, metric: ExampleMetric, name: str) -> bool:
        """Whether the answers on a set hold what a metric reads."""
        return all(getattr(self.answers[name], need) is not None for need in metric.needs)

    def values(self, metric: ExampleMetric, name: str) -> Floats:
        """A metric of each question of a set, float64 [question]."""
        key = (metric.name, name)
        if key not in self.known:
            self.known[key] = metric(self.answers[name])
        return self.known[key]


@dataclass(frozen=True, eq=False)
class Gauge:
    """A metric on a set, for one row's models and for both anchors.

    Args:
        metric: what is measured.
        set: of questions; gauges on one set are drawn together.
        side: "forget" or "retain".
        subject, oracle, original: float64 [model, group], means over groups of questions, which
            are subjects where the questions name some.
        scale: what being taught changes on this gauge.
    """

    metric: ExampleMetric
    set: str
    side: str
    subject: Floats
    oracle: Floats
    original: Floats
    scale: float

    @property
    def name(self) -> str:
        """As columns are called."""
        return f"{self.metric.name}, {self.set}"

    @property
    def counts(self) -> bool:
        """Whether the anchors are far enough apart, and the oracles near enough to each other."""
        means = self.oracle.mean(axis=1)
        noise = float(means.std(ddof=1)) if len(means) > 1 else 0.0
        return self.scale >= max(LEAST_SCALE, STEADY * noise)


@dataclass(frozen=True, eq=False)
class MetricRow:
    """All models that a row of the table is made from: its own, and both anchors'."""

    sets: Sequence[EvaluationSet]
    subject: Sequence[RecordedAnswers]
    oracle: Sequence[RecordedAnswers]
    original: Sequence[RecordedAnswers]

    def gauges(self) -> list[Gauge]:
        """Every metric on every set that is asked for it and whose answers were recorded."""
        return [
            self._gauge(metric, asked)
            for asked in self.sets
            if asked.side != "holdout"
            for metric in _metrics(asked)
            if self.oracle[0].recorded(metric, asked.name)
        ]

    def _gauge(self, metric: ExampleMetric, asked: EvaluationSet) -> Gauge:
        mine, theirs, before = (
            table(metric, models, asked) for models in (self.subject, self.oracle, self.original)
        )
        if asked.side == "forget":
            scale = abs(float(before.mean() - theirs.mean()))
        else:
            scale = self._taught(metric, float(theirs.mean()), asked.against)
        return Gauge(metric, asked.name, asked.side, mine, theirs, before, scale)

    def _taught(self, metric: ExampleMetric, known: float, against: str) -> float:
        """How far what the oracle was taught is from what it was not: it never saw the forget set.

        0 where that was not recorded, so that the gauge does not count.
        """
        if not self.oracle[0].recorded(metric, against):
            return 0.0
        means = [one.values(metric, against).mean() for one in self.oracle]
        return abs(known - float(np.mean(means)))


def _metrics(asked: EvaluationSet) -> tuple[ExampleMetric, ...]:
    """What a set is measured by."""
    if asked.choices:
        return CHOICE
    return FORGET if asked.side == "forget" else RETAIN


def table(metric: ExampleMetric, models: Sequence[RecordedAnswers], asked: EvaluationSet) -> Floats:
    """A metric of each model, means over each subject's questions, float64 [model, group]."""
    rows = np.stack([one.values(metric, asked.name) for one in models])
    return grouped(rows, asked)


def grouped(rows: Floats, asked: EvaluationSet) -> Floats:
    """Means over each subject's questions, float64 [model, group]; the rows where there is none."""
    if asked.groups is None:
        return rows
    _, places = np.unique(asked.groups, return_inverse=True)
    sums = np.stack([np.bincount(places, row) for row in rows])
    found: Floats = sums / np.bincount(places)
    return found


MEMBERSHIP = ("loss", "zlib", "min-k", "min-k++")


def membership(row: MetricRow, draws: Draws) -> dict[str, AttackArea]:
    """Return how well each attack separates forget questions from those of the holdout.

    The area is the chance that a forget question looks more like a member than a holdout one.
    """
    found = {}
    for name in MEMBERSHIP:
        mine, theirs, before = (
            np.stack([_wins(row, ATTACKS[name], one) for one in models])
            for models in (row.subject, row.oracle, row.original)
        )
        value, oracle = float(mine.mean()), float(theirs.mean())
        drawn = _areas(mine, draws, "subject") - _areas(theirs, draws, "oracle")
        gap = Score(value - oracle, *limits(drawn, value - oracle), len(mine), "AUC")
        leak = privleak(value, oracle) if oracle < 1 else None
        found[name] = AttackArea(value, oracle, float(before.mean()), gap, leak)
    return found


def _wins(row: MetricRow, attack: Attack, model: RecordedAnswers) -> Floats:
    """How often questions of one group look more like members than those of another.

    Returns:
        float64 [forget group, holdout group]; its mean is the area under the curve, where all
        groups are of one size.
    """
    ones, zeros = (attack(model.answers[side]) for side in ("forget", "holdout"))
    found = (ones[:, None] > zeros) + 0.5 * (ones[:, None] == zeros)
    sets = {asked.name: asked for asked in row.sets}
    for axis, side in enumerate(("forget", "holdout")):
        found = np.moveaxis(found, axis, 0)
        found = np.moveaxis(_by_group(found, sets[side].groups), 0, axis)
    return np.asarray(found, dtype=np.float64)


def _by_group(rows: Floats, groups: list[str] | None) -> Floats:
    """Means of the rows of each group, [group, ...]."""
    if groups is None:
        return rows
    names, places = np.unique(groups, return_inverse=True)
    return np.stack([rows[places == place].mean(axis=0) for place in range(len(names))])


def _areas(wins: Floats, draws: Draws, models: str) -> Floats:
    """The mean area in each draw of models and groups, float64 [draw]."""
    ones, zeros = draws.groups["forget"], draws.groups["holdout"]
    each = np.stack([((ones @ one) * zeros).sum(axis=1) for one in wins])
    found: Floats = (each.T * getattr(draws, models)).sum(axis=1)
    return found


def distance(gauges: Sequence[Gauge], draws: Draws) -> Distance:
    """Return the distance of unlearned models from retrained ones.

    Args:
        gauges: of both sides; those that do not count are left out.
        draws: for the interval.

    Raises:
        BadEvidence: no gauge of one side tells what was taught from what was not.
    """
    counted = [gauge for gauge in gauges if gauge.counts]
    for side in ("forget", "retain"):
        if not any(gauge.side == side for gauge in counted):
            raise BadEvidence(
                f"No gauge of the {side} side tells what was taught from what was not: the anchors "
                "are too near to each other, or the oracles too far apart. Train the original "
                "longer, or ask more questions."
            )
    each = {side: _side(counted, side) for side in ("forget", "retain")}
    apart = np.hypot(each["forget"], each["retain"])
    drawn = np.hypot(*(_drawn(counted, side, draws) for side in ("forget", "retain")))
    value = float(apart.mean())
    low, high = limits((drawn.T * draws.subject).sum(axis=1), value)
    return Distance(
        value, low, high, float(each["forget"].mean()), float(each["retain"].mean()),
        tuple(apart.tolist()), len(apart), tuple(gauge.name for gauge in counted),
    )  # fmt: skip


def _side(gauges: Sequence[Gauge], side: str) -> Floats:
    """Mean relative gap of each model on one side, float64 [model]."""
    gaps = [
        np.abs(gauge.subject.mean(axis=1) - gauge.oracle.mean()) / gauge.scale
        for gauge in gauges
        if gauge.side == side
    ]
    found: Floats = np.mean(gaps, axis=0)
    return found


def _drawn(gauges: Sequence[Gauge], side: str, draws: Draws) -> Floats:
    """The same in each draw of oracles and groups, float64 [model, draw]."""
    gaps = []
    for gauge in gauges:
        if gauge.side == side:
            held = draws.means(gauge.oracle, gauge.set, "oracle")
            mine = gauge.subject @ draws.groups[gauge.set].T
            gaps.append(np.abs(mine - held) / gauge.scale)
    found: Floats = np.mean(gaps, axis=0)
    return found
