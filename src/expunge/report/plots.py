"""Axes, intervals, bars and lines of the plots as places; the templates write the SVG.

Drawn by template and not by Matplotlib: lengths along a plot are shares of its width, so that
one plot fits a phone and a page with text of the same size; colours come from the style sheet,
so that dark mode and print have their own; and the same numbers give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from expunge.report.numbers import fixed, percent

# Shares of the width that stay free at both ends, so that marks at the ends are whole.
MARGIN = 3.0


HEIGHT = 100.0


BINS = 20


@dataclass(frozen=True)
class Tick:
    """A place on an axis, in percent of the width, and its label."""

    at: float
    label: str


@dataclass(frozen=True)
class Axis:
    """A linear scale from a range of values to percent of the width."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """Return the place of a value, in percent; values beyond stand at the end."""
        share = (value - self.low) / (self.high - self.low)
        return round(MARGIN + (100 - 2 * MARGIN) * min(max(share, 0.0), 1.0), 2)

    def ticks(self, about: int = 4, as_percent: bool = False) -> list[Tick]:
        """Return round values within the range, about so many."""
        step = round_step((self.high - self.low) / about)
        first, last = math.ceil(self.low / step), math.floor(self.high / step + 1e-9)
        # As many decimals as the step needs, the same for all.
        places = max(0, -math.floor(math.log10(step * (100 if as_percent else 1)) + 1e-9))
        say = percent if as_percent else fixed
        return [Tick(self.at(i * step), say(i * step, places)) for i in range(first, last + 1)]


def round_step(least: float) -> float:
    """Return the smallest of 1, 2, 5 times a power of ten that is not below."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * digit for digit in (1, 2, 5, 10) if power * digit >= least * (1 - 1e-9))


@dataclass(frozen=True)
class Strip:
    """A value with its interval, in percent of the width."""

    value: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """Length of the interval."""
        return round(self.high - self.low, 2)


def strip(axis: Axis, score: dict[str, float]) -> Strip:
    """Place a score on an axis."""
    return Strip(axis.at(score["value"]), axis.at(score["low"]), axis.at(score["high"]))


def heights(values: Sequence[float], edges: Sequence[float]) -> list[float]:
    """Return the share of values in each bin; values beyond the edges count in the end bins."""
    inside = np.clip(values, edges[0], edges[-1])
    counts, _ = np.histogram(inside, np.asarray(edges))
    return [float(share) for share in counts / max(len(values), 1)]


def bars(shares: Sequence[float], top: float, *, base: float = HEIGHT, up: bool = True) -> str:
    """Return the path of a histogram in a box of 100 x 100, standing on or hanging from a base.

    Args:
        shares: one a bin.
        top: the share that fills the room from the base to the edge.
        base: where the bars start, from above.
        up: whether they stand, rather than hang.
    """
    room = base if up else base - HEIGHT
    width = 100 / len(shares)
    path = [f"M0 {base:g}"]
    for i, share in enumerate(shares):
        path.append(f"V{round(base - room * min(share / top, 1.0), 2):g}")
        path.append(f"H{round((i + 1) * width, 2):g}")
    return "".join([*path, f"V{base:g}Z"])


def line(values: Sequence[float]) -> str:
    """Return the path of a curve in a box of 100 x 100, stretched from its lowest to its highest.

    Args:
        values: at least two, at equal distances.
    """
    low, high = min(values), max(values)
    wide = (high - low) or 1.0
    # 8 from above and below stay free for the thickness of the line.
    places = [
        f"{round(100 * i / (len(values) - 1), 2):g} {round(92 - 84 * (value - low) / wide, 2):g}"
        for i, value in enumerate(values)
    ]
    return "M" + "L".join(places)
