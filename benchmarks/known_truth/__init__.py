"""Ground truth: models that were built to be each case, to audit the verdict with.

`classifiers` and `people` each have `ground(seed)`, `CASES` and `judged(ground, models)`.
"""

from __future__ import annotations
