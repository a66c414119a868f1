"""Fair tuning, and a search over sentences: every method is given the same chances.

Nothing here is needed to compare methods; Optuna is asked for where it is used and not before.
"""

from __future__ import annotations
