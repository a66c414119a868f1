"""A card for each method: what audits of its weights found, at which power, and what is open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from expunge.report import prose
from expunge.report.numbers import SPACE, THIN, decimals, figure, fixed, interval, percent
from expunge.report.plots import Axis, Strip, Tick, strip

Record = Mapping[str, Any]


TONES = {"found": "bad", "excluded": "good", "inconclusive": "none"}


# Shares of the gap between original and retrained; what lies beyond is drawn at the end.
AXIS = Axis(-0.5, 1.5)


MARGIN = 0.1


@dataclass(frozen=True)
class Scale:
    """Where retrained models with the margin, and the original, stand on the axis of recovered."""

    retrained: Strip
    original: float
    ticks: list[Tick]


@dataclass(frozen=True)
class AuditLine:
    """One audit on one method; without a number there is a reason."""

    name: str
    says: str
    means: tuple[tuple[str, str], ...]
    recovered: str
    strip: Strip | None
    power: tuple[str, ...]
    word: str
    tone: str
    reason: str


@dataclass(frozen=True)
class AuditCard:
    """Everything that the audits say of one method."""

    word: str
    tone: str
    verdict: str
    power: str
    lines: list[AuditLine]
    open: str


def cards(summary: Record) -> dict[str, AuditCard]:
    """Return a card a method by its name; none for an experiment without audits."""
    return {row["name"]: _card(row["audits"]) for row in summary["rows"] if "audits" in row}


def scale() -> Scale:
    """The anchors of every strip."""
    ends = {"value": 0.0, "low": -MARGIN, "high": MARGIN}
    return Scale(strip(AXIS, ends), AXIS.at(1.0), [Tick(AXIS.at(0), "0"), Tick(AXIS.at(1), "1")])


def intro(summary: Record) -> list[str]:
    """What audits are, and how often they find something where there is nothing."""
    if not summary.get("audit_alarms"):
        return []
    return [
        "An audit takes the weights, trains on, probes, rounds or prunes them, and gives a number "
        "for each model. Recovered is (unlearned − retrained) / (original − retrained): 0 as a "
        "retrained model, 1 as the original, with its 95 % interval; the band is the margin of a "
        "tenth. "
        "Found: shown after Holm’s correction over all audits of the method.",
        alarms(summary),
    ]


def alarms(summary: Record) -> str:
    """How often the audits find something between retrained models."""
    found = summary["audit_alarms"]
    if "reason" in found:
        return f"False alarms of the audits are not known: {found['reason']}"
    rate = found["rate"]
    ends = interval(100 * rate["low"], 100 * rate["high"], 0)
    return (
        f"False alarms of the audits: between random halves of the held-out retrained models "
        f"({found['models']} a side) they found something in {round(rate['value'] * rate['n'])} of "
        f"{rate['n']} repetitions, {percent(rate['value'], 0)} {ends}; 5{THIN}% are allowed."
    )


def said(summary: Record) -> list[str]:
    """What the audits show, for the end of the report."""
    rows = [row for row in summary["rows"] if "audits" in row]
    if not rows:
        return []
    named = [row for row in rows if not row["control"]]
    found = []
    for word, opening in (
        ("found", "Audits of the weights distinguish unlearned from retrained models for"),
        ("excluded", "The audits exclude what is larger than the margin for"),
        ("inconclusive", "Audits of the weights leave it open for"),
    ):
        group = [row for row in named if row["audits"]["verdict"]["word"] == word]
        if group:
            count = f"{len(group)} of {prose.counted(len(named), 'method')}"
            found.append(f"{opening} {count}: {prose.listed(group)}.")
    return [*found, *_controls({row["name"]: row["audits"] for row in rows}), alarms(summary)]


def _controls(rows: Mapping[str, Record]) -> list[str]:
    """What the audits say of the three controls."""
    words = {name: found["verdict"]["word"] for name, found in rows.items()}
    wrong = []
    if words.get("retrain") == "found":
        wrong.append(
            "“retrain” differs from other retrained models: one false alarm in 20 is expected"
        )
    if words.get("nothing", "found") != "found":
        wrong.append(
            "“nothing” does not differ from retrained models: there is nothing to find here"
        )
    sham = rows.get("sham")
    if sham and words["sham"] != "found":
        wrong.append("“sham”, which hides the answer, is not caught: they are too weak here")
    lines = [f"The audits fail a control: {each}." for each in wrong]
    if sham and words["sham"] == "found":
        most = _most(sham)
        lines.append(
            f"The control “sham”, which hides the answer in its last layer, is caught by "
            f"{len(sham['shown'])} of {sham['scored']} audits{f', most by {most}' if most else ''}."
        )
    return lines


def _card(found: Record) -> AuditCard:
    verdict = found["verdict"]
    return AuditCard(
        _word(found),
        TONES.get(verdict["word"], "unknown"),
        _verdict(found),
        verdict["power"],
        [_line(one, one["audit"] in found["shown"]) for one in found["findings"]],
        _open(found),
    )


def _word(found: Record) -> str:
    """The verdict of all audits in few signs."""
    word = str(found["verdict"]["word"])
    return f"{word} by {len(found['shown'])} of {found['scored']}" if word == "found" else word


def _verdict(found: Record) -> str:
    """The verdict on all audits together, and which found most."""
    scored = [one for one in found["findings"] if "effect" in one]
    count = f"{len(scored)} audits, on {prose.counted(found['models'], 'model')}"
    word = found["verdict"]["word"]
    if word == "found":
        most = _most(found)
        named = f" Most was found by {most}." if most else ""
        return (
            f"{len(found['shown'])} of {count}, find a difference from retrained models.{named}"
            f"{_less(found)}"
        )
    if word == "excluded":
        return f"All of {count}, exclude a difference as large as the margin."
    if not scored:
        return str(found["verdict"]["reason"])
    least = min(one["effect"]["adjusted"] for one in scored)
    kept = sum(one["word"] == "excluded" for one in scored)
    return (
        f"None of {count}, shows a difference (smallest p {least:.2g} after Holm); {kept} exclude "
        "one as large as the margin, the others are too noisy to."
    )


def _most(found: Record) -> str:
    """The audit that found most, with what it recovered; empty where none has an anchor."""
    shown = [one for one in found["findings"] if one["audit"] in found["shown"]]
    shares = [one for one in shown if "recovered" in one and one["recovered"]["value"] > 0]
    if not shares:
        return ""
    # Of two that recover alike the surer one.
    best = max(shares, key=lambda one: (round(one["recovered"]["value"], 2), -_width(one)))
    return f"{best['audit']}: {_share(best['recovered'])} recovered"


def _width(one: Record) -> float:
    return float(one["recovered"]["high"] - one["recovered"]["low"])


def _less(found: Record) -> str:
    """Audits that find less than in a retrained model, which can be seen as well."""
    less = [
        one["audit"]
        for one in found["findings"]
        if one["audit"] in found["shown"] and one.get("recovered", {"value": 0})["value"] < 0
    ]
    return (
        f" Less than in retrained models, which can be seen too: {', '.join(less)}." if less else ""
    )


def _line(one: Record, shown: bool) -> AuditLine:
    if "effect" not in one:
        return AuditLine(one["audit"], "", (), "", None, (), "unscored", "unknown", one["reason"])
    effect, word = one["effect"], one["word"]
    # A single audit may find what Holm's correction over all takes back.
    word = "inconclusive" if word == "found" and not shown else word
    placed = strip(AXIS, one["recovered"]) if "recovered" in one else None
    return AuditLine(
        one["audit"],
        f"{one['unit']}; a larger one {one['more']}",
        _means(one),
        _share(one["recovered"]) if "recovered" in one else _apart(one),
        placed,
        (f"finds {_size(effect['detectable'])}", f"excludes {_size(effect['excludable'])}"),
        word,
        TONES.get(word, "none"),
        "",
    )


def _means(one: Record) -> tuple[tuple[str, str], ...]:
    """The mean of each group, as many decimals for all three."""
    heads = (("Unlearned", "subject"), ("Retrained", "oracle"), ("Original", "original"))
    means = {head: sum(one[key]) / len(one[key]) for head, key in heads}
    places = min(decimals(max(map(abs, means.values()))), 3)
    return tuple((head, fixed(mean, places)) for head, mean in means.items())


def _size(effect: float) -> str:
    """How large an effect is; what is far below every margin is not distinguished."""
    return f"<{THIN}0.001" if effect < 0.001 else figure(effect)


def _share(recovered: Record) -> str:
    ends = interval(recovered["low"], recovered["high"], 2)
    return f"{fixed(recovered['value'], 2)}{SPACE}{ends}"


def _apart(one: Record) -> str:
    """A difference in its own unit, where the original is no anchor; 90 % as its test."""
    effect = one["effect"]
    ends = interval(effect["low"], effect["high"], 3)
    return f"{fixed(effect['value'], 3)}{SPACE}{ends} {effect['unit']} apart"


def _open(found: Record) -> str:
    """What was not shown of a method."""
    words = []
    for head, word in (("Neither found nor excluded", "inconclusive"), ("No number", "unscored")):
        names = [one["audit"] for one in found["findings"] if one["word"] == word]
        if names:
            words.append(f"{head}: {', '.join(names)}.")
    words.append(
        "An audit that finds nothing excludes its margin for this attack alone; single records "
        "were not audited, and longer training or other layers were not tried."
    )
    return " ".join(words)
