"""Experiments on language models."""

from __future__ import annotations
