"""To which weights: the parts of a model, and how they join, meet and turn over."""

from __future__ import annotations

from expunge.parts.curved import FisherRatio
from expunge.parts.judged import Random, Salient, Similar, Smallest
from expunge.parts.kinds import Norms, Pointwise
from expunge.parts.moments import Changed, RandomTensors
from expunge.parts.part import Both, Either, Mask, Outside, Part, whole_tensors
from expunge.parts.places import Convs, Everything, First, Last, Named, layers

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
    "Part",
    "Pointwise",
    "Random",
    "RandomTensors",
    "Salient",
    "Similar",
    "Smallest",
    "layers",
    "whole_tensors",
]
