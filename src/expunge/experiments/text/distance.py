"""Measures how far unlearned models are from retrained ones, on what is to go and what is kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from expunge.core.ragged import Floats
from expunge.errors import BadEvidence
from expunge.experiments.text.language_rows import Distance
from expunge.experiments.text.normalised_metrics import Draws, Gauge, limits


def distance(gauges: Sequence[Gauge], draws: Draws) -> Distance:
    """Return the distance of unlearned models from retrained ones.

    Args:
        gauges: of both sides; those that do not count are left out.
        draws: for the interval.

    Raises:
        BadEvidence: no gauge of one side tells what was taught from what was not.
    """
    counted = [gauge for gauge in gauges if gauge.counts]
    for side in ("forget", "retain"):
        if not any(gauge.side == side for gauge in counted):
            raise BadEvidence(
                f"No gauge of the {side} side tells what was taught from what was not: the anchors "
                "are too near to each other, or the oracles too far apart. Train the original "
                "longer, or ask more questions."
            )
    each = {side: _side(counted, side) for side in ("forget", "retain")}
    apart = np.hypot(each["forget"], each["retain"])
    drawn = np.hypot(*(_drawn(counted, side, draws) for side in ("forget", "retain")))
    value = float(apart.mean())
    low, high = limits((drawn.T * draws.subject).sum(axis=1), value)
    return Distance(
        value, low, high, float(each["forget"].mean()), float(each["retain"].mean()),
        tuple(apart.tolist()), len(apart), tuple(gauge.name for gauge in counted),
    )  # fmt: skip


def _side(gauges: Sequence[Gauge], side: str) -> Floats:
    """Mean relative gap of each model on one side, float64 [model]."""
    gaps = [
        np.abs(gauge.subject.mean(axis=1) - gauge.oracle.mean()) / gauge.scale
        for gauge in gauges
        if gauge.side == side
    ]
    found: Floats = np.mean(gaps, axis=0)
    return found


def _drawn(gauges: Sequence[Gauge], side: str, draws: Draws) -> Floats:
    """The same in each draw of oracles and groups, float64 [model, draw]."""
    gaps = []
    for gauge in gauges:
        if gauge.side == side:
            held = draws.means(gauge.oracle, gauge.set, "oracle")
            mine = gauge.subject @ draws.groups[gauge.set].T
            gaps.append(np.abs(mine - held) / gauge.scale)
    found: Floats = np.mean(gaps, axis=0)
    return found
