"""Small multiples: epsilons, signals of single examples, losses and probabilities by epoch."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from expunge.metrics.challenge.quality import BIN
from expunge.metrics.challenge.thresholds import CAP
from expunge.report import prose
from expunge.report.numbers import figure, fixed, percent
from expunge.report.plots import BINS, HEIGHT, Axis, bars, heights, line

Record = Mapping[str, Any]

# Methods whose signals are shown without unfolding.
FEATURED = 3

# Smaller images are drawn with whole pixels.
COARSE = 64


@dataclass(frozen=True)
class Epsilons:
    """The epsilons of one method: paths in a box of 100 x 100, and a sentence."""

    name: str
    earning: str
    lost: str
    oracle: str
    said: str


@dataclass(frozen=True)
class SignalPanel:
    """The signal of one method on one example, mirrored at the middle: theirs up, mine down."""

    name: str
    retrained: str
    unlearned: str
    said: str


@dataclass(frozen=True)
class Example:
    """One forget example: its image and the signals of the models."""

    number: int
    label: str
    image: str
    width: int
    original: float
    original_said: str
    ends: tuple[str, str]
    featured: list[SignalPanel]
    others: list[SignalPanel]


@dataclass(frozen=True)
class TrainingCurve:
    """The mean loss of one step of a method over its epochs."""

    name: str
    step: str
    count: int
    first: str
    last: str
    path: str


def last_bin(models: int) -> int:
    """Return the epsilon from which on an example earns nothing, as the challenge's bins end."""
    return max(math.ceil(math.log(models - 1)), 1)


def shares(epsilons: Sequence[float], end: int) -> list[float]:
    """Return the share of examples in each bin up to `end`, then beyond it, then capped."""
    edges = [i * BIN for i in range(round(end / BIN) + 1)]
    counts = np.histogram([e for e in epsilons if e < end], np.array(edges))[0]
    beyond = sum(end <= e < CAP for e in epsilons)
    capped = sum(e >= CAP for e in epsilons)
    return [float(count) / len(epsilons) for count in (*counts, beyond, capped)]


def epsilon_panels(rows: Sequence[Record], end: int) -> list[Epsilons]:
    """One panel a scored row, on one scale, the retrained models' outline in each.

    Args:
        rows: of a summary.
        end: the epsilon from which on an example scores nothing.
    """
    able = prose.scored(rows)
    found = {row["name"]: shares(row["epsilons"], end) for row in able}
    # Every example distinguishes the original: its bar would flatten all others.
    top = max(share for name, each in found.items() if name != "nothing" for share in each)
    return [_epsilon_panel(row, found[row["name"]], found["retrain"], top) for row in able]


def _epsilon_panel(
    row: Record, mine: Sequence[float], theirs: Sequence[float], top: float
) -> Epsilons:
    """The last two bins earn nothing and are drawn apart."""
    earns = len(mine) - 2
    return Epsilons(
        name=row["name"],
        earning=bars([*mine[:earns], 0.0, 0.0], top),
        lost=bars([0.0] * earns + list(mine[earns:]), top),
        oracle=bars(theirs, top),
        said=f"median {figure(float(np.median(row['epsilons'])))}, "
        f"{percent(mine[-2] + mine[-1])} score 0",
    )


def gallery(summary: Record) -> list[Example]:
    """The examples with their images; the best methods first, the others to unfold."""
    best = [row["name"] for row in prose.scored(prose.groups(summary)[1])][:FEATURED]
    return [_example(entry, ["retrain", *best, "sham"]) for entry in summary["gallery"]]


def _example(entry: Record, featured: Sequence[str]) -> Example:
    names = [name for name in featured if name in entry["unlearned"]]
    others = [name for name in entry["unlearned"] if name not in names]
    seen = [entry["original"], *entry["retrained"]]
    seen += [value for name in names for value in entry["unlearned"][name]]
    low, high = min(seen), max(seen)
    axis = Axis(low, high if high > low else low + 1.0)
    return Example(
        number=entry["example"],
        label=entry["class"],
        image=png(entry["picture"]),
        width=len(entry["picture"][0][0]),
        original=axis.at(entry["original"]),
        original_said=figure(entry["original"]),
        ends=(figure(axis.low), figure(axis.high)),
        featured=[_signals(name, entry, axis) for name in names],
        others=[_signals(name, entry, axis) for name in others],
    )


def _signals(name: str, entry: Record, axis: Axis) -> SignalPanel:
    """Both distributions over the width of the axis; values beyond stand in the end bins."""
    # In percent of the width, so that the bars agree with the mark of the original.
    edges = [100 * i / BINS for i in range(BINS + 1)]
    sides = entry["retrained"], entry["unlearned"][name]
    theirs, mine = (heights([axis.at(value) for value in side], edges) for side in sides)
    top, middle = max(*theirs, *mine), HEIGHT / 2
    medians = [figure(float(np.median(side))) for side in sides]
    return SignalPanel(
        name=name,
        retrained=bars(theirs, top, base=middle),
        unlearned=bars(mine, top, base=middle, up=False),
        said=f"median {medians[1]}, retrained {medians[0]}",
    )


def png(values: Sequence[Sequence[Sequence[int]]]) -> str:
    """Return an image [c][h][w], 0 to 255, one channel or three, as base64 of a PNG."""
    from PIL import Image

    pixels = np.asarray(values, dtype=np.uint8).transpose(1, 2, 0)
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    held = io.BytesIO()
    image.save(held, "PNG")
    return base64.b64encode(held.getvalue()).decode()


def curves(rows: Sequence[Record]) -> list[TrainingCurve]:
    """The loss of every step of every scored row that trains."""
    return [
        _curve(row["name"], place, losses)
        for row in prose.scored(rows)
        for place, losses in by_step(row["cost"]["curve"]).items()
    ]


def by_step(curve: Sequence[Sequence[Any]]) -> dict[str, list[float]]:
    """Return the losses of each step: those that take turns have each a loss of their own."""
    found: dict[str, list[float]] = {}
    for place, _, loss in curve:
        found.setdefault(place, []).append(loss)
    return found


def _curve(name: str, place: str, losses: Sequence[float]) -> TrainingCurve:
    path = line(losses) if len(losses) > 1 else ""
    ends = figure(losses[0]), figure(losses[-1])
    return TrainingCurve(name, step_name(place), len(losses), *ends, path)


def step_name(place: str) -> str:
    """Return the place of a step as people count: "/1/0" is "2.1"."""
    parts = [part for part in place.split("/") if part]
    return ".".join(str(int(part) + 1) if part.isdecimal() else part for part in parts)


# Methods whose probability_curves are shown without unfolding.
FEATURED_CURVES = 8

# Of 100 above and below, free for the thickness of the line.
EDGE = 4.0


@dataclass(frozen=True)
class ProbabilityCurve:
    """One row's curves in a box of 100 x 100, 0 below and 1 above; ends as "0.93 → 0.31"."""

    name: str
    forget: str
    retain: str
    level: float
    forget_ends: str
    retain_ends: str
    epochs: int


@dataclass(frozen=True)
class ProbabilityCurves:
    """The nearest rows, the others to unfold, and what was asked."""

    first: list[ProbabilityCurve]
    others: list[ProbabilityCurve]
    about: str


def probability_curves(summary: Record) -> ProbabilityCurves | None:
    """The way of every scored row that trains; none where nothing was written down on the way."""
    rows = [row for row in prose.scored(summary["rows"]) if row.get("trace", {}).get("epochs")]
    if not rows:
        return None
    trace = rows[0]["trace"]
    names, counts = trace["sets"], trace["questions"]
    about = (
        f"The first {counts['forget']} texts of the set {names['forget']} and "
        f"{counts['retain']} of {names['retain']}; means over models."
    )
    found = [_probability_curve(row["name"], row["trace"]) for row in rows]
    return ProbabilityCurves(found[:FEATURED_CURVES], found[FEATURED_CURVES:], about)


def _probability_curve(name: str, trace: Record) -> ProbabilityCurve:
    sides = {side: [one[side] for one in trace["records"]] for side in ("forget", "retain")}
    return ProbabilityCurve(
        name,
        _path(sides["forget"]),
        _path(sides["retain"]),
        _height(trace["retrained"]["forget"]),
        _ends(sides["forget"]),
        _ends(sides["retain"]),
        trace["epochs"],
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
