"""The plane of both sides: distance on the forget set to the right, on what is kept upwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from expunge.report import prose
from expunge.report.language_answers import collapsed
from expunge.report.language_table import FARTHEST
from expunge.report.numbers import fixed
from expunge.report.plots import Axis, Tick
from expunge.report.scatter import (
    BOTTOM,
    SIGN,
    TALL,
    WIDTHS,
    Box,
    Label,
    Point,
    down,
    placed,
    short,
)

Record = Mapping[str, Any]


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
    points = [_point(row, across, up) for row in rows]
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
            name: list(placed([origin, *points], width, _blocked(y_ticks)))
            for name, width in WIDTHS.items()
        },
    )  # fmt: skip


def _blocked(ticks: Sequence[Tick]) -> list[Box]:
    """Where the numbers of the upright axis stand."""
    return [(0.0, tick.at - 18, 4 * SIGN, tick.at - 2) for tick in ticks]


def _axis(rows: Sequence[Record], side: str) -> Axis:
    # What fell apart would press all others into a corner; it stands at the edge and says so.
    whole = [row["distance"][side] for row in rows if not collapsed(row)]
    far = max([LEAST[side], *whole])
    return Axis(0.0, min(far, FARTHEST) * ROOM)


def _point(row: Record, across: Axis, up: Axis) -> Point:
    told = row["distance"]
    y = down(up, up.at(told["retain"]))
    arrow = " ↑" if told["retain"] > up.high else " →" if told["forget"] > across.high else ""
    name = short(row["name"]) + arrow
    return Point(name, across.at(told["forget"]), y, y, y, row["control"])


def _beyond(rows: Sequence[Record], axes: Mapping[str, Axis]) -> list[str]:
    """Rows that stand at the edge, with where they belong."""
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
