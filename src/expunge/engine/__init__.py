"""Carrying a method out: training, stacking, memory, checkpoints, curvature, inference."""

from __future__ import annotations
