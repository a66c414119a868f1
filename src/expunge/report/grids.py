"""Tables of every number of a language model experiment: by set, by attack, and by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from expunge.report import prose
from expunge.report.glossary import ATTACKS, MEANS, METRICS, set_title, tone
from expunge.report.numbers import (
    MISSING,
    THIN,
    figure,
    fixed,
    interval,
    percent,
    signed,
    with_interval,
)
from expunge.report.page_tables import Cell
from expunge.report.prose import apart

Record = Mapping[str, Any]


@dataclass(frozen=True)
class GridRow:
    """A row of numbers; `kind` is "anchor", "control" or ""."""

    name: str
    note: str
    kind: str
    cells: list[Cell]


@dataclass(frozen=True)
class Grid:
    """A table of numbers with its heads, each with a remark."""

    title: str
    note: str
    heads: list[tuple[str, str]]
    rows: list[GridRow]


def grids(summary: Record) -> list[Grid]:
    """Every gauge by set: both anchors first, then all rows, with intervals and gaps."""
    found: dict[str, list[Record]] = {}
    for gauge in summary["gauges"]:
        found.setdefault(gauge["set"], []).append(gauge)
    return [_grid(name, gauges, summary) for name, gauges in found.items()]


def _grid(name: str, gauges: Sequence[Record], summary: Record) -> Grid:
    able, sizes = prose.scored(summary["rows"]), summary["problem"]["asked"].get(name, {})
    heads = [
        (
            METRICS.get(gauge["metric"], str(gauge["metric"])),
            MEANS.get(gauge["metric"], str(gauge["unit"]))
            + ("" if gauge["counts"] else "; not in the distance"),
        )
        for gauge in gauges
    ]
    rows = [_gauges(row, gauges) for row in able]
    anchors = [_anchor(able[0], side, gauges) for side in ("oracle", "original")] if able else []
    note = f"set {name}, {sizes['side']} side, {sizes['questions']} questions" if sizes else name
    return Grid(set_title(name), note, heads, [*anchors, *rows])


def _anchor(row: Record, side: str, gauges: Sequence[Record]) -> GridRow:
    found = [row["scores"].get(gauge["name"]) for gauge in gauges]
    cells = [Cell("", with_interval(score[side], 2) if score else MISSING) for score in found]
    count = next((score[side]["n"] for score in found if score), 0)
    name = "retrained" if side == "oracle" else "original"
    return GridRow(name, f"anchor, n = {count}", "anchor", cells)


def _gauges(row: Record, gauges: Sequence[Record]) -> GridRow:
    found = [row["scores"].get(gauge["name"]) for gauge in gauges]
    cells = [_gapped(score) if score else Cell("", MISSING) for score in found]
    return _row(row, f"n = {row['distance']['n']}", cells)


def _gapped(score: Record) -> Cell:
    gap = score["gap"]
    ends = interval(gap["low"], gap["high"], 2)
    # An interval of the gap that holds 0 is as retrained models are, within noise.
    clear = gap["low"] > 0 or gap["high"] < 0
    return Cell("", with_interval(score, 2), f"gap {signed(gap['value'])} {ends}", clear)


def _row(row: Record, note: str, cells: list[Cell]) -> GridRow:
    return GridRow(row["name"], note, "control" if row["control"] else "", cells)


def leaks(summary: Record) -> Grid | None:
    """Membership inference of every row; none without a holdout."""
    able = [row for row in prose.scored(summary["rows"]) if "membership" in row]
    if not able:
        return None
    names = list(able[0]["membership"])
    names.sort(key=lambda name: list(ATTACKS).index(name) if name in ATTACKS else len(ATTACKS))
    heads = [(ATTACKS.get(name, name), "area") for name in names]
    first = able[0]["membership"]
    anchors = [
        GridRow(name, "anchor", "anchor", [Cell("", fixed(first[one][side], 2)) for one in names])
        for name, side in (("retrained", "oracle"), ("original", "original"))
    ]
    rows = [
        _row(row, f"n = {row['distance']['n']}", [_leak(row["membership"], one) for one in names])
        for row in able
    ]
    return Grid("Membership inference", "", heads, [*anchors, *rows])


def _leak(found: Record, name: str) -> Cell:
    if name not in found:
        return Cell("", MISSING)
    score = found[name]
    gap, leak = score["gap"], score["privleak"]
    said = MISSING if leak is None else signed(leak, 1) + THIN + "%"
    ends = interval(gap["low"], gap["high"], 2)
    clear = gap["low"] > 0 or gap["high"] < 0
    return Cell(
        "", fixed(score["value"], 2), f"gap {signed(gap['value'])} {ends}\nPrivLeak {said}", clear
    )


def qualities(summary: Record) -> Grid | None:
    """Forget quality of every row, D first; none where there are no wrong answers."""
    able = [row for row in prose.scored(summary["rows"]) if "forget_quality" in row]
    if not able:
        return None
    heads = [("D", "0 is best"), ("Range", "over pairs of models"), ("p", "legacy, median")]
    return Grid("Forget quality", "", heads, [_quality_row(row) for row in able])


def _quality_row(row: Record) -> GridRow:
    score = row["forget_quality"]
    cells = [
        Cell("", fixed(score["d"], 3)),
        Cell("", f"{fixed(score['lowest'], 3)} to {fixed(score['highest'], 3)}"),
        Cell("", chance(score["legacy_p"])),
    ]
    return _row(row, f"n = {score['n']}", cells)


def chance(p: float) -> str:
    """Return a p-value; a very small one as a bound."""
    return f"<{THIN}0.001" if p < 0.001 else fixed(p, 3)


@dataclass(frozen=True)
class RowDetails:
    """Everything about one row, to unfold."""

    name: str
    verdict: str
    tone: str
    sentence: str
    facts: list[tuple[str, str]]


def details(summary: Record) -> list[RowDetails]:
    """One a row, in the order of the table."""
    return [
        RowDetails(
            row["name"], row["verdict"], tone(row["verdict"]), row["sentence"],
            list(_facts(row, summary)),
        )
        for row in summary["rows"]
    ]  # fmt: skip


def _facts(row: Record, summary: Record) -> Iterator[tuple[str, str]]:
    if row["source"]:
        yield "Source", row["source"]
    for doubt in summary["doubts"].get(row["name"], ()):
        yield "Doubt", doubt
    if "unscored" in row:
        yield "Unscored", row["unscored"]
        return
    for flag in row["flags"]:
        yield "Heed", flag
    found, cost = row["distance"], row["cost"]
    each = ", ".join(fixed(value, 2) for value in found["of_models"])
    yield "Distance", f"{apart(row)}, n = {found['n']}; of single models {each}"
    yield "Sides", f"forget {fixed(found['forget'], 2)}, retain {fixed(found['retain'], 2)}"
    use, share = row["utility"], percent(cost["time_share"])
    ends = f"{fixed(use['value'], 3)}, retrained {fixed(use['oracle'], 3)}"
    yield "Utility", f"{ends}; gap {signed(use['gap'], 3)}"
    taken = f"{figure(cost['seconds'])}{THIN}s a model, {share} of retraining's time"
    yield "Cost", f"{taken}; {percent(cost['examples_share'])} of its examples"
    moved = f"moved by {percent(cost['moved'])} of their length"
    yield "Weights", f"{percent(cost['touched'])} touched, {moved}"
