"""Cost against quality: one point a method, with labels that do not overlap."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from expunge.metrics.row_label import LARGEST_COST
from expunge.report.plots import Axis, Tick

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
    """Where the line of cost, the names of the lines and the ticks stand."""
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
        width: of the picture, in pixels. In a wider one labels only move apart.
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
    """Cut a name that is too long for a picture; the table has it whole."""
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
