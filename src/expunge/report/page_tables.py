"""The main table of a page: one row a method between its two anchors, with its verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from expunge.metrics.row_label import LARGEST_COST, SETS
from expunge.report import prose
from expunge.report.glossary import tone
from expunge.report.numbers import (
    MISSING,
    SPACE,
    decimals,
    fixed,
    gap,
    interval,
    percent,
    signed,
    with_interval,
)
from expunge.report.plots import Axis, Strip, strip
from expunge.report.prose import apart, collapsed

Record = Mapping[str, Any]

# Distances beyond this are drawn at the edge: a model that fell apart may be anywhere.
FARTHEST = 1.5

# The first words of a verdict, and the class of the mark beside it.
TONES = {
    "as retrained": "good",
    "partly": "part",
    "no better": "none",
    "not forgotten": "none",
    "changed nothing": "none",
    "over-forgotten": "bad",
    "forget accuracy rose": "bad",
    "collapsed": "bad",
}

METRICS = {
    "quality": "Quality F",
    "score": "Score",
    "accuracy_retain": "Accuracy, retain",
    "accuracy_forget": "Accuracy, forget",
    "accuracy_test": "Accuracy, test",
    "tow": "ToW",
    "divergence_forget": "JS, forget",
    "divergence_test": "JS, test",
    "distance_forget": "L2, forget",
    "distance_test": "L2, test",
    "weak_attack": "Weak attack",
}


@dataclass(frozen=True)
class Cell:
    """One number, a note below it, and whether a reader must heed it."""

    label: str
    value: str
    note: str = ""
    heed: bool = False


@dataclass(frozen=True)
class TableLine:
    """One row as the template draws it; without numbers there is a reason instead."""

    name: str
    verdict: str
    tone: str
    reason: str
    quality: str
    strip: Strip | None
    cells: list[Cell]


@dataclass(frozen=True)
class Table:
    """Rows in two groups, and the axis that they share."""

    heads: list[str]
    controls: list[TableLine]
    methods: list[TableLine]
    axis: Axis
    ceiling: Strip
    floor: Strip
    notes: list[str]


def table(summary: Record) -> Table:
    """Lay out the verdict table of a summary."""
    scored = prose.scored(summary["rows"])
    highest = max([summary["ceiling"]["high"], *(prose.quality(row)["high"] for row in scored)])
    axis = Axis(0.0, max(highest, 1e-3))
    drawn = [[_line(row, summary, axis) for row in group] for group in prose.groups(summary)]
    return Table(
        heads=[cell.label for cell in _cells(scored[0], summary)] if scored else [],
        controls=drawn[0],
        methods=drawn[1],
        axis=axis,
        ceiling=strip(axis, summary["ceiling"]),
        floor=strip(axis, summary["floor"]),
        notes=[*_notes(scored), *doubts(summary)],
    )


def _notes(rows: Sequence[Record]) -> list[str]:
    """Why rows have no place between floor and ceiling, each reason once."""
    reasons = [row["normalised"] for row in rows if isinstance(row["normalised"], str)]
    return [f"Gap closed is unscored: {reason}." for reason in dict.fromkeys(reasons)]


def doubts(summary: Record) -> list[str]:
    """What speaks against methods on this problem; summaries of older versions do not say."""
    said = summary.get("doubts", {}).items()
    return [f"Doubt about {prose.inline(name)}: {doubt}" for name, each in said for doubt in each]


def _line(row: Record, summary: Record, axis: Axis) -> TableLine:
    mark = next((t for words, t in TONES.items() if row["verdict"].startswith(words)), "unknown")
    if "scores" not in row:
        return TableLine(row["name"], row["verdict"], mark, row["unscored"], "", None, [])
    quality = prose.quality(row)
    place, cells = strip(axis, quality), _cells(row, summary)
    return TableLine(row["name"], row["verdict"], mark, "", with_interval(quality, 3), place, cells)


def _cells(row: Record, summary: Record) -> list[Cell]:
    """Return the cells of a scored row; what was not measured has no cell in any row."""
    found = [_gap_closed(row, summary)]
    if "score" in row["scores"]:
        found.append(_score(row))
    found += [_accuracy(row, summary, name) for name in SETS if f"accuracy_{name}" in row["scores"]]
    if "tow" in row["scores"]:
        found.append(Cell("ToW", fixed(row["scores"]["tow"]["value"], 3)))
    found.append(_divergence(row, summary))
    if "attacks" in row:
        found.append(_attacked(row))
    if "audits" in row:
        found.append(_audited(row["audits"]))
    return [*found, _cost(row, row["name"] == "retrain")]


def _gap_closed(row: Record, summary: Record) -> Cell:
    if isinstance(row["normalised"], str):
        return Cell("Gap closed", "unscored", "reason below")
    value, _, ends = prose.gap_closed(row, summary).partition(SPACE)
    return Cell("Gap closed", value, ends)


def _score(row: Record) -> Cell:
    score = row["scores"]["score"]
    return Cell("Score", fixed(score["value"], 3), interval(score["low"], score["high"], 3))


def _accuracy(row: Record, summary: Record, name: str) -> Cell:
    """Accuracy in percent, with its gap to the retrained models in points."""
    key = f"accuracy_{name}"
    mine, theirs = (each["scores"][key]["value"] for each in (row, _oracle(summary)))
    flagged = any(flag.startswith(f"{name} accuracy") for flag in row["flags"])
    note = "" if row["name"] == "retrain" else gap(mine - theirs)
    return Cell(name.capitalize(), fixed(mine * 100, 1), note, flagged)


def _oracle(summary: Record) -> Record:
    return next(row for row in summary["rows"] if row["name"] == "retrain")


def _divergence(row: Record, summary: Record) -> Cell:
    """Jensen-Shannon divergence on the forget set, the test set's below it."""
    largest = max(
        score["value"]
        for each in prose.scored(summary["rows"])
        for key, score in each["scores"].items()
        if key.startswith("divergence")
    )
    said = {
        key: fixed(score["value"], decimals(largest))
        for key, score in row["scores"].items()
        if key.startswith("divergence")
    }
    test = said.get("divergence_test")
    return Cell("JS forget", said["divergence_forget"], f"test {test}" if test else "")


def _attacked(row: Record) -> Cell:
    """The verdict of the attacks, the mean area of an attacker with a rule an example below it."""
    found = row["attacks"]
    exposed = found["exposed"]
    note = f"{fixed(exposed['mean_auc'], 2)} an example" if exposed else ""
    return Cell("Attacks", found["verdict"]["word"], note)


def _audited(found: Record) -> Cell:
    """The verdict of the audits, and how many of them find a difference."""
    return Cell("Audits", found["verdict"]["word"], f"{len(found['shown'])} of {found['scored']}")


def _cost(row: Record, exempt: bool) -> Cell:
    """Share of retraining's time, marked above the limit; controls may be exempt from the mark."""
    share = row["cost"]["time_share"]
    heed = share > LARGEST_COST and not exempt
    note = f"over {percent(LARGEST_COST)}" if heed else ""
    return Cell("Cost", percent(share), note, heed)


def all_numbers(rows: Sequence[Record]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Every metric of every scored row with its interval: column heads, then rows."""
    scored = prose.scored(rows)
    keys = [key for key in METRICS if any(key in row["scores"] for row in scored)]
    lines = [
        (row["name"], [with_interval(row["scores"][k]) if k in row["scores"] else "" for k in keys])
        for row in scored
    ]
    return [METRICS[key] for key in keys], lines


def language_table(summary: Record) -> Table:
    """Lay out the main table of language models: distance between the anchors, and its parts."""
    scored = prose.scored(summary["rows"])
    highest = max(summary[side]["high"] for side in ("ceiling", "floor"))
    highest = max([highest, *(row["distance"]["high"] for row in scored)])
    axis = Axis(0.0, max(min(highest, FARTHEST), 1e-3))
    cells = {name: [column(row) for row in scored] for name, column in COLUMNS}
    kept = [name for name, _ in COLUMNS if any(cells[name])]
    lines = {
        side: [_language_line(row, axis, kept) for row in summary["rows"] if row["control"] is side]
        for side in (True, False)
    }
    beyond = [row["name"] for row in scored if row["distance"]["high"] > axis.high]
    said = ", ".join(map(prose.inline, beyond))
    note = [f"Reaches beyond {fixed(axis.high, 1)}, where the plot ends: {said}."] if beyond else []
    return Table(
        heads=kept,
        controls=lines[True],
        methods=lines[False],
        axis=axis,
        ceiling=strip(axis, summary["ceiling"]),
        floor=strip(axis, summary["floor"]),
        notes=[*note, *doubts(summary)],
    )


def _language_line(row: Record, axis: Axis, kept: Sequence[str]) -> TableLine:
    if "unscored" in row:
        return TableLine(row["name"], row["verdict"], "unknown", row["unscored"], "", None, [])
    mark, place = tone(row["verdict"]), strip(axis, row["distance"])
    cells = [column(row) or Cell(name, MISSING) for name, column in COLUMNS if name in kept]
    return TableLine(row["name"], row["verdict"], mark, "", apart(row), place, cells)


def _with_gap(label: str, score: Record | None) -> Cell | None:
    """A score with its gap to retrained models below it; none where it was not measured."""
    if score is None:
        return None
    return Cell(label, fixed(score["value"], 2), signed(score["gap"]["value"]))


def _forget_quality(row: Record) -> Cell | None:
    found = row.get("forget_quality")
    return Cell("D", fixed(found["d"], 2)) if found else None


def _utility(row: Record) -> Cell:
    return Cell("Utility", fixed(row["utility"]["value"], 2), signed(row["utility"]["gap"]))


def _broken(row: Record) -> Cell | None:
    if not row["collapse"]:
        return None
    side, found = max(row["collapse"].items(), key=lambda each: each[1]["share"])
    return Cell("Broken", percent(found["share"]), side, collapsed(row))


COLUMNS: tuple[tuple[str, Callable[[Record], Cell | None]], ...] = (
    ("Forget", lambda row: Cell("Forget", fixed(row["distance"]["forget"], 2))),
    ("Retain", lambda row: Cell("Retain", fixed(row["distance"]["retain"], 2))),
    ("Says it", lambda row: _with_gap("Says it", row["scores"].get("rouge recall, forget"))),
    ("Likely", lambda row: _with_gap("Likely", row["scores"].get("probability, forget"))),
    ("D", _forget_quality),
    ("Utility", _utility),
    ("Attack", lambda row: _with_gap("Attack", row.get("membership", {}).get("loss"))),
    ("Broken", _broken),
    ("Cost", lambda row: _cost(row, row["control"])),
)
