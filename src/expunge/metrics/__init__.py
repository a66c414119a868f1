"""Pure functions of evidence: NumPy and SciPy only, no torch."""

from __future__ import annotations
