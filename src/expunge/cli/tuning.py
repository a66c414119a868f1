"""The commands `tune` and `search`: equal chances for every method, and combinations of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from expunge.cli.options import STORE, DataOption, Jobs, Name, Size, StoreOption
from expunge.errors import StoreError

Only = Annotated[str, typer.Option(help="Names of the methods to tune, with commas between.")]


Own = Annotated[
    list[str] | None,
    typer.Option("--method", help="A method of your own, tuned as all are: NAME=SENTENCE."),
]


Members = Annotated[int, typer.Option(help="Unlearned models of a trial.")]


Oracles = Annotated[int, typer.Option(help="Retrained models, and as many for the finalists.")]


Cost = Annotated[
    float,
    typer.Option(help="The most that a method may read, as a share of what retraining reads."),
]


Hold = Annotated[
    list[str] | None, typer.Option(help="A number that stays, such as 'batch*'; may be repeated.")
]


HeldOut = Annotated[str, typer.Option(help="The forget set to tune on; drawn unless given.")]


Seed = Annotated[int | None, typer.Option(help="Draws the members and their held-out twins.")]


Forget = Annotated[str, typer.Option(help="The ranking's forget set, such as 'WholeClass(3)'.")]


Write = Annotated[Path | None, typer.Option(help="A file for the experiment as tuned.")]


def tune(
    experiment: Name,
    trials: Annotated[int, typer.Option(help="Configurations of each method.")] = 30,
    only: Only = "",
    method: Own = None,
    members: Members = 16,
    oracles: Oracles = 64,
    cost: Cost = 0.2,
    hold: Hold = None,
    held_out: HeldOut = "",
    store: StoreOption = STORE,
    jobs: Jobs = 2,
    data: DataOption = "",
    seed: Seed = None,
    train_size: Size = None,
    forget: Forget = "",
    write: Write = None,
) -> None:
    """Tune every method's numbers with equal budgets.

    It is done on forget examples and retrained models that the ranking never sees.
    """
    from expunge.cli.console import wide_console
    from expunge.cli.options import adjusted
    from expunge.core.machine import cores
    from expunge.core.store import Store
    from expunge.experiments.experiment import load, to_toml
    from expunge.experiments.tuning.record import keep, tuning_record
    from expunge.experiments.tuning.tune import Budget, tune
    from expunge.report.terminal import draw_tuning

    changes = {"data": data or None, "seed": seed, "train_size": train_size}
    chosen = adjusted(load(experiment), only, method, forget=forget or None, **changes)
    budget = Budget(trials, members, oracles, cost, tuple(hold or ()))
    opened = Store(store)
    found = show_progress(tune(chosen, opened, budget, jobs=jobs or cores(), forget=held_out))
    keep("tuning", chosen, tuning_record(found), opened)
    draw_tuning(found, wide_console())
    if write:
        put(write, to_toml(found.experiment_tuned))


def search(
    experiment: Name,
    budget: Annotated[int, typer.Option(help="Sentences that are tried.")] = 200,
    only: Annotated[str, typer.Option(help="Published entries to start from, with commas.")] = "",
    method: Own = None,
    members: Annotated[int, typer.Option(help="Unlearned models in a first look.")] = 8,
    oracles: Oracles = 64,
    cost: Cost = 0.2,
    words: Annotated[Path | None, typer.Option(help="A TOML file of allowed words.")] = None,
    then: Annotated[
        list[str] | None, typer.Option(help="A further experiment to score on; may be repeated.")
    ] = None,
    rank_members: Annotated[
        int | None, typer.Option(help="Models a side when what was found is scored.")
    ] = None,
    moves_seed: Annotated[int, typer.Option(help="Draws the mutations.")] = 0,
    held_out: HeldOut = "",
    store: StoreOption = STORE,
    jobs: Jobs = 2,
    data: DataOption = "",
    seed: Seed = None,
    train_size: Size = None,
    forget: Forget = "",
    write: Write = None,
) -> None:
    """Search over combinations of steps, and score what is found.

    The aim is the one nearest to retraining; it is scored on models that the search never saw.
    """
    from expunge.cli.console import wide_console
    from expunge.cli.options import adjusted
    from expunge.core.machine import cores
    from expunge.core.store import Store
    from expunge.experiments.experiment import load, to_toml
    from expunge.experiments.tuning.mutations import search_vocabulary
    from expunge.experiments.tuning.record import keep, search_record
    from expunge.experiments.tuning.search import SearchBudget, scored, search
    from expunge.report.terminal import draw_search

    changes = {"data": data or None, "seed": seed, "train_size": train_size}
    chosen = adjusted(load(experiment), only, method, forget=forget or None, **changes)
    terms = SearchBudget(budget, members, oracles, cost, moves_seed)
    allowed, opened, count = search_vocabulary(words), Store(store), jobs or cores()
    others = [adjusted(load(name), "", None, data=data or None) for name in then or ()]
    found = show_progress(search(chosen, opened, terms, allowed, jobs=count, forget=held_out))
    ranked = [adjusted(each, "", None, members=rank_members) for each in (chosen, *others)]
    summaries = [show_progress(scored(found, each, opened, count)) for each in ranked]
    keep("search", chosen, search_record(found, summaries), opened)
    draw_search(found, summaries, wide_console())
    if write:
        put(write, to_toml(found.experiment_with_found))


def show_progress(pieces: Iterable[object]) -> Any:
    """Print a line for each thing done, and return the last piece: what was found."""
    from expunge.experiments.graph import Progress

    found: object = None
    for found in pieces:
        if isinstance(found, Progress):
            typer.echo(f"{found.stage}: {found.title}, {found.made} of {found.of}", err=True)
    return found


def put(path: Path, text: str) -> None:
    """Write a file.

    Raises:
        StoreError: it cannot be written.
    """
    try:
        path.write_text(text, "utf-8")
    except OSError as fault:
        raise StoreError(f"{path} could not be written: {fault.strerror}.") from None
    typer.echo(f"Written: {path}")
