"""Benchmarks of texts: loaders of local files that return named sets of items; no torch."""

from __future__ import annotations

from expunge.problems.text.benchmarks.files import Item, TextBenchmark, check_apart, from_hub
from expunge.problems.text.benchmarks.forgetting import lettered, lume, mmlu, rwku, tofu
from expunge.problems.text.benchmarks.novels import Sizes, novels

__all__ = [
    "Item",
    "Sizes",
    "TextBenchmark",
    "check_apart",
    "from_hub",
    "lettered",
    "lume",
    "mmlu",
    "novels",
    "rwku",
    "tofu",
]
