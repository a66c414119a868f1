"""expunge makes a trained model forget, and then shows what it did and did not forget."""

from __future__ import annotations

from expunge.method import Method
from expunge.problem import Problem
from expunge.unlearn import Receipt, Unlearned, unlearn

__version__ = "0.1.0"

__all__ = ["Method", "Problem", "Receipt", "Unlearned", "unlearn", "__version__"]
