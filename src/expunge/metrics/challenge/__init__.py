"""The score of the NeurIPS 2023 unlearning challenge."""

from __future__ import annotations

from expunge.metrics.challenge.quality import (
    RULES,
    ChallengeScore,
    ForgettingQuality,
    epsilons,
    forgetting_quality,
    quality_and_score,
    score,
)

__all__ = [
    "RULES",
    "ChallengeScore",
    "ForgettingQuality",
    "epsilons",
    "forgetting_quality",
    "quality_and_score",
    "score",
]
