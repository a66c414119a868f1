"""Steps: what a method does to the model, one after another."""

from __future__ import annotations

from expunge.core.method import Step
from expunge.engine.training import (
    Mixture,
    Negate,
    OneOptimiser,
    Repeat,
    Reset,
    Train,
    unrolled,
)
from expunge.methods.steps.adapter import LoRA
from expunge.methods.steps.classes import Expand, Impair, Strata
from expunge.methods.steps.constrained import PrimalDual, Rectify, SharpnessAware
from expunge.methods.steps.dampening import AdaptiveDampen, Dampen, FisherNoise
from expunge.methods.steps.edits import (
    Blend,
    Half,
    Noise,
    Remember,
    ShrinkPerturb,
    Teach,
    Transpose,
    Zero,
)
from expunge.methods.steps.facts import Memit, Rome
from expunge.methods.steps.influence import Newton, WoodFisher
from expunge.methods.steps.watched import Lotus, Rewind, Until

__all__ = [
    "AdaptiveDampen",
    "Blend",
    "Dampen",
    "Expand",
    "FisherNoise",
    "Half",
    "Impair",
    "LoRA",
    "Lotus",
    "Memit",
    "Mixture",
    "Negate",
    "Newton",
    "Noise",
    "OneOptimiser",
    "PrimalDual",
    "Rectify",
    "Remember",
    "Repeat",
    "Reset",
    "Rewind",
    "Rome",
    "SharpnessAware",
    "ShrinkPerturb",
    "Step",
    "Strata",
    "Teach",
    "Train",
    "Transpose",
    "Until",
    "WoodFisher",
    "Zero",
    "unrolled",
]
