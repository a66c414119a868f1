"""The ranking: which methods part from which, by the challenge's score and its intervals.

A rank is claimed only where intervals part: a method's rank is one more than the number of methods
whose whole interval lies above its own, so that methods which cannot be told apart share one.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from expunge.metrics.row_label import LARGEST_COST

# A method's epochs are counted in whole minibatches, which may exceed the cap by a few examples.
CAP = LARGEST_COST * 1.025


# A broken model may lie nearer to retrained ones than any other, and is of no use to anybody.
BROKEN = "collapsed"


COLUMNS = ("rank", "method", "score", "of the way", "retain", "test", "read", "time", "verdict")


@dataclass(frozen=True)
class Place:
    """One row of the ranking.

    Args:
        rank: 1 is best; equal where intervals overlap with the same rows above; None for controls,
            methods above the cost cap, collapsed ones, and methods without a score.
        name: the method.
        score, low, high: the challenge's score with its 95 % interval.
        way: (score - floor) / (ceiling - floor), with the interval scaled alike; floor and ceiling
            are taken as they are, so their own noise is not in it.
        read: examples read, as a share of retraining's; what the cap is judged by.
        time: measured time, as a share of retraining's.
        row: all other numbers.
        why: why there is no rank; empty where there is one.
    """

    rank: int | None
    name: str
    score: float
    low: float
    high: float
    way: tuple[float, float, float]
    read: float
    time: float
    row: Mapping[str, Any]
    why: str = ""


def ranking(summary: Mapping[str, Any]) -> list[Place]:
    """All rows of an experiment's summary, the best rank first, then what has no rank."""
    anchors = {row["name"]: _scored(row)[0] for row in summary["rows"][:2]}
    rows = [row for row in summary["rows"] if "unscored" not in row]
    judged = [row for row in rows if not without_rank(row)]
    places = [_place(row, judged, anchors["nothing"], anchors["retrain"]) for row in rows]
    return sorted(places, key=lambda p: (p.rank is None, p.rank or 0, -p.score))


def without_rank(row: Mapping[str, Any]) -> str:
    """Why a row takes no rank; empty when it does."""
    if row["control"]:
        return "control"
    if row["cost"]["examples_share"] > CAP:
        return f"above {LARGEST_COST:.0%} of retraining's cost"
    return BROKEN if row["verdict"] == BROKEN else ""


def _scored(row: Mapping[str, Any]) -> tuple[float, float, float]:
    """The challenge's score and its interval; forgetting quality where there is no test set."""
    found = row["scores"].get("score", row["scores"]["quality"])
    return found["value"], found["low"], found["high"]


def _place(
    row: Mapping[str, Any], judged: Sequence[Mapping[str, Any]], floor: float, ceiling: float
) -> Place:
    value, low, high = _scored(row)
    above = sum(_scored(other)[1] > high for other in judged)
    why = without_rank(row)
    span = ceiling - floor
    way = tuple((one - floor) / span if span > 0 else 0.0 for one in (value, low, high))
    cost = row["cost"]
    shares = cost["examples_share"], cost["time_share"]
    name, rank = row["name"], None if why else 1 + above
    return Place(rank, name, value, low, high, way, *shares, row, why)  # type: ignore[arg-type]


def cells(place: Place) -> tuple[str, ...]:
    """One row as text."""
    scores = place.row["scores"]
    way, low, high = place.way
    return (
        "-" if place.rank is None else str(place.rank),
        place.name,
        f"{place.score:.4f} [{place.low:.4f}, {place.high:.4f}]",
        f"{way:.2f} [{low:.2f}, {high:.2f}]",
        *(_accuracy(scores, name) for name in ("retain", "test")),
        f"{place.read:.0%}",
        f"{place.time:.0%}",
        place.why or place.row["verdict"],
    )


def _accuracy(scores: Mapping[str, Any], name: str) -> str:
    found = scores.get(f"accuracy_{name}")
    if found is None:
        return "-"
    return f"{100 * found['value']:.1f} ({100 * (found['value'] - found['oracle']):+.1f})"


def legend(summary: Mapping[str, Any]) -> str:
    """How to read a ranking."""
    experiment, hardware = summary["experiment"], summary["hardware"]
    return (
        f"{experiment['name']}: forget set {experiment['forget']}, n = {experiment['members']} "
        f"models a row and as many oracles, protocol {experiment['protocol']}, rule "
        f"{experiment['rule']}. score: the challenge's, F times the retain and test accuracies' "
        "ratios, with a 95 % interval over models; of the way: 0 = the original, 1 = held-out "
        "retrained models; rank: 1 + the methods whose interval lies wholly above, controls, dear "
        "and collapsed ones apart; accuracies in %, with the gap to retrained; read and time: "
        "examples read and time taken, as shares of "
        f"retraining's. {hardware['processor']}, {hardware['cores']} cores."
    )


def draw(summary: Mapping[str, Any], console: Console) -> None:
    """Print the ranking of one experiment."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in ("method", "verdict") else "right")
    for place in ranking(summary):
        table.add_row(*(Text(cell) for cell in cells(place)))
    console.print(table)
    for row in summary["rows"]:
        if "unscored" in row:
            console.print(Text(f"{row['name']}: unscored, {row['unscored']}"))
    console.print(Text(legend(summary)))


def plain(summary: Mapping[str, Any], width: int = 160) -> str:
    """The ranking as text."""
    text = io.StringIO()
    draw(summary, Console(file=text, width=width, color_system=None, legacy_windows=False))
    return text.getvalue()


def markdown(summary: Mapping[str, Any], first: int | None = None) -> str:
    """The ranking as a table in Markdown: all of it, or its first rows and the controls."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    places = ranking(summary)
    kept = [p for p in places if p.rank is not None][:first]
    kept += [p for p in places if p.rank is None and (first is None or p.row["control"])]
    lines += [f"| {' | '.join(cells(place))} |" for place in kept]
    return "\n".join(lines) + "\n"
