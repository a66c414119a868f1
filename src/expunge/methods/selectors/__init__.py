"""Selectors: which weights a step may touch, joined with |, & and ~."""

from __future__ import annotations

from expunge.core.selector import Both, Either, Everything, Mask, Outside, Selector, whole_tensors
from expunge.methods.selectors.judged import (
    Changed,
    FisherRatio,
    Random,
    RandomTensors,
    Salient,
    Similar,
    Smallest,
)
from expunge.methods.selectors.places import Convs, First, Last, Named, Norms, Pointwise, layers

__all__ = [
    "Both",
    "Changed",
    "Convs",
    "Either",
    "Everything",
    "First",
    "FisherRatio",
    "Last",
    "Mask",
    "Named",
    "Norms",
    "Outside",
    "Pointwise",
    "Random",
    "RandomTensors",
    "Salient",
    "Selector",
    "Similar",
    "Smallest",
    "layers",
    "whole_tensors",
]
