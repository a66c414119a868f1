"""Exact and certified forgetting: retraining that is checked, SISA, certified removal."""

from __future__ import annotations

from expunge.methods.exact.certified import (
    CertifiedHead,
    Removal,
    RemovalConstants,
    UnitRows,
    unit_rows,
)
from expunge.methods.exact.deletions import (
    DeletionForecast,
    Layout,
    deletion_share,
    forecast_deletions,
    forget_rows,
)
from expunge.methods.exact.retraining import Retrained, retrain
from expunge.methods.exact.sisa import Deletion, MeanSoftmax, Sisa, Votes

__all__ = [
    "CertifiedHead",
    "Deletion",
    "DeletionForecast",
    "Layout",
    "MeanSoftmax",
    "Removal",
    "RemovalConstants",
    "Retrained",
    "Sisa",
    "UnitRows",
    "Votes",
    "deletion_share",
    "forecast_deletions",
    "forget_rows",
    "retrain",
    "unit_rows",
]
