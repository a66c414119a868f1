"""Published methods, one sentence and one source each."""

from __future__ import annotations

from expunge.method import Method
from expunge.methods.article import ARTICLE
from expunge.methods.challenge import CHALLENGE
from expunge.methods.classes import CLASSES
from expunge.methods.controls import CONTROLS, nothing, sham
from expunge.methods.curvature import CURVATURE
from expunge.methods.geometry import GEOMETRY
from expunge.methods.matching import MATCHING
from expunge.methods.teachers import TEACHERS

PUBLISHED: dict[str, Method] = {
    method.name: method
    for method in (
        *CONTROLS,
        *ARTICLE,
        *CHALLENGE,
        *TEACHERS,
        *CLASSES,
        *CURVATURE,
        *GEOMETRY,
        *MATCHING,
    )
}

__all__ = [
    "ARTICLE",
    "CHALLENGE",
    "CLASSES",
    "CONTROLS",
    "CURVATURE",
    "GEOMETRY",
    "MATCHING",
    "PUBLISHED",
    "TEACHERS",
    "nothing",
    "sham",
]
