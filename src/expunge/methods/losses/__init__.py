"""The losses that a method minimises, and their sums: towards what."""

from __future__ import annotations

from expunge.core.term import Pooled, Sum, Term, leaves
from expunge.methods.losses.answers import (
    CE,
    KL,
    L1,
    MSE,
    Entropy,
    Flatten,
    Relabel,
    Repel,
    Uniform,
    hashed,
)
from expunge.methods.losses.classes import BalancedCE, Centroid, Nearest, WeightedCE
from expunge.methods.losses.contrast import FLAT, Generic, RandomAnswers
from expunge.methods.losses.likelihood import (
    CEU,
    DPO,
    NPO,
    TNPO,
    WGA,
    Instead,
    SatImp,
    SimNPO,
    Undial,
)
from expunge.methods.losses.noise import Jittered, Lipschitz
from expunge.methods.losses.representation import AdaptiveSteer, LogLens, Match, NoiseMatch, Steer
from expunge.methods.losses.targets import (
    AdaptiveCE,
    AnyClass,
    Gumbel,
    OneClass,
    Reference,
    Tempered,
    Without,
)
from expunge.methods.losses.teachers import EntropyMatch, Mistakes, Predicted, TopKL

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
