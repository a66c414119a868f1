"""Attacks on arrays: can unlearned models be distinguished from retrained ones?"""

from __future__ import annotations

from expunge.metrics.attacks.battery import MARGIN, Alarms, Battery, Tried, battery, false_alarms
from expunge.metrics.attacks.games import ATTACKS, Attack, Game, Shadows
from expunge.metrics.attacks.readings import Readings, answers
from expunge.metrics.attacks.roc import FEWEST
from expunge.metrics.attacks.singles import (
    Halved,
    SingleMembership,
    Singles,
    SingleSignals,
    singles,
)

__all__ = [
    "ATTACKS",
    "FEWEST",
    "MARGIN",
    "Alarms",
    "Attack",
    "Battery",
    "Game",
    "Halved",
    "Readings",
    "Shadows",
    "SingleMembership",
    "SingleSignals",
    "Singles",
    "Tried",
    "answers",
    "battery",
    "false_alarms",
    "singles",
]
