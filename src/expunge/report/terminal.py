"""The table of an experiment, its ranking, and of a tuning, on a terminal or as Markdown.

What the columns are, and which sentences explain them, is the task's to say.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from expunge.experiments import summary as ranking
from expunge.experiments.classification import Classification
from expunge.experiments.classifier_rows import AUDITS
from expunge.experiments.plan import Task
from expunge.experiments.rows import Column, UnscoredRow
from expunge.experiments.text.language_rows import LanguageRow, legend, ranking_columns
from expunge.experiments.text.task import Language
from expunge.experiments.tuning.record import curve, finding, scored_row
from expunge.experiments.tuning.search import SearchResult
from expunge.experiments.tuning.tune import Tuned, Tuning

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


COLUMNS = (
    "method", "given", "tuned", "gap closed", "F", "cost", "optimism",
    "best", "median", "worst", "near", "failed", "matters most",
)  # fmt: skip


SCORES = ("method", "F", "95 % CI", "gap closed", "95 % CI", "cost", "verdict")


LEFT = ("method", "sentence", "matters most", "verdict")


def draw_tuning(found: Tuning, console: Console) -> None:
    """Print the table of `expunge tune` and what must be known to read it."""
    console.print(_table(COLUMNS, (tuning_cells(each, found) for each in found.methods)))
    for line in notes(found):
        console.print(Text(line))


def draw_search(
    found: SearchResult, summaries: Sequence[Mapping[str, Any]], console: Console
) -> None:
    """Print the finalists of `expunge search`, their scores on each unseen set, and the finding."""
    finalists = sorted((*found.found, *found.published), key=lambda each: each.distance)
    rows = [
        [f"{one.method.name}: {one.method.sentence}", f"{one.distance:.3f}", f"{one.quality:.3f}"]
        for one in finalists
    ]
    console.print(_table(("sentence", "distance", "F"), rows))
    for line in search_notes(found):
        console.print(Text(line))
    for each in summaries:
        name, count = each["experiment"]["name"], each["experiment"]["members"]
        console.print(Text(f"\n{name}, never seen by the search, N = {count}"))
        console.print(_table(SCORES, (score_cells(scored_row(row, each)) for row in each["rows"])))
        console.print(Text(finding(each)))


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table without a box: names and sentences to the left, numbers to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(
            name,
            justify="left" if name in LEFT else "right",
            no_wrap=name == "method",
            overflow="fold",
        )
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def tuning_cells(found: Tuned, tuning: Tuning) -> list[str]:
    """One row; of a method that could not be tuned `notes` has the reason."""
    name, winner, given = found.method.name, found.winner, found.given
    if winner is None:
        return [name, *["-"] * (len(COLUMNS) - 3), str(len(found.trials)), ""]
    spread = curve(found.trials)
    most = max(found.importances, key=lambda pair: pair[1], default=("", 0.0))
    return [
        name,
        f"{given.distance:.3f}" if given and math.isfinite(given.distance) else "failed",
        f"{winner.distance:.3f}",
        gap_closed(winner.distance, tuning),
        f"{winner.quality:.3f}",
        f"{winner.trial.verdict.cost:.0%}",
        f"{winner.optimism:+.3f}",
        *(f"{spread[name]:.2f}" for name in ("best", "median", "worst")),
        f"{spread['near']:.0%}",
        str(spread["failed"]),
        f"{most[0]} ({most[1]:.0%})" if most[0] else "",
    ]


def gap_closed(distance: float, tuning: Tuning) -> str:
    """The share of the gap between original and retrained models that is closed, by distance."""
    whole = tuning.original - tuning.retrained
    return f"{(tuning.original - distance) / whole:.2f}" if whole > 0 else "-"


def notes(found: Tuning) -> Iterator[str]:
    """What the columns mean, and on what they were measured."""
    budget = found.budget
    yield (
        f"Tuned on {found.said}; {found.overlap} of its examples are scored by the ranking. "
        "Its members and oracles have seeds of their own; see docs/tuning.md."
    )
    yield (
        f"Every method had {budget.trials} trials of {budget.members} members against "
        f"{budget.oracles} oracles, at most {budget.cost:.0%} of what retraining reads."
    )
    yield (
        f"Distances: held-out retrained models {found.retrained:.3f}, the original "
        f"{found.original:.3f}. given, tuned, gap closed, F: evaluated again with fresh seeds. "
        "optimism: distance when tuned less the fresh one. best to near: of all trials; near is "
        "the share within 10 % of the best."
    )
    for each in found.methods:
        if each.winner is None:
            first = each.trials[0].verdict.reason or "it failed with fresh seeds"
            yield f"{each.method.name} could not be tuned: {first}"


def search_notes(found: SearchResult) -> Iterator[str]:
    """What the finalists were evaluated on."""
    terms = found.terms
    yield (
        f"{terms.budget} sentences tried on {found.said}; evaluated again with fresh seeds and "
        f"oracles. Distances: held-out retrained models {found.retrained:.3f}, the original "
        f"{found.original:.3f}."
    )
    for name, reason in found.unfit:
        yield f"{name} took no part: {reason}"


def score_cells(row: Mapping[str, Any]) -> list[str]:
    """One line of the scores."""
    if "unscored" in row:
        return [row["name"], "-", "-", "-", "-", "-", f"unscored: {row['unscored']}"]
    quality, closed = row["quality"], row["normalised"]
    shown = ["-", "-"] if isinstance(closed, str) else [f"{closed['value']:.2f}", _ends(closed, 2)]
    share = f"{row['cost']['examples_share']:.0%}"
    return [
        row["name"],
        f"{quality['value']:.3f}",
        _ends(quality, 3),
        *shown,
        share,
        row["verdict"],
    ]


def _ends(numbers: Mapping[str, float], digits: int) -> str:
    return f"[{numbers['low']:.{digits}f}, {numbers['high']:.{digits}f}]"
