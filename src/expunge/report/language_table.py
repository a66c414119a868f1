"""The tables of the page on language models: what stands in each cell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from expunge.metrics.row_label import LARGEST_COST
from expunge.report import prose
from expunge.report.language_answers import collapsed
from expunge.report.language_prose import apart
from expunge.report.language_words import ATTACKS, MEANS, METRICS, set_title, tone
from expunge.report.numbers import MINUS, THIN, figure, fixed, interval, percent, with_interval
from expunge.report.page_table import Cell, Table, TableLine, doubts
from expunge.report.plots import Axis, strip

Record = Mapping[str, Any]


# Distances beyond this stand at the edge of a picture: a model that fell apart may be anywhere.
FARTHEST = 1.5


MISSING = "–"


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


def table(summary: Record) -> Table:
    """Lay out the main table: distance between the anchors, then what it is made of."""
    able = prose.scored(summary["rows"])
    highest = max(summary[side]["high"] for side in ("ceiling", "floor"))
    highest = max([highest, *(row["distance"]["high"] for row in able)])
    axis = Axis(0.0, max(min(highest, FARTHEST), 1e-3))
    kept = [column for column in COLUMNS if any(column[1](row) for row in able)]
    lines = {
        side: [_line(row, axis, kept) for row in summary["rows"] if row["control"] is side]
        for side in (True, False)
    }
    beyond = [row["name"] for row in able if row["distance"]["high"] > axis.high]
    return Table(
        heads=[name for name, _ in kept],
        controls=lines[True],
        methods=lines[False],
        axis=axis,
        ceiling=strip(axis, summary["ceiling"]),
        floor=strip(axis, summary["floor"]),
        notes=[*_beyond(beyond, axis), *doubts(summary)],
    )


def _beyond(names: Sequence[str], axis: Axis) -> list[str]:
    if not names:
        return []
    said = ", ".join(prose.inline(name) for name in names)
    return [f"Reaches beyond {fixed(axis.high, 1)}, where the picture ends: {said}."]


def _line(row: Record, axis: Axis, kept: Sequence[tuple[str, Column]]) -> TableLine:
    if "unscored" in row:
        return TableLine(row["name"], row["verdict"], "unknown", row["unscored"], "", None, [])
    cells = [column(row) or Cell(name, MISSING) for name, column in kept]
    place = strip(axis, row["distance"])
    return TableLine(
        row["name"], row["verdict"], tone(row["verdict"]), "", apart(row), place, cells
    )


Column = Callable[[Record], "Cell | None"]


def gap(value: float, places: int = 2) -> str:
    """Return a difference with its sign."""
    said = fixed(value, places)
    return said if said.startswith(MINUS) or not float(said) else f"+{said}"


def _forget(row: Record) -> Cell | None:
    return Cell("Forget", fixed(row["distance"]["forget"], 2))


def _retain(row: Record) -> Cell | None:
    return Cell("Retain", fixed(row["distance"]["retain"], 2))


def _says(row: Record) -> Cell | None:
    return _gauge(row, "rouge recall, forget", "Says it")


def _likely(row: Record) -> Cell | None:
    return _gauge(row, "probability, forget", "Likely")


def _gauge(row: Record, name: str, label: str) -> Cell | None:
    if name not in row["scores"]:
        return None
    told = row["scores"][name]
    return Cell(label, fixed(told["value"], 2), gap(told["gap"]["value"]))


def _quality(row: Record) -> Cell | None:
    found = row.get("forget_quality")
    return Cell("D", fixed(found["d"], 2)) if found else None


def _utility(row: Record) -> Cell | None:
    told = row["utility"]
    return Cell("Utility", fixed(told["value"], 2), gap(told["gap"]))


def _attack(row: Record) -> Cell | None:
    told = row.get("membership", {}).get("loss")
    return Cell("Attack", fixed(told["value"], 2), gap(told["gap"]["value"])) if told else None


def _broken(row: Record) -> Cell | None:
    if not row["collapse"]:
        return None
    side, told = max(row["collapse"].items(), key=lambda found: found[1]["share"])
    return Cell("Broken", percent(told["share"]), side, collapsed(row))


def _cost(row: Record) -> Cell | None:
    share = row["cost"]["time_share"]
    heed = share > LARGEST_COST and not row["control"]
    return Cell("Cost", percent(share), f"over {percent(LARGEST_COST)}" if heed else "", heed)


COLUMNS: tuple[tuple[str, Column], ...] = (
    ("Forget", _forget), ("Retain", _retain), ("Says it", _says), ("Likely", _likely),
    ("D", _quality), ("Utility", _utility), ("Attack", _attack), ("Broken", _broken),
    ("Cost", _cost),
)  # fmt: skip


def grids(summary: Record) -> list[Grid]:
    """Every gauge by set: both anchors first, then all rows, with intervals and gaps."""
    found: dict[str, list[Record]] = {}
    for gauge in summary["gauges"]:
        found.setdefault(gauge["set"], []).append(gauge)
    return [_grid(name, gauges, summary) for name, gauges in found.items()]


def _grid(name: str, gauges: Sequence[Record], summary: Record) -> Grid:
    able, told = prose.scored(summary["rows"]), summary["problem"]["asked"].get(name, {})
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
    note = f"set {name}, {told['side']} side, {told['questions']} questions" if told else name
    return Grid(set_title(name), note, heads, [*anchors, *rows])


def _anchor(row: Record, side: str, gauges: Sequence[Record]) -> GridRow:
    found = [row["scores"].get(gauge["name"]) for gauge in gauges]
    cells = [Cell("", with_interval(told[side], 2) if told else MISSING) for told in found]
    count = next((told[side]["n"] for told in found if told), 0)
    name = "retrained" if side == "oracle" else "original"
    return GridRow(name, f"anchor, n = {count}", "anchor", cells)


def _gauges(row: Record, gauges: Sequence[Record]) -> GridRow:
    found = [row["scores"].get(gauge["name"]) for gauge in gauges]
    cells = [_gapped(told) if told else Cell("", MISSING) for told in found]
    return _row(row, f"n = {row['distance']['n']}", cells)


def _gapped(told: Record) -> Cell:
    apart = told["gap"]
    ends = interval(apart["low"], apart["high"], 2)
    # An interval of the gap that holds 0 is as retrained models are, within noise.
    clear = apart["low"] > 0 or apart["high"] < 0
    return Cell("", with_interval(told, 2), f"gap {gap(apart['value'])} {ends}", clear)


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
    told = found[name]
    apart, leak = told["gap"], told["privleak"]
    said = MISSING if leak is None else gap(leak, 1) + THIN + "%"
    ends = interval(apart["low"], apart["high"], 2)
    clear = apart["low"] > 0 or apart["high"] < 0
    return Cell(
        "", fixed(told["value"], 2), f"gap {gap(apart['value'])} {ends}\nPrivLeak {said}", clear
    )


def qualities(summary: Record) -> Grid | None:
    """Forget quality of every row, D first; none where there are no wrong answers."""
    able = [row for row in prose.scored(summary["rows"]) if "forget_quality" in row]
    if not able:
        return None
    heads = [("D", "0 is best"), ("Range", "over pairs of models"), ("p", "legacy, median")]
    return Grid("Forget quality", "", heads, [_quality_row(row) for row in able])


def _quality_row(row: Record) -> GridRow:
    told = row["forget_quality"]
    cells = [
        Cell("", fixed(told["d"], 3)),
        Cell("", f"{fixed(told['lowest'], 3)} to {fixed(told['highest'], 3)}"),
        Cell("", chance(told["legacy_p"])),
    ]
    return _row(row, f"n = {told['n']}", cells)


def chance(p: float) -> str:
    """Return a p-value; a very small one as a bound."""
    return f"<{THIN}0.001" if p < 0.001 else fixed(p, 3)


@dataclass(frozen=True)
class AttackSheet:
    """Everything about one row, to unfold."""

    name: str
    verdict: str
    tone: str
    sentence: str
    facts: list[tuple[str, str]]


def dossiers(summary: Record) -> list[AttackSheet]:
    """One a row, in the order of the table."""
    return [
        AttackSheet(
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
    told, cost = row["distance"], row["cost"]
    each = ", ".join(fixed(value, 2) for value in told["of_models"])
    yield "Distance", f"{apart(row)}, n = {told['n']}; of single models {each}"
    yield "Sides", f"forget {fixed(told['forget'], 2)}, retain {fixed(told['retain'], 2)}"
    use, share = row["utility"], percent(cost["time_share"])
    ends = f"{fixed(use['value'], 3)}, retrained {fixed(use['oracle'], 3)}"
    yield "Utility", f"{ends}; gap {gap(use['gap'], 3)}"
    taken = f"{figure(cost['seconds'])}{THIN}s a model, {share} of retraining's time"
    yield "Cost", f"{taken}; {percent(cost['examples_share'])} of its examples"
    moved = f"moved by {percent(cost['moved'])} of their length"
    yield "Weights", f"{percent(cost['touched'])} touched, {moved}"
