"""What is done: the primitive steps that every method is a sentence of."""

from __future__ import annotations

from expunge.steps.curved import Dampen, Newton
from expunge.steps.edits import Blend, Noise, Reset, Zero
from expunge.steps.step import Step
from expunge.steps.training import Negate, Repeat, Train, unrolled

__all__ = [
    "Blend",
    "Dampen",
    "Negate",
    "Newton",
    "Noise",
    "Repeat",
    "Reset",
    "Step",
    "Train",
    "Zero",
    "unrolled",
]
