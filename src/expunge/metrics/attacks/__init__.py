"""Attacks on arrays: can unlearned models be distinguished from retrained ones?

The attacks of one name with their module are reached through it: `lira.lira`, `rmia.rmia`,
`klom.klom`, `iam.iam`, `exposure.exposure`, `roc.roc`.
"""

from __future__ import annotations

from expunge.metrics.attacks.battery import (
    MARGIN,
    AttackResult,
    Battery,
    FalseAlarms,
    battery,
    false_alarms,
)
from expunge.metrics.attacks.exposure import Exposure, u_lira_exposure, worse_off
from expunge.metrics.attacks.games import ATTACKS, Attack, Game, Readings, Shadows, read_answers
from expunge.metrics.attacks.klom import klom_floor
from expunge.metrics.attacks.lira import u_lira
from expunge.metrics.attacks.rmia import rmia_offline, rmia_online
from expunge.metrics.attacks.roc import FEWEST, Roc, TooFewNonMembers
from expunge.metrics.attacks.ruli import ruli_efficacy, ruli_privacy
from expunge.metrics.attacks.signals import (
    LossAttack,
    confidence_attack,
    entropy_attack,
    loss_attack,
    mia_efficacy,
    modified_entropy_attack,
    scaled_confidence,
)
from expunge.metrics.attacks.singles import (
    PairedShadows,
    SingleMembership,
    Singles,
    SingleSignals,
    singles,
)

__all__ = [
    "ATTACKS",
    "FEWEST",
    "MARGIN",
    "Attack",
    "AttackResult",
    "Battery",
    "Exposure",
    "FalseAlarms",
    "Game",
    "LossAttack",
    "PairedShadows",
    "Readings",
    "Roc",
    "Shadows",
    "SingleMembership",
    "SingleSignals",
    "Singles",
    "TooFewNonMembers",
    "battery",
    "confidence_attack",
    "entropy_attack",
    "false_alarms",
    "klom_floor",
    "loss_attack",
    "mia_efficacy",
    "modified_entropy_attack",
    "read_answers",
    "rmia_offline",
    "rmia_online",
    "ruli_efficacy",
    "ruli_privacy",
    "scaled_confidence",
    "singles",
    "u_lira",
    "u_lira_exposure",
    "worse_off",
]
