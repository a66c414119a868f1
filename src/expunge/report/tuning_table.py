"""The tables of tuning and of a search, for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from expunge.experiments.tuning.record import curve, finding, scored_row
from expunge.experiments.tuning.search import SearchResult
from expunge.experiments.tuning.trials import Tuned
from expunge.experiments.tuning.tune import Tuning

COLUMNS = (
    "method", "given", "tuned", "gap closed", "F", "cost", "optimism",
    "best", "median", "worst", "near", "failed", "matters most",
)  # fmt: skip


SCORES = ("method", "F", "95 % CI", "gap closed", "95 % CI", "cost", "verdict")


LEFT = ("method", "sentence", "matters most", "verdict")


def draw_tuning(found: Tuning, console: Console) -> None:
    """Print the table of `expunge tune` and what must be known to read it."""
    console.print(_table(COLUMNS, (cells(each, found) for each in found.methods)))
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


def cells(found: Tuned, tuning: Tuning) -> list[str]:
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
