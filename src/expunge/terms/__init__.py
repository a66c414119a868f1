"""Towards what: the terms that a method minimises, and their sums."""

from __future__ import annotations

from expunge.terms.adaptive import AdaptiveCE
from expunge.terms.answers import CE, KL, MSE, Entropy, Relabel, Repel, Uniform, hashed
from expunge.terms.classes import BalancedCE, WeightedCE
from expunge.terms.neighbours import Centroid, Nearest
from expunge.terms.noisy import Jittered
from expunge.terms.penalties import L1
from expunge.terms.predicted import Predicted
from expunge.terms.smoothness import Lipschitz
from expunge.terms.targets import AnyClass, Gumbel, OneClass, Reference, Tempered, Without
from expunge.terms.taught import EntropyMatch, Mistakes
from expunge.terms.term import Pooled, Sum, Term, leaves

__all__ = [
    "CE",
    "KL",
    "L1",
    "MSE",
    "AdaptiveCE",
    "AnyClass",
    "BalancedCE",
    "Centroid",
    "Entropy",
    "EntropyMatch",
    "Gumbel",
    "Jittered",
    "Lipschitz",
    "Mistakes",
    "Nearest",
    "OneClass",
    "Pooled",
    "Predicted",
    "Reference",
    "Relabel",
    "Repel",
    "Sum",
    "Tempered",
    "Term",
    "Uniform",
    "WeightedCE",
    "Without",
    "hashed",
    "leaves",
]
