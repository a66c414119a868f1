"""Every method's way: how likely the true answers are, epoch by epoch, on one scale for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from expunge.report import prose
from expunge.report.numbers import fixed

Record = Mapping[str, Any]


# Methods whose ways are shown without unfolding.
FEATURED = 8


# Of 100 above and below, free for the thickness of the line.
EDGE = 4.0


@dataclass(frozen=True)
class Way:
    """One row's curves in a box of 100 x 100, 0 below and 1 above; ends as "0.93 → 0.31"."""

    name: str
    forget: str
    retain: str
    level: float
    forget_ends: str
    retain_ends: str
    epochs: int


@dataclass(frozen=True)
class Ways:
    """The nearest rows, the others to unfold, and what was asked."""

    first: list[Way]
    others: list[Way]
    asked: str


def ways(summary: Record) -> Ways | None:
    """The way of every scored row that trains; none where nothing was written down on the way."""
    rows = [row for row in prose.scored(summary["rows"]) if row.get("trace", {}).get("epochs")]
    if not rows:
        return None
    told = rows[0]["trace"]
    names, counts = told["sets"], told["questions"]
    asked = (
        f"The first {counts['forget']} texts of the set {names['forget']} and "
        f"{counts['retain']} of {names['retain']}; means over models."
    )
    found = [_way(row["name"], row["trace"]) for row in rows]
    return Ways(found[:FEATURED], found[FEATURED:], asked)


def _way(name: str, told: Record) -> Way:
    sides = {side: [one[side] for one in told["records"]] for side in ("forget", "retain")}
    return Way(
        name,
        _path(sides["forget"]),
        _path(sides["retain"]),
        _height(told["retrained"]["forget"]),
        _ends(sides["forget"]),
        _ends(sides["retain"]),
        told["epochs"],
    )


def _path(values: Sequence[float]) -> str:
    last = len(values) - 1
    places = (f"{100 * i / last:.4g} {_height(value):g}" for i, value in enumerate(values))
    return "M" + "L".join(places)


def _height(value: float) -> float:
    """A probability's place from above."""
    return round(100 - EDGE - (100 - 2 * EDGE) * value, 2)


def _ends(values: Sequence[float]) -> str:
    return f"{fixed(values[0], 2)} → {fixed(values[-1], 2)}"
