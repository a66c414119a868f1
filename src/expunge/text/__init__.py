"""Language models: what is forgotten is text, and what is measured are tokens and answers.

Names are imported when they are asked for, so that the metrics, which need no torch, load none.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from expunge.text.collect import Likelihoods, generate, likelihoods
    from expunge.text.encode import of_pairs, of_plain
    from expunge.text.jsonl import read
    from expunge.text.models import Loaded, load, save
    from expunge.text.rows import Texts

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


ROOMS = {
    "Likelihoods": "collect",
    "Loaded": "models",
    "Texts": "rows",
    "generate": "collect",
    "likelihoods": "collect",
    "load": "models",
    "of_pairs": "encode",
    "of_plain": "encode",
    "read": "jsonl",
    "save": "models",
}


def __getattr__(name: str) -> Any:
    """Load one room of the package, for who asks for a name of it."""
    if name not in ROOMS:
        raise AttributeError(f"module 'expunge.text' has no attribute {name!r}")
    return getattr(importlib.import_module(f"expunge.text.{ROOMS[name]}"), name)
