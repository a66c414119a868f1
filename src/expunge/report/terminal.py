"""The table of an experiment on a terminal, in a file, or as Markdown, whatever its task."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from expunge.report import language_terminal, table


def draw(summary: Mapping[str, Any], console: Console) -> None:
    """Print the table and what must be known to read it."""
    drawn = language_terminal if summary.get("kind") == "language" else table
    drawn.draw(summary, console)


def plain(summary: Mapping[str, Any], width: int = 176) -> str:
    """The same as text."""
    text = io.StringIO()
    draw(summary, Console(file=text, width=width, color_system=None, legacy_windows=False))
    return text.getvalue()
