"""The rows of an experiment on images: their numbers, their columns, and how to read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from expunge.experiments.rows import Column, Record, RowHead, UnlearningCost, UnscoredRow, fields_in
from expunge.metrics.agreement import Score


@dataclass(frozen=True)
class MetricScore:
    """A metric's value with its 95 % interval over models.

    Args:
        value, low, high, n, unit: as of a `Score`.
        aim: what is good: "oracle" (near the retrained models' own), "high" or "low".
        oracle: mean over retrained models; None where the metric already compares with them.
    """

    value: float
    low: float
    high: float
    n: int
    unit: str
    aim: str = ""
    oracle: float | None = None

    @classmethod
    def of(cls, score: Score, aim: str, oracle: float | None = None) -> MetricScore:
        """A score with what is good of it."""
        return cls(score.value, score.low, score.high, score.n, score.unit, aim, oracle)

    @property
    def score(self) -> Score:
        """The value and its interval alone."""
        return Score(self.value, self.low, self.high, self.n, self.unit)

    def to_json(self) -> dict[str, Any]:
        """What the store keeps."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class ClassifierScores:
    """All numbers of one method on a problem of images.

    Args:
        scores: metric -> its value; "quality" and, where there is a test set, "score" are the
            challenge's.
        cost: what unlearning took.
        epsilons: of each forget example.
        attacks: what the array attacks found, of `attacking.attack_record`; empty in summaries
            of older versions.
        retrain_free: signal -> what it says without retrained models.
        membership: of single examples, by shadow models; empty without any.
        accuracy_of_models: set -> accuracy of each model. Summaries leave it out.
        gallery: signals of all models on a few forget examples. Summaries leave it out.
    """

    scores: Mapping[str, MetricScore]
    cost: UnlearningCost
    epsilons: Sequence[float] = ()
    attacks: Record = field(default_factory=dict)
    retrain_free: Record = field(default_factory=dict)
    membership: Record = field(default_factory=dict)
    accuracy_of_models: Mapping[str, Sequence[float]] = field(default_factory=dict)
    gallery: Sequence[Record] = ()

    @property
    def quality(self) -> MetricScore:
        """Forgetting quality, by which rows are compared with both anchors."""
        return self.scores["quality"]

    @classmethod
    def from_json(cls, record: Record) -> ClassifierScores:
        """Read what `to_json` wrote, or a row of a summary."""
        scores = {name: MetricScore(**one) for name, one in record["scores"].items()}
        cost = UnlearningCost.from_json(record["cost"])
        return cls(**{**fields_in(cls, record), "scores": scores, "cost": cost})

    def shown(self) -> dict[str, Any]:
        """What a row of a summary keeps."""
        found: dict[str, Any] = {
            "scores": {name: one.to_json() for name, one in self.scores.items()},
            "cost": self.cost.to_json(),
            "epsilons": list(self.epsilons),
        }
        for name in ("attacks", "retrain_free", "membership"):
            found |= {name: getattr(self, name)} if getattr(self, name) else {}
        return found

    def to_json(self) -> dict[str, Any]:
        """What the store keeps."""
        models = {name: list(values) for name, values in self.accuracy_of_models.items()}
        return {**self.shown(), "accuracy_of_models": models, "gallery": list(self.gallery)}


@dataclass(frozen=True)
class ClassifierRow:
    """One method's row in the table of an experiment on images.

    Args:
        head: which method.
        numbers: all its numbers.
        gap_closed: 0 as the original, 1 as held-out retrained models; or why it cannot be said.
        verdict: a few words. flags: warnings in sentences.
        audits: what audits of the weights found; empty without any.
    """

    head: RowHead
    numbers: ClassifierScores
    gap_closed: float | str
    verdict: str
    flags: Sequence[str] = ()
    audits: Record = field(default_factory=dict)

    @property
    def collapsed(self) -> bool:
        """Whether the models are broken: such may lie near retrained ones and are of no use."""
        return self.verdict == "collapsed"

    @classmethod
    def from_json(cls, record: Record) -> ClassifierRow | UnscoredRow:
        """Read a row of a summary."""
        head = RowHead(**fields_in(RowHead, record))
        if "unscored" in record:
            return UnscoredRow(head, record["unscored"])
        return cls(
            head, ClassifierScores.from_json(record), record.get("normalised", ""),
            record["verdict"], record.get("flags", ()), record.get("audits", {}),
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """What a summary keeps."""
        return {
            **asdict(self.head),
            **self.numbers.shown(),
            **({"audits": {**self.audits}} if self.audits else {}),
            "normalised": self.gap_closed,
            "verdict": self.verdict,
            "flags": list(self.flags),
        }


def accuracy_column(name: str) -> Column[ClassifierRow]:
    """Accuracy on a set in per cent, with the gap to retrained models."""

    def cell(row: ClassifierRow) -> str:
        found = row.numbers.scores.get(f"accuracy_{name}")
        if found is None or found.oracle is None:
            return "-"
        return f"{100 * found.value:.1f} ({100 * (found.value - found.oracle):+.1f})"

    return Column(name, cell)


def _quality(row: ClassifierRow) -> str:
    found = row.numbers.quality
    return f"{found.value:.4f} [{found.low:.4f}, {found.high:.4f}]"


def _gap_closed(row: ClassifierRow) -> str:
    return f"{row.gap_closed:.2f}" if isinstance(row.gap_closed, float) else "unscored"


def _tug_of_war(row: ClassifierRow) -> str:
    found = row.numbers.scores.get("tow")
    return "-" if found is None else f"{found.value:.3f}"


def _attacks(row: ClassifierRow) -> str:
    return str(row.numbers.attacks["verdict"]["word"]) if row.numbers.attacks else "-"


def _audits(row: ClassifierRow) -> str:
    """What the audits found in a row: "found 3 of 12"."""
    if not row.audits:
        return "-"
    word = str(row.audits["verdict"]["word"])
    if word != "found":
        return word
    return f"{word} {len(row.audits['shown'])} of {row.audits['scored']}"


AUDITS: Column[ClassifierRow] = Column("audits", _audits)


COLUMNS: tuple[Column[ClassifierRow], ...] = (
    Column("method", lambda row: row.head.title, left=True),
    Column("quality F", _quality),
    Column("gap closed", _gap_closed),
    accuracy_column("retain"),
    accuracy_column("forget"),
    accuracy_column("test"),
    Column("ToW", _tug_of_war),
    Column("attacks", _attacks),
    AUDITS,
    Column("cost", lambda row: row.head.cost_cell(row.numbers.cost)),
    Column("verdict", lambda row: row.verdict, left=True),
)


def notes(summary: Record) -> list[str]:
    """How to read the table, and what holds for all of its rows."""
    return [
        *summary.get("chosen", {}).get("said", []),
        *(
            f"Retrain-free {each['signal']}, ranks against {each['against']}: {correlation(each)}"
            for each in summary.get("retrain_free", [])
            if "reason" not in each
        ),
        legend(summary["experiment"]),
        false_alarms(summary),
        *audit_notes(summary),
    ]


def legend(experiment: Record) -> str:
    """What the columns mean."""
    return (
        f"n = {experiment['members']} models a row, protocol {experiment['protocol']}, rule "
        f"{experiment['rule']}, forget set {experiment['forget']}. F with a 95 % interval over "
        "models (half-sample bootstrap); gap closed: 0 = the original, 1 = held-out retrained "
        "models; accuracies in %, with the gap to retrained; attacks: do they distinguish "
        "unlearned models from retrained ones (found), not by the margin (excluded), or is n too "
        "small (inconclusive); cost: share of retraining's processor time, ! above 20 %."
    )


def false_alarms(summary: Record) -> str:
    """How often the attacks find something where there is nothing."""
    found = summary.get("false_alarms", {"reason": "an older version made this summary."})
    if "reason" in found:
        return f"False alarms of the attacks are not known: {found['reason']}"
    return (
        f"False alarms: between random halves of the retrained models ({found['models']} a side) "
        f"the attacks found something in {_repetitions(found['rate'])}"
    )


def audit_notes(summary: Record) -> list[str]:
    """How to read the column of the audits, and their false alarms; nothing without audits."""
    found = summary.get("audit_alarms")
    if not found:
        return []
    models = summary["rows"][0]["audits"]["models"]
    how = (
        f"Audits of the weights of {models} models a row: found k of n, where k of the n that "
        "distinguish originals from retrained models here find a difference after Holm."
    )
    if "reason" in found:
        return [how, f"False alarms of the audits are not known: {found['reason']}"]
    return [
        how,
        "False alarms of the audits: between random halves of the retrained models "
        f"({found['models']} a side) they found something in {_repetitions(found['rate'])}",
    ]


def _repetitions(rate: Record) -> str:
    count = round(rate["value"] * rate["n"])
    return f"{count} of {rate['n']} repetitions; 5 % are allowed."


def correlation(found: Record) -> str:
    """A rank correlation with its interval, p-value and number of methods."""
    rho = found["spearman"]
    return (
        f"Spearman {rho['value']:.2f} [{rho['low']:.2f}, {rho['high']:.2f}], "
        f"p {found['spearman_p']:.2g}, n = {found['methods']} methods."
    )
