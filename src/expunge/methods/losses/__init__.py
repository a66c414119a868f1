"""Losses: what a step minimises on the sets that it names, and their sums."""

from __future__ import annotations

from expunge.core.term import Pooled, Sum, Term, leaves
from expunge.methods.losses.answers import (
    CE,
    KL,
    L1,
    MSE,
    AdaptiveCE,
    Entropy,
    Flatten,
    Repel,
    Tempered,
    Uniform,
)
from expunge.methods.losses.classes import (
    AnyClass,
    BalancedCE,
    Centroid,
    Nearest,
    OneClass,
    Relabel,
    WeightedCE,
)
from expunge.methods.losses.likelihood import CEU, NPO, TNPO, WGA, SatImp, SimNPO
from expunge.methods.losses.noise import Jittered, Lipschitz
from expunge.methods.losses.other_answers import DPO, FLAT, Instead, RandomAnswers, hashed
from expunge.methods.losses.representation import AdaptiveSteer, LogLens, Match, NoiseMatch, Steer
from expunge.methods.losses.teachers import (
    EntropyMatch,
    Generic,
    Gumbel,
    Mistakes,
    Predicted,
    Reference,
    TopKL,
    Undial,
    Without,
)

__all__ = [
    "CE",
    "CEU",
    "DPO",
    "FLAT",
    "KL",
    "L1",
    "MSE",
    "NPO",
    "TNPO",
    "WGA",
    "AdaptiveCE",
    "AdaptiveSteer",
    "AnyClass",
    "BalancedCE",
    "Centroid",
    "Entropy",
    "EntropyMatch",
    "Flatten",
    "Generic",
    "Gumbel",
    "Instead",
    "Jittered",
    "Lipschitz",
    "LogLens",
    "Match",
    "Mistakes",
    "Nearest",
    "NoiseMatch",
    "OneClass",
    "Pooled",
    "Predicted",
    "RandomAnswers",
    "Reference",
    "Relabel",
    "Repel",
    "SatImp",
    "SimNPO",
    "Steer",
    "Sum",
    "Tempered",
    "Term",
    "TopKL",
    "Undial",
    "Uniform",
    "WeightedCE",
    "Without",
    "hashed",
    "leaves",
]
