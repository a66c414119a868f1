"""The score of the NeurIPS 2023 unlearning challenge."""

from __future__ import annotations
