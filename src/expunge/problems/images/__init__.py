"""Datasets of images, and the forget sets that images alone have."""

from __future__ import annotations

from expunge.core.batch import check_indices
from expunge.problems.forget_sets import (
    CoherentGroup,
    ForgetSet,
    Given,
    Mislabelled,
    PixelPCA,
    RandomShare,
    WholeClass,
)
from expunge.problems.images.canaries import (
    Canaries,
    Memorised,
    PatternCanaries,
    WorstCase,
    planted,
)
from expunge.problems.images.folder import image_folder
from expunge.problems.images.loaders import cifar10, digits
from expunge.problems.images.pool import Pool, with_targets

__all__ = [
    "Canaries",
    "CoherentGroup",
    "ForgetSet",
    "Given",
    "Memorised",
    "Mislabelled",
    "PatternCanaries",
    "PixelPCA",
    "Pool",
    "RandomShare",
    "WholeClass",
    "WorstCase",
    "check_indices",
    "cifar10",
    "digits",
    "image_folder",
    "planted",
    "with_targets",
]
