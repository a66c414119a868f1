"""Benchmarks of texts: loaders of local files that return named sets of items; no torch."""

from __future__ import annotations

from expunge.text.benchmarks.hub import from_hub
from expunge.text.benchmarks.items import Item, TextBenchmark, check_apart
from expunge.text.benchmarks.lume import lume
from expunge.text.benchmarks.mmlu import lettered, mmlu
from expunge.text.benchmarks.novels import Sizes, novels
from expunge.text.benchmarks.rwku import rwku
from expunge.text.benchmarks.tofu import tofu

__all__ = [
    "Item", "Sizes", "TextBenchmark", "check_apart", "from_hub", "lettered", "lume", "mmlu",
    "novels", "rwku", "tofu",
]  # fmt: skip
