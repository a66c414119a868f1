"""Experiments: what is made, once, on any number of processes; kept; scored; and ranked."""

from __future__ import annotations
