"""Audits of whole experiments."""

from __future__ import annotations
