"""The command `deletions`: what deletions will cost, before shards and slices are chosen."""

from __future__ import annotations

import functools
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from expunge.errors import BadData, BadSentence

if TYPE_CHECKING:
    from expunge.methods.exact.deletions import Layout

LONGEST_LIST = 100_000


LEGEND = (
    "Work is examples times epochs; 100 % is retraining once on the examples that are left. "
    "Expected: the mean over random rows. Worst case: the most that any choice of rows can cost. "
    "One by one: each row is deleted before the next is known. With more shards each model sees "
    "fewer examples; this forecast says nothing about the accuracy that they lose."
)


def deletions(
    experiment: Annotated[
        str, typer.Argument(help="A file, or the name of an experiment.")
    ] = "digits",
    requests: Annotated[int, typer.Option(help="How many rows will be deleted.")] = 10,
    rows: Annotated[str, typer.Option(help="These rows instead, with commas between.")] = "",
    shards: Annotated[str, typer.Option(help="Models to try, with commas between.")] = "2,5,10,20",
    slices: Annotated[str, typer.Option(help="Slices a shard to try, with commas.")] = "1,5",
    data: Annotated[str, typer.Option(help="Folder of the data, if a problem needs one.")] = "",
    seed: Annotated[int, typer.Option(help="Draws which row lies in which shard.")] = 0,
) -> None:
    """Forecast what deletions cost, for several shards and slices."""
    from expunge.experiments.experiment import load
    from expunge.experiments.planning import load_pool
    from expunge.methods.exact.deletions import NO_ROWS, Layout, requested

    chosen = load(experiment)
    n = len(load_pool(replace(chosen, data=data or chosen.data)).train)
    layouts = [
        Layout(n, many, cut, seed)
        for many in _numbers("shards", shards)
        for cut in _numbers("slices", slices)
    ]
    wanted = _numbers("rows", rows) if rows.strip() else []
    if wanted:
        requests = len(requested(wanted, n, NO_ROWS))
    console = Console() if sys.stdout.isatty() else Console(width=120)
    console.print(
        Text(f"You will delete {requests} of the {n} training examples of {chosen.name}.")
    )
    console.print(_table(layouts, requests, wanted))
    console.print(Text(LEGEND))


@functools.wraps(deletions)
def forecast(*arguments: Any, **options: Any) -> None:
    """The same under its old name, for one release."""
    typer.echo("expunge: `expunge forecast` is now called `expunge deletions`.", err=True)
    deletions(*arguments, **options)


def _numbers(option: str, text: str) -> list[int]:
    """Whole numbers from an option, with commas between.

    Raises:
        BadSentence: one that is no whole number.
        BadData: more than fit in any dataset here.
    """
    pieces = [piece.strip() for piece in text.split(",") if piece.strip()]
    if len(pieces) > LONGEST_LIST:
        raise BadData(f"--{option} names {len(pieces)} numbers; {LONGEST_LIST} are the most.")
    for piece in pieces:
        if not (piece.isascii() and piece.removeprefix("-").isdigit() and len(piece) <= 15):
            raise BadSentence(f"--{option}: expected whole numbers and commas, got {piece!r}.")
    if not pieces:
        raise BadSentence(f"--{option}: expected whole numbers and commas, got {text!r}.")
    return [int(piece) for piece in pieces]


def _table(layouts: list[Layout], requests: int, rows: list[int]) -> Table:
    """A row for each layout, and one for retraining to compare with."""
    from expunge.methods.exact.deletions import deletion_share, forecast_deletions
    from expunge.report.numbers import percent

    found = [forecast_deletions(layout, requests) for layout in layouts]
    table = Table(box=None, pad_edge=False, header_style="bold")
    these = ["these rows"] if rows else []
    for name in ("", *these, "expected", "worst case", "expected, one by one", "checkpoints"):
        table.add_column(name, justify="right" if name else "left")
    shares = [*[1.0 for _ in these], 1.0, 1.0, found[0].retraining_one_at_a_time]
    table.add_row("retraining", *(percent(share, 1) for share in shares), "0")
    for one in found:
        exact = [deletion_share(one.layout, rows)] if rows else []
        shares = [*exact, one.expected, one.worst, one.one_at_a_time]
        name = f"{one.layout.shards} shards, {one.layout.slices} slices"
        table.add_row(name, *(percent(share, 1) for share in shares), str(one.checkpoints))
    return table
