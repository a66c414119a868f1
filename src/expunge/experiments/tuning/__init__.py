"""Fair tuning, and a search over sentences: every method is given the same chances."""

from __future__ import annotations
