"""Draws the tables of an experiment, of any task, on a terminal, as text, or in Markdown.

What the columns are, and which sentences explain them, is the task's to say.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from expunge.experiments import ranking
from expunge.experiments.classification import Classification
from expunge.experiments.classifier_rows import AUDITS
from expunge.experiments.plan import Task
from expunge.experiments.rows import Column, UnscoredRow
from expunge.experiments.text.language_rows import LanguageRow, legend, ranking_columns
from expunge.experiments.text.task import Language

Summary = Mapping[str, Any]


def draw(summary: Summary, console: Console) -> None:
    """Print the table of an experiment and what must be known to read it."""
    task = task_of(summary)
    columns = columns_of(summary)
    rows = [task.read_row(record) for record in summary["rows"]]
    console.print(table(columns, (cells(columns, row) for row in rows)))
    for name, doubts in summary.get("doubts", {}).items():  # summaries of older versions lack it
        for doubt in doubts:
            console.print(Text(f"Doubt about {name}: {doubt}"))
    for note in task.notes(summary):
        console.print(Text(note))
    hardware = summary["hardware"]
    console.print(Text(f"Measured on {hardware['processor']}, {hardware['cores']} cores."))


def draw_ranking(summary: Summary, console: Console) -> None:
    """Print the ranking of an experiment; that of texts is the order of its table."""
    if task_of(summary) is Language:
        draw(summary, console)
        return
    places = ranking.ranking(summary)
    console.print(table(ranking.COLUMNS, (cells(ranking.COLUMNS, place) for place in places)))
    for row in summary["rows"]:
        if "unscored" in row:
            console.print(Text(f"{row['name']}: unscored, {row['unscored']}"))
    console.print(Text(ranking.legend(summary)))


def plain(
    summary: Summary, width: int = 176, drawn: Callable[[Summary, Console], None] = draw
) -> str:
    """Return the table of an experiment as text; with `draw_ranking`, its ranking."""
    text = io.StringIO()
    drawn(summary, Console(file=text, width=width, color_system=None, legacy_windows=False))
    return text.getvalue()


def markdown(summary: Summary, first: int | None = None) -> str:
    """Return the ranking of an experiment as a table in Markdown.

    Args:
        summary: of an experiment on images or on texts.
        first: so many first places and the controls, on images; None for all rows.
    """
    if task_of(summary) is Language:
        columns = ranking_columns()
        read = map(Language.read_row, summary["rows"])
        rows = [cells(columns, row) for row in read if isinstance(row, LanguageRow)]
        return markdown_table([column.name for column in columns], rows)
    places = ranking.first_places(summary, first)
    heads = [column.name for column in ranking.COLUMNS]
    return markdown_table(heads, [cells(ranking.COLUMNS, place) for place in places])


def ranking_legend(summary: Summary) -> str:
    """Return how to read the ranking of an experiment."""
    return legend(summary) if task_of(summary) is Language else ranking.legend(summary)


def task_of(summary: Summary) -> type[Task[Any]]:
    """Return the task of the experiment that a summary is of."""
    return Language if summary.get("kind") == "language" else Classification


def columns_of(summary: Summary) -> tuple[Column[Any], ...]:
    """Return the columns of a summary's table; that of the audits only where there are some."""
    audited = any("audits" in row for row in summary["rows"])
    return tuple(one for one in task_of(summary).columns if audited or one is not AUDITS)


def cells(columns: Sequence[Column[Any]], row: Any) -> list[str]:
    """Return one row as text; a row without numbers ends in the reason why."""
    if isinstance(row, UnscoredRow):
        return [row.head.title, *["-"] * (len(columns) - 2), f"unscored: {row.reason}"]
    return [column.cell(row) for column in columns]


def table(columns: Sequence[Column[Any]], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table for a terminal; no text is read as markup."""
    found = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        found.add_column(column.name, justify="left" if column.left else "right")
    for row in rows:
        found.add_row(*(Text(cell) for cell in row))
    return found


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"
