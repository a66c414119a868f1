"""Exact and certified forgetting: retraining that is checked, SISA, certified removal."""

from __future__ import annotations

from expunge.exact.certified import CertifiedHead, Removal, UnitRows, unit_rows
from expunge.exact.ensemble import MeanSoftmax, Votes
from expunge.exact.forecast import Forecast, forecast, work_of
from expunge.exact.layout import Layout
from expunge.exact.retraining import Retrained, retrain
from expunge.exact.rows import forget_rows
from expunge.exact.sisa import Deletion, Sisa

__all__ = [
    "CertifiedHead",
    "Deletion",
    "Forecast",
    "Layout",
    "MeanSoftmax",
    "Removal",
    "Retrained",
    "Sisa",
    "UnitRows",
    "Votes",
    "forecast",
    "forget_rows",
    "retrain",
    "unit_rows",
    "work_of",
]
