"""One self-contained HTML file, made from a summary record and nothing else."""

from __future__ import annotations

from expunge.report.build import render, write

__all__ = ["render", "write"]
