"""Language models and their data: loading, encoding, and problems of texts."""

from __future__ import annotations

from expunge.core.texts import Texts
from expunge.engine.inference import Likelihoods, generate, likelihoods
from expunge.problems.text.encode import of_pairs, of_plain
from expunge.problems.text.jsonl import read
from expunge.problems.text.models import Loaded, load, save

__all__ = [
    "Likelihoods",
    "Loaded",
    "Texts",
    "generate",
    "likelihoods",
    "load",
    "of_pairs",
    "of_plain",
    "read",
    "save",
]
