"""expunge makes a trained model forget, and then shows what it did and did not forget."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from expunge.core.machine import __version__
from expunge.core.method import Method
from expunge.core.problem import Problem
from expunge.core.receipt import Receipt, Unlearned
from expunge.old_names import install
from expunge.unlearn import unlearn

if TYPE_CHECKING:
    from expunge.comparison import Comparison, compare
    from expunge.experiments.experiment import parse

__all__ = [
    "Comparison",
    "Method",
    "Problem",
    "Receipt",
    "Unlearned",
    "__version__",
    "compare",
    "parse",
    "unlearn",
]


# Loaded when they are used: comparing needs SciPy and Rich, and reading all sentences the audits.
LATER = {
    "Comparison": "expunge.comparison",
    "compare": "expunge.comparison",
    "parse": "expunge.experiments.experiment",
}


def __getattr__(name: str) -> Any:
    """Load what is not needed to unlearn when it is used first."""
    if name not in LATER:
        raise AttributeError(f"module 'expunge' has no attribute {name!r}")
    globals()[name] = getattr(importlib.import_module(LATER[name]), name)
    return globals()[name]


install()
