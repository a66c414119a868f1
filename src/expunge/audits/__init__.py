"""Audits: experiments on live weights that ask what is left beneath the answers."""

from __future__ import annotations
