"""Every array attack on one method as one record: what was tried, what was found, what power."""

from __future__ import annotations

from expunge.metrics.battery.answers import Answers, answers
from expunge.metrics.battery.battery import (
    FEWEST,
    MARGIN,
    Alarms,
    Battery,
    Tried,
    battery,
    false_alarms,
)
from expunge.metrics.battery.games import ATTACKS, Attack, Game, Shadows
from expunge.metrics.battery.singles import (
    Halved,
    Membership,
    Signals,
    Singles,
    singles,
)

__all__ = [
    "ATTACKS", "FEWEST", "MARGIN", "Alarms", "Answers", "Attack", "Battery", "Game", "Halved",
    "Membership", "Shadows", "Signals", "Singles", "Tried", "answers", "battery", "false_alarms",
    "singles",
]  # fmt: skip
