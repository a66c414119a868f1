"""Published methods: one sentence and one source each, by family."""

from __future__ import annotations

from expunge.core.method import Method
from expunge.methods.published.article import ARTICLE, CONTROLS, nothing, sham
from expunge.methods.published.challenge import CHALLENGE
from expunge.methods.published.language import CORRECTING, OBJECTIVES, OPEN_UNLEARNING, ROBUST
from expunge.methods.published.teachers import MATCHING, TEACHERS
from expunge.methods.published.weights import CLASSES, CURVATURE, GEOMETRY

# Title of a family -> its methods, in the order in which they are listed.
CLASSIFIER_FAMILIES: dict[str, tuple[Method, ...]] = {
    "The controls of every experiment": CONTROLS,
    "The nine ways to forget that the article lists": ARTICLE,
    "The published entries of the NeurIPS 2023 challenge": CHALLENGE,
    "A teacher's answers, or random labels": TEACHERS,
    "Whole classes: boundaries and centroids": CLASSES,
    "Importance and curvature of the weights": CURVATURE,
    "The geometry of gradients and of layers": GEOMETRY,
    "Matching what a retrained model would answer": MATCHING,
}

LANGUAGE_FAMILIES: dict[str, tuple[Method, ...]] = {
    "Language models, with the numbers of open-unlearning": OPEN_UNLEARNING,
    "Language models, with objectives on answers and tokens": OBJECTIVES,
    "Language models, under a constraint or made to stay forgotten": ROBUST,
}

FAMILIES = {
    **CLASSIFIER_FAMILIES,
    **LANGUAGE_FAMILIES,
    "What is false: correct it, mark it, or write the right fact into the weights": CORRECTING,
}

PUBLISHED: dict[str, Method] = {
    method.name: method for family in CLASSIFIER_FAMILIES.values() for method in family
}

LANGUAGE: tuple[Method, ...] = tuple(
    method for family in LANGUAGE_FAMILIES.values() for method in family
)

# What `as_method` knows by name: language models have methods of their own besides.
NAMED: dict[str, Method] = {
    **PUBLISHED,
    **{method.name: method for method in (*LANGUAGE, *CORRECTING)},
}

__all__ = [
    "ARTICLE",
    "CHALLENGE",
    "CLASSES",
    "CONTROLS",
    "CORRECTING",
    "CURVATURE",
    "FAMILIES",
    "GEOMETRY",
    "LANGUAGE",
    "MATCHING",
    "NAMED",
    "OBJECTIVES",
    "PUBLISHED",
    "ROBUST",
    "TEACHERS",
    "Method",
    "nothing",
    "sham",
]
