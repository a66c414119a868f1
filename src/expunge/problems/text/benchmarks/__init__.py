"""Benchmarks of texts: loaders of local files that return named sets of items; no torch."""

from __future__ import annotations

from expunge.problems.text.benchmarks.files import from_hub
from expunge.problems.text.benchmarks.forgetting import lume, rwku, tofu
from expunge.problems.text.benchmarks.items import Item, TextBenchmark, check_apart
from expunge.problems.text.benchmarks.mmlu import lettered, mmlu
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
