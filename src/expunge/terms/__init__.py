"""Towards what: the terms that a method minimises, and their sums."""

from __future__ import annotations

from expunge.terms.answers import CE, KL, MSE, Entropy, Relabel, Repel, Uniform, hashed
from expunge.terms.penalties import L1
from expunge.terms.term import Sum, Term, leaves

__all__ = [
    "CE",
    "KL",
    "L1",
    "MSE",
    "Entropy",
    "Relabel",
    "Repel",
    "Sum",
    "Term",
    "Uniform",
    "hashed",
    "leaves",
]
