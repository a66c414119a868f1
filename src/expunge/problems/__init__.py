"""Problems: what must be forgotten, datasets and networks, and the experiments of the package.

Forget sets are offered here; `problems.images` has datasets of images, `problems.text` those of
texts, `problems.networks` small networks. The TOML files beside this one are the experiments that
`expunge run NAME` knows.
"""

from __future__ import annotations

from expunge.problems.forget_sets import (
    CoherentGroup,
    ForgetSet,
    Given,
    Marked,
    Mislabelled,
    RandomShare,
    Subjects,
    Titles,
    WholeClass,
)

__all__ = [
    "CoherentGroup",
    "ForgetSet",
    "Given",
    "Marked",
    "Mislabelled",
    "RandomShare",
    "Subjects",
    "Titles",
    "WholeClass",
]
