"""To which weights: the parts of a model, and how they join, meet and turn over."""

from __future__ import annotations

from expunge.parts.judged import Random, Salient, Similar, Smallest
from expunge.parts.part import Both, Either, Mask, Outside, Part, whole_tensors
from expunge.parts.places import Convs, Everything, First, Last, Named, layers

__all__ = [
    "Both",
    "Convs",
    "Either",
    "Everything",
    "First",
    "Last",
    "Mask",
    "Named",
    "Outside",
    "Part",
    "Random",
    "Salient",
    "Similar",
    "Smallest",
    "layers",
    "whole_tensors",
]
