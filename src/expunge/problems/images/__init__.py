"""Image datasets, and forget sets of images."""

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
from expunge.problems.images.folder import image_folder
from expunge.problems.images.loaders import cifar10, digits
from expunge.problems.images.pool import Pool, with_targets

__all__ = [
    "CoherentGroup",
    "ForgetSet",
    "Given",
    "Mislabelled",
    "PixelPCA",
    "Pool",
    "RandomShare",
    "WholeClass",
    "check_indices",
    "cifar10",
    "digits",
    "image_folder",
    "with_targets",
]
