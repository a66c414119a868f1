"""Print the published methods as tables, or explain some of them, as wide as the console."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import zip_longest

from rich.console import Console
from rich.text import Text

from expunge.cli.explain import explanation, families, row
from expunge.core.method import Method
from expunge.experiments.plan import Plan

HEADS = ("method", "needs", "epochs", "guarantee", "source")
NUMBER = HEADS.index("epochs")
GAP = 2


# A source in fewer columns than this is printed below its method.
NARROWEST = 60


def print_methods(plan: Plan, console: Console) -> None:
    """Print the published methods, a table for each family."""
    found = families(plan.retrain).items()
    rows = {title: [row(m, plan.problem) for m in each] for title, each in found}
    widths = _widths([line for each in rows.values() for line in each], console.width)
    for title, lines in rows.items():
        console.print(Text("\n".join(textwrap.wrap(title, console.width)), style="bold"))
        console.print(Text(in_columns(HEADS[: len(widths)], widths), style="dim"))
        for line in lines:
            console.print(Text(in_columns(line[: len(widths)], widths)))
            for source in line[len(widths) :]:
                console.print(Text(indented(source, console.width)))
        console.print()
    sets = plan.problem.sets
    legend = (
        "needs: the sets that a method reads, whether with their labels, and its teachers; "
        f"epochs: its cost on {plan.experiment.name} ({len(sets['retain']):,} retain and "
        f"{len(sets['forget']):,} forget examples) in passes over the retain set, where a forward "
        "pass alone counts as a third; <=: it may stop earlier; guarantee: what is known without "
        "measuring. `expunge methods NAME` explains one."
    )
    console.print(Text(wrapped(legend, console.width)))


def print_explanations(methods: Sequence[Method], plan: Plan, console: Console) -> None:
    """Print methods step by step, lines wrapped below their own beginning."""
    for number, method in enumerate(methods):
        if number:
            console.print()
        for line in explanation(method, plan):
            console.print(Text(wrapped(line, console.width)))


def in_columns(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Return one row: each cell wrapped in its own column, numbers to the right."""
    pairs = zip(cells, widths, strict=True)
    columns = [textwrap.wrap(cell, width, break_on_hyphens=False) for cell, width in pairs]
    lines = []
    for pieces in zip_longest(*columns, fillvalue=""):
        padded = [
            piece.rjust(width) if i == NUMBER else piece.ljust(width)
            for i, (piece, width) in enumerate(zip(pieces, widths, strict=True))
        ]
        lines.append((" " * GAP).join(padded).rstrip())
    return "\n".join(lines)


def indented(text: str, width: int) -> str:
    """Return a text wrapped, every line indented."""
    indent = " " * 4
    return textwrap.fill(
        text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )


def wrapped(line: str, width: int) -> str:
    """Return a line wrapped, all but its first piece indented by two more columns."""
    lead = line[: len(line) - len(line.lstrip())]
    return textwrap.fill(line, width, subsequent_indent=f"{lead}  ", break_on_hyphens=False)


def _widths(lines: Sequence[Sequence[str]], width: int) -> list[int]:
    """How wide each column is; without one for the source where it would be too narrow."""
    needed = [max(len(line[i]) for line in (HEADS, *lines)) for i in range(len(HEADS))]
    left = width - GAP * (len(HEADS) - 1) - needed[0] - needed[2] - needed[3]
    if left - NARROWEST >= 20:
        needs = min(needed[1], max(20, left // 3))
        return [needed[0], needs, needed[2], needed[3], left - needs]
    return [needed[0], max(10, left + GAP), needed[2], needed[3]]
