"""Points in a plane with labels that do not overlap: cost and quality, forget and retain side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from expunge.metrics.row_label import LARGEST_COST
from expunge.report import prose
from expunge.report.numbers import fixed
from expunge.report.page_tables import FARTHEST
from expunge.report.plots import Axis, Tick
from expunge.report.prose import collapsed

Record = Mapping[str, Any]

# Pixels. Labels are placed for a phone and for a page; the style sheet shows one of the two.
TALL = 340

TOP, BOTTOM = 34, 34

WIDTHS = {"narrow": 326, "wide": 900}

# Advance of a sign and height of a line at 12 pixels; generous, since fonts differ.
SIGN, LINE = 6.9, 14

LONGEST = 18


Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Label:
    """Where a label stands, in pixels from its point, and the side of the text that is fixed."""

    text: str
    dx: float
    dy: float
    anchor: str
    leader: bool


@dataclass(frozen=True)
class Point:
    """A method: x in percent of the width, y and the ends of its interval in pixels."""

    name: str
    x: float
    y: float
    low: float
    high: float
    control: bool


@dataclass(frozen=True)
class ScoreBand:
    """A value with the ends of its interval, in pixels from above."""

    y: float
    low: float
    high: float


@dataclass(frozen=True)
class Scatter:
    """All that the template draws: points, the lines to read them by, and labels by width."""

    points: list[Point]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    cost_line: float
    ceiling: ScoreBand
    floor: float
    labels: dict[str, list[tuple[Point, Label]]] = field(default_factory=dict)
    height: int = TALL


def scatter(rows: Sequence[Mapping[str, Any]], ceiling: Mapping[str, Any], floor: float) -> Scatter:
    """Lay out cost and quality of all scored rows, the retrained models as a band.

    Args:
        rows: scored rows of a summary, the best first: they get the nearest labels.
        ceiling: quality of held-out retrained models.
        floor: quality of the original.
    """
    shown = [row for row in rows if row["name"] != "retrain"]
    dearest = max([row["cost"]["time_share"] for row in shown], default=0.0)
    across = Axis(0.0, max(dearest, 1.25 * LARGEST_COST))
    highest = max([ceiling["high"], *(row["scores"]["quality"]["high"] for row in shown)])
    up = Axis(0.0, max(highest * 1.06, 1e-3))
    found = Scatter(
        points=[_point(row, across, up) for row in shown],
        x_ticks=across.ticks(as_percent=True),
        y_ticks=[Tick(down(up, tick.at), tick.label) for tick in up.ticks()],
        cost_line=across.at(LARGEST_COST),
        ceiling=ScoreBand(*(down(up, up.at(ceiling[side])) for side in ("value", "low", "high"))),
        floor=down(up, up.at(floor)),
    )
    labels = {
        name: list(placed(found.points, width, _blocked(found, width)))
        for name, width in WIDTHS.items()
    }
    return replace(found, labels=labels)


def _blocked(drawn: Scatter, width: float) -> list[Box]:
    """Where the line of cost, the names of the lines and the ticks are."""
    line = drawn.cost_line / 100 * width
    named = [(drawn.ceiling.y, 20 * SIGN), (drawn.floor, 17 * SIGN)]
    return [
        (line - 2, 0.0, line + 2, float(TALL)),
        *((width - long, y - LINE - 4, width, y) for y, long in named),
        *((0.0, tick.at - LINE - 4, 4 * SIGN, tick.at - 2) for tick in drawn.y_ticks),
    ]


def down(axis: Axis, at: float) -> float:
    """Pixels from above of a place in percent from below."""
    ends = axis.at(axis.low), axis.at(axis.high)
    share = (at - ends[0]) / (ends[1] - ends[0])
    return round(TALL - BOTTOM - share * (TALL - TOP - BOTTOM), 1)


def _point(row: Mapping[str, Any], across: Axis, up: Axis) -> Point:
    """The point of one row."""
    quality = row["scores"]["quality"]
    y, low, high = (down(up, up.at(quality[side])) for side in ("value", "low", "high"))
    return Point(row["name"], across.at(row["cost"]["time_share"]), y, low, high, row["control"])


def placed(
    points: Sequence[Point], width: float, blocked: Sequence[Box] = ()
) -> Iterator[tuple[Point, Label]]:
    """Give each point, in turn, the first place for its label that is free; none if none is.

    Args:
        points: the most important first.
        width: of the plot, in pixels. In a wider one labels only move apart.
        blocked: places of other words and lines.
    """
    taken = [*(_around(point, width) for point in points), *blocked]
    for point in points:
        for label in candidates(short(point.name)):
            box = _box(point, label, width)
            if _inside(box, width) and not any(_meet(box, other) for other in taken):
                taken.append(box)
                yield point, label
                break


def short(name: str) -> str:
    """Cut a name that is too long for a plot; the table has it whole."""
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"


def candidates(text: str) -> Iterator[Label]:
    """Places for a label: beside the point, then farther up and down with a line that leads."""
    for anchor, dx in (("start", 8.0), ("end", -8.0)):
        yield Label(text, dx, 4.0, anchor, False)
    for far in range(1, 12):
        for dy in (-far * LINE, far * LINE):
            for anchor, dx in (("middle", 0.0), ("start", 10.0), ("end", -10.0)):
                yield Label(text, dx, dy + 4.0, anchor, far > 1 or dx != 0)


def _around(point: Point, width: float) -> Box:
    x = point.x / 100 * width
    return x - 6, point.y - 6, x + 6, point.y + 6


def _box(point: Point, label: Label, width: float) -> Box:
    long = SIGN * len(label.text)
    before = {"start": 0.0, "middle": long / 2, "end": long}[label.anchor]
    left = point.x / 100 * width + label.dx - before
    base = point.y + label.dy
    return left, base - LINE + 3, left + long, base + 3


def _inside(box: Box, width: float) -> bool:
    return box[0] >= 0 and box[2] <= width and box[1] >= TOP and box[3] <= TALL - BOTTOM + 4


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


# The axes show at least the original, and enough of the retain side to see a small loss.
LEAST = {"forget": 1.1, "retain": 0.3}

ROOM = 1.08


@dataclass(frozen=True)
class Ring:
    """All points at one distance from the oracle: half-axes in percent and in pixels."""

    across: float
    up: float
    name: str
    kind: str


@dataclass(frozen=True)
class Plane:
    """All that the template draws; x in percent of the width, y in pixels."""

    points: list[Point]
    edge: list[str]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    x0: float
    y0: float
    rings: list[Ring]
    labels: dict[str, list[tuple[Point, Label]]]
    height: int = TALL
    bottom: int = TALL - BOTTOM


def plane(summary: Record) -> Plane:
    """Lay out every scored row by both sides of its distance; the oracle is at (0, 0)."""
    # Nearest first: these get the nearest labels.
    rows = prose.scored(summary["rows"])
    axes = {side: _axis(rows, side) for side in LEAST}
    across, up = axes["forget"], axes["retain"]
    points = [_plane_point(row, across, up) for row in rows]
    x0, y0 = across.at(0.0), down(up, up.at(0.0))
    origin = Point("retrained (0, 0)", x0, y0, y0, y0, True)
    y_ticks = [Tick(down(up, tick.at), tick.label) for tick in up.ticks()]
    return Plane(
        points=points,
        edge=_beyond(rows, axes),
        x_ticks=across.ticks(),
        y_ticks=y_ticks,
        x0=x0,
        y0=y0,
        rings=[
            _ring(summary[name]["value"], name, across, up) for name in ("ceiling", "floor")
        ],
        labels={
            name: list(placed([origin, *points], width, _axis_numbers(y_ticks)))
            for name, width in WIDTHS.items()
        },
    )  # fmt: skip


def _axis_numbers(ticks: Sequence[Tick]) -> list[Box]:
    """Where the numbers of the upright axis are."""
    return [(0.0, tick.at - 18, 4 * SIGN, tick.at - 2) for tick in ticks]


def _axis(rows: Sequence[Record], side: str) -> Axis:
    # A model that fell apart would press all others into a corner; it is drawn at the edge.
    whole = [row["distance"][side] for row in rows if not collapsed(row)]
    far = max([LEAST[side], *whole])
    return Axis(0.0, min(far, FARTHEST) * ROOM)


def _plane_point(row: Record, across: Axis, up: Axis) -> Point:
    found = row["distance"]
    y = down(up, up.at(found["retain"]))
    arrow = " ↑" if found["retain"] > up.high else " →" if found["forget"] > across.high else ""
    name = short(row["name"]) + arrow
    return Point(name, across.at(found["forget"]), y, y, y, row["control"])


def _beyond(rows: Sequence[Record], axes: Mapping[str, Axis]) -> list[str]:
    """Rows that are drawn at the edge, with where they belong."""
    return [
        f"{prose.inline(row['name'])} ({fixed(row['distance']['forget'], 2)}, "
        f"{fixed(row['distance']['retain'], 2)})"
        for row in rows
        if any(row["distance"][side] > axis.high for side, axis in axes.items())
    ]


def _ring(radius: float, kind: str, across: Axis, up: Axis) -> Ring:
    """The points as far from the oracle as an anchor; axes end before it may."""
    wide = (across.at(across.high) - across.at(0.0)) / across.high * radius
    tall = (down(up, up.at(0.0)) - down(up, up.at(up.high))) / up.high * radius
    name = "as far as other retrained models" if kind == "ceiling" else "as far as the original"
    return Ring(round(wide, 2), round(tall, 1), name, kind)
