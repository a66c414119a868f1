"""The published methods on a terminal: all of them in tables, or one explained."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import zip_longest

from rich.console import Console
from rich.text import Text

from expunge.cli.explain import explained, families, row
from expunge.core.method import Method
from expunge.experiments.plan import Plan

HEADS = ("method", "needs", "epochs", "guarantee", "source")


NUMBER = HEADS.index("epochs")


GAP = 2


# A source in fewer columns than this stands below its method.
NARROWEST = 60


def listed(plan: Plan, console: Console) -> None:
    """Print the published methods, a table for each family, as wide as the console."""
    found = families(plan.retrain).items()
    rows = {title: [row(m, plan.problem) for m in each] for title, each in found}
    widths = columns([line for each in rows.values() for line in each], console.width)
    for title, lines in rows.items():
        console.print(Text("\n".join(textwrap.wrap(title, console.width)), style="bold"))
        console.print(Text(laid(HEADS[: len(widths)], widths), style="dim"))
        for line in lines:
            console.print(Text(laid(line[: len(widths)], widths)))
            for source in line[len(widths) :]:
                console.print(Text(below(source, console.width)))
        console.print()
    console.print(Text(wrapped(legend(plan), console.width)))


def columns(lines: Sequence[Sequence[str]], width: int) -> list[int]:
    """How wide each column is; without one for the source where it would be too narrow."""
    needed = [max(len(line[i]) for line in (HEADS, *lines)) for i in range(len(HEADS))]
    left = width - GAP * (len(HEADS) - 1) - needed[0] - needed[2] - needed[3]
    if left - NARROWEST >= 20:
        needs = min(needed[1], max(20, left // 3))
        return [needed[0], needs, needed[2], needed[3], left - needs]
    return [needed[0], max(10, left + GAP), needed[2], needed[3]]


def laid(cells: Sequence[str], widths: Sequence[int]) -> str:
    """One row: each cell wrapped in its own column, numbers to the right."""
    pairs = zip(cells, widths, strict=True)
    columns = [textwrap.wrap(cell, width, break_on_hyphens=False) for cell, width in pairs]
    lines = []
    for pieces in zip_longest(*columns, fillvalue=""):
        put = [
            piece.rjust(width) if i == NUMBER else piece.ljust(width)
            for i, (piece, width) in enumerate(zip(pieces, widths, strict=True))
        ]
        lines.append((" " * GAP).join(put).rstrip())
    return "\n".join(lines)


def below(text: str, width: int) -> str:
    """A text below a row, set in."""
    indent = " " * 4
    return textwrap.fill(
        text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )


def legend(plan: Plan) -> str:
    """How to read the list."""
    sets = plan.problem.sets
    return (
        "needs: the sets that a method reads, whether with their labels, and its teachers; "
        f"epochs: its cost on {plan.experiment.name} ({len(sets['retain']):,} retain and "
        f"{len(sets['forget']):,} forget examples) in passes over the retain set, where an answer "
        "without a backward pass counts as a third; <=: it may stop earlier; guarantee: what is "
        "known without measuring. `expunge methods NAME` explains one."
    )


def explain(methods: Sequence[Method], plan: Plan, console: Console) -> None:
    """Print methods explained step by step, lines wrapped below their own beginning."""
    for number, method in enumerate(methods):
        if number:
            console.print()
        for line in explained(method, plan):
            console.print(Text(wrapped(line, console.width)))


def wrapped(line: str, width: int) -> str:
    """A line in pieces, those after the first set in by two signs more."""
    lead = line[: len(line) - len(line.lstrip())]
    return textwrap.fill(line, width, subsequent_indent=f"{lead}  ", break_on_hyphens=False)
