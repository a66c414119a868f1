"""Data sets, and what must be forgotten of them."""

from __future__ import annotations

from expunge.data.cifar10 import cifar10
from expunge.data.digits import digits
from expunge.data.folder import image_folder
from expunge.data.forget import (
    CoherentGroup,
    ForgetSet,
    Given,
    Mislabelled,
    PixelPCA,
    RandomShare,
    WholeClass,
    check_indices,
)
from expunge.data.pool import Pool, with_targets

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
