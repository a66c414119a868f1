"""Pure functions of evidence: what unlearned and retrained models answer, as scores; no torch."""

from __future__ import annotations

from expunge.metrics.agreement import (
    Accuracy,
    ActivationDistance,
    JensenShannon,
    Metric,
    Score,
    ToW,
    Unscored,
)
from expunge.metrics.paper_scores import PAPER_SCORES, PaperScore
from expunge.metrics.row_label import ScoredRow, Spread, gap_closed, row_label

__all__ = [
    "PAPER_SCORES",
    "Accuracy",
    "ActivationDistance",
    "JensenShannon",
    "Metric",
    "PaperScore",
    "Score",
    "ScoredRow",
    "Spread",
    "ToW",
    "Unscored",
    "gap_closed",
    "row_label",
]
