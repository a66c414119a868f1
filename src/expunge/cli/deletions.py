"""The command `forecast`: what deletions will cost, before shards and slices are chosen."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from expunge.errors import BadData, BadSentence

if TYPE_CHECKING:
    from expunge.methods.exact.layout import Layout


LONGEST_LIST = 100_000


def forecast(
    experiment: Annotated[
        str, typer.Argument(help="A file, or the name of an experiment.")
    ] = "digits",
    requests: Annotated[int, typer.Option(help="How many rows will be deleted.")] = 10,
    rows: Annotated[str, typer.Option(help="The very rows instead, with commas between.")] = "",
    shards: Annotated[str, typer.Option(help="Models to try, with commas between.")] = "2,5,10,20",
    slices: Annotated[str, typer.Option(help="Slices a shard to try, with commas.")] = "1,5",
    data: Annotated[str, typer.Option(help="Folder of the data, if a problem needs one.")] = "",
    seed: Annotated[int, typer.Option(help="Draws which row lies in which shard.")] = 0,
) -> None:
    """Forecast what deletions cost, for several shards and slices."""
    from expunge.experiments.experiment import load
    from expunge.experiments.planning import load_pool
    from expunge.methods.exact.layout import Layout, requested

    chosen = load(experiment)
    n = len(load_pool(replace(chosen, data=data or chosen.data)).train)
    layouts = [
        Layout(n, many, cut, seed)
        for many in numbers("shards", shards)
        for cut in numbers("slices", slices)
    ]
    asked = numbers("rows", rows) if rows.strip() else []
    if asked:
        requests = len(requested(asked, n, Layout(n, 1).parts[0][0][:0]))
    console = Console() if sys.stdout.isatty() else Console(width=120)
    console.print(Text(heading(n, requests, chosen.name)))
    console.print(table(layouts, requests, asked))
    console.print(Text(legend()))


def numbers(option: str, said: str) -> list[int]:
    """Whole numbers from an option, with commas between.

    Raises:
        BadSentence: one that is no whole number.
        BadData: more than fit in any data set here.
    """
    pieces = [piece.strip() for piece in said.split(",") if piece.strip()]
    if len(pieces) > LONGEST_LIST:
        raise BadData(f"--{option} names {len(pieces)} numbers; {LONGEST_LIST} are the most.")
    for piece in pieces:
        if not (piece.isascii() and piece.removeprefix("-").isdigit() and len(piece) <= 15):
            raise BadSentence(f"--{option}: expected whole numbers and commas, got {piece!r}.")
    if not pieces:
        raise BadSentence(f"--{option}: expected whole numbers and commas, got {said!r}.")
    return [int(piece) for piece in pieces]


def table(layouts: list[Layout], requests: int, rows: list[int]) -> Table:
    """A row a layout, and retraining to compare with."""
    from expunge.methods.exact.forecast import forecast as foreseen
    from expunge.methods.exact.forecast import work_of

    found = [foreseen(layout, requests) for layout in layouts]
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    these = ["these rows"] if rows else []
    for name in ("", *these, "expected", "worst case", "expected, one by one", "checkpoints"):
        drawn.add_column(name, justify="right" if name else "left")
    alone = found[0].retraining_one_at_a_time
    drawn.add_row("retraining", *(["100.0 %"] * len(these)), *map(percent, (1, 1, alone)), "0")
    for one in found:
        name = f"{one.layout.shards} shards, {one.layout.slices} slices"
        exact = [percent(work_of(one.layout, rows))] if rows else []
        shares = map(percent, (one.expected, one.worst, one.one_at_a_time))
        drawn.add_row(name, *exact, *shares, str(one.checkpoints))
    return drawn


def heading(n: int, requests: int, name: str) -> str:
    """What is forecast."""
    return f"{requests} of the {n} training examples of {name} are to be deleted."


def legend() -> str:
    """How to read the table."""
    return (
        "Work is examples times epochs; 100 % is retraining once on the examples that are left. "
        "Expected: the mean over random rows. Worst case: the most that any choice of rows can "
        "cost. One by one: each deletion is carried out before the next is known. More shards see "
        "fewer examples each: their accuracy is not forecast here."
    )


def percent(share: float) -> str:
    """A share in percent."""
    return f"{100 * share:,.1f} %"
