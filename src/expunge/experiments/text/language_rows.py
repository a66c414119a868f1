"""The rows of an experiment on texts: their numbers, their columns, and how to read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from expunge.experiments.rows import Column, Record, RowHead, UnlearningCost, UnscoredRow, fields_in
from expunge.metrics.agreement import Score


@dataclass(frozen=True)
class Distance:
    """How far unlearned models are from retrained ones: 0 as retrained, 1 as the original.

    Args:
        value: sqrt(forget^2 + retain^2) of each model, their mean.
        low, high: 95 % bootstrap interval over models and subjects, the scales held fixed.
        forget, retain: the two sides, means over models.
        of_models: the distance of each model.
        n: models.
        gauges: the names of those that count.
    """

    value: float
    low: float
    high: float
    forget: float
    retain: float
    of_models: Sequence[float]
    n: int
    gauges: Sequence[str]


@dataclass(frozen=True)
class GaugeScore:
    """A metric on one evaluation set, of a row's models and of both anchors.

    Args:
        metric, set, side: what is measured, on which set; "forget" or "retain".
        value, low, high, n, unit: of the row's models, as of a `Score`.
        oracle, original: of the anchors. gap: value less the oracle's.
        remaining: 0 as the oracle, 1 as the original; None on the retain side, and where these do
            not differ.
    """

    metric: str
    set: str
    side: str
    value: float
    low: float
    high: float
    n: int
    unit: str
    oracle: Score
    original: Score
    gap: Score
    remaining: float | None

    @classmethod
    def from_json(cls, record: Record) -> GaugeScore:
        """Read what `asdict` made of one."""
        parts = {name: Score(**record[name]) for name in ("oracle", "original", "gap")}
        return cls(**{**record, **parts})


@dataclass(frozen=True)
class PairedForgetQuality:
    """TOFU's forget quality over pairs of models: D first, its p-value as a legacy.

    Args:
        d, lowest, highest: mean, least and largest D. legacy_p: median. n: pairs.
    """

    d: float
    lowest: float
    highest: float
    legacy_p: float
    n: int


@dataclass(frozen=True)
class RetainUtility:
    """The harmonic mean of what is to be kept: of the models, their oracles, and the gap."""

    value: float
    oracle: float
    gap: float
    of_models: Sequence[float] = ()


@dataclass(frozen=True)
class AttackArea:
    """How well a membership attack separates forget questions from unseen ones.

    Args:
        value, oracle, original: areas under the ROC curve.
        gap: value less the oracle's, which is what is read, not the distance from 0.5.
        privleak: in per cent; None where the oracle's area is 1.
    """

    value: float
    oracle: float
    original: float
    gap: Score
    privleak: float | None

    @classmethod
    def from_json(cls, record: Record) -> AttackArea:
        """Read what `asdict` made of one."""
        return cls(**{**record, "gap": Score(**record["gap"])})


@dataclass(frozen=True)
class BrokenAnswers:
    """The broken generations of one side.

    Args:
        refused: share of all generations that are the refusal.
        share, low, high: of the others, those that are broken, with an exact interval.
        oracle: the same share of the oracle's.
        reasons: why -> share. collapsed: whether most are broken. worst: a few. n: generations.
    """

    refused: float
    share: float
    low: float
    high: float
    oracle: float
    reasons: Mapping[str, float]
    collapsed: bool
    worst: Sequence[str]
    n: int


@dataclass(frozen=True)
class LanguageScores:
    """All numbers of one method on a problem of texts.

    Args:
        distance: from retrained models, 0, to the original, 1.
        scores: name of a gauge -> its value.
        utility: on what is to be kept.
        collapse: "forget" and "retain" -> broken generations.
        samples: a few questions with answers: set, question, answer, said, oracle, original.
        cost: what unlearning took.
        trace: the way from the original to what came out, as `evidence.path` gives it.
        forget_quality: where there are paraphrases and wrong answers.
        membership: attack -> its area, where there is a holdout.
        filter: of the row `nothing` alone: the original behind a keyword filter.
    """

    distance: Distance
    scores: Mapping[str, GaugeScore]
    utility: RetainUtility
    collapse: Mapping[str, BrokenAnswers]
    samples: Sequence[Record]
    cost: UnlearningCost = field(default_factory=UnlearningCost)
    trace: Record = field(default_factory=dict)
    forget_quality: PairedForgetQuality | None = None
    membership: Mapping[str, AttackArea] = field(default_factory=dict)
    filter: LanguageScores | None = None

    @classmethod
    def from_json(cls, record: Record) -> LanguageScores:
        """Read what `to_json` wrote, or a row of a summary."""
        scores = {name: GaugeScore.from_json(one) for name, one in record["scores"].items()}
        collapse = {side: BrokenAnswers(**one) for side, one in record["collapse"].items()}
        areas = record.get("membership", {}).items()
        quality, behind = record.get("forget_quality"), record.get("filter")
        return cls(
            distance=Distance(**record["distance"]),
            scores=scores,
            utility=RetainUtility(**record["utility"]),
            collapse=collapse,
            samples=record["samples"],
            cost=UnlearningCost.from_json(record.get("cost", {})),
            trace=record.get("trace", {}),
            forget_quality=PairedForgetQuality(**quality) if quality else None,
            membership={name: AttackArea.from_json(one) for name, one in areas},
            filter=LanguageScores.from_json(behind) if behind else None,
        )

    def to_json(self) -> dict[str, Any]:
        """What the store and the rows of a summary keep; parts that do not apply are left out."""
        found = asdict(replace(self, filter=None))
        if self.filter:  # nothing was made for it, so that it has no cost
            behind = self.filter.to_json()
            found["filter"] = {name: one for name, one in behind.items() if name != "cost"}
        optional = ("trace", "forget_quality", "membership", "filter")
        return {name: one for name, one in found.items() if one or name not in optional}


@dataclass(frozen=True)
class LanguageRow:
    """One method's row in the table of an experiment on texts.

    Args:
        head: which method.
        numbers: all its numbers.
        verdict: a few words. flags: warnings in sentences.
        rank: one more than the number of rows whose whole interval is nearer to the oracle; shared
            where intervals overlap.
    """

    head: RowHead
    numbers: LanguageScores
    verdict: str
    flags: Sequence[str] = ()
    rank: int = 0

    @classmethod
    def from_json(cls, record: Record) -> LanguageRow | UnscoredRow:
        """Read a row of a summary."""
        head = RowHead(**fields_in(RowHead, record))
        if "unscored" in record:
            return UnscoredRow(head, record["unscored"])
        numbers = LanguageScores.from_json(record)
        return cls(head, numbers, record["verdict"], record.get("flags", ()), record.get("rank", 0))

    def to_json(self) -> dict[str, Any]:
        """What a summary keeps."""
        rest = {"verdict": self.verdict, "flags": list(self.flags), "rank": self.rank}
        return {**asdict(self.head), **self.numbers.to_json(), **rest}


def _gauge(name: str) -> Column[LanguageRow]:
    """A gauge on the forget set, with the gap to retrained models."""

    def cell(row: LanguageRow) -> str:
        found = row.numbers.scores.get(f"{name}, forget")
        return "-" if found is None else f"{found.value:.2f} ({found.gap.value:+.2f})"

    return Column({"probability": "p", "rouge recall": "ROUGE"}[name], cell)


def _distance(row: LanguageRow) -> str:
    found = row.numbers.distance
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _forget_quality(row: LanguageRow) -> str:
    found = row.numbers.forget_quality
    return "-" if found is None else f"{found.d:.2f}"


def _utility(row: LanguageRow) -> str:
    return f"{row.numbers.utility.value:.2f} ({row.numbers.utility.gap:+.2f})"


def _area(row: LanguageRow) -> str:
    found = row.numbers.membership.get("loss")
    return "-" if found is None else f"{found.value:.2f} ({found.gap.value:+.2f})"


def _broken(row: LanguageRow) -> str:
    shares = [side.share for side in row.numbers.collapse.values()]
    return f"{max(shares):.0%}" if shares else "-"


COLUMNS: tuple[Column[LanguageRow], ...] = (
    Column("method", lambda row: row.head.title, left=True),
    Column("distance", _distance),
    Column("forget", lambda row: f"{row.numbers.distance.forget:.2f}"),
    Column("retain", lambda row: f"{row.numbers.distance.retain:.2f}"),
    _gauge("probability"),
    _gauge("rouge recall"),
    Column("FQ D", _forget_quality),
    Column("utility", _utility),
    Column("AUC", _area),
    Column("broken", _broken),
    Column("cost", lambda row: row.head.cost_cell(row.numbers.cost)),
    Column("verdict", lambda row: row.verdict, left=True),
)


def ranking_columns() -> tuple[Column[LanguageRow], ...]:
    """The columns of the table for a README: rank, both sides of the distance, and the words."""
    by_name = {column.name: column for column in COLUMNS}
    quality = replace(by_name["FQ D"], name="forget quality D")
    names = ("method", "distance", "forget", "retain")
    ends = (by_name[name] for name in ("broken", "cost", "verdict"))
    rank: Column[LanguageRow] = Column("rank", lambda row: str(row.rank))
    return (rank, *(by_name[name] for name in names), quality, *ends)


def legend(summary: Record) -> str:
    """Return how to read the table."""
    experiment = summary["experiment"]
    return (
        f"n = {experiment['members']} models a row, protocol {experiment['protocol']}, forget set "
        f"{experiment['forget']}. distance: 0 = as retrained, 1 = the original, with a 95 % "
        "interval over models and subjects (bootstrap); forget and retain: its two sides; p and "
        "ROUGE: of the true answers to be forgotten, with the gap to retrained; FQ D: largest gap "
        "between truth ratios and the oracle's, 0 best; utility: harmonic mean on what is kept; "
        "AUC: loss attack, forget against holdout; broken: generations such as retrained models "
        "do not write; cost: share of retraining's processor time, ! above 20 %."
    )
