"""The command line: demo, run, status, report, methods, show, deletions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from expunge.cli.advise import advise, answers, concept
from expunge.cli.audit import audit as audit_command
from expunge.cli.console import (
    forecast_experiment,
    mistakes_as_sentences,
    run_experiment,
    wide_console,
)
from expunge.cli.deletions import deletions, forecast
from expunge.cli.options import (
    STORE,
    Asked,
    Audited,
    Audits,
    DataOption,
    Forget,
    Jobs,
    Members,
    Name,
    On,
    Only,
    Own,
    Protocol,
    Rule,
    Seed,
    Shadows,
    Size,
    StoreOption,
    Title,
    adjusted,
    existing,
    report_path,
    told_audits,
    wanted,
)
from expunge.cli.sequential import sequential
from expunge.cli.tuning import search, tune
from expunge.cli.unlearn import unlearn_command
from expunge.core.machine import __version__
from expunge.experiments.experiment import load, load_all, read
from expunge.methods.sentences import as_method

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def about(
    version: Annotated[bool, typer.Option("--version", help="Say which expunge this is.")] = False,
) -> None:
    """Make a trained model forget, and show what it did and did not forget."""
    if version:
        sys.stdout.write(f"expunge {__version__}\n")
        raise typer.Exit


@app.command()
def demo(
    lm: Annotated[bool, typer.Option("--lm", help="A small language model instead.")] = False,
    members: Members = None,
    only: Only = "",
    method: Own = None,
    store: StoreOption = STORE,
    jobs: Jobs = 0,
    seed: Seed = None,
    audit: Audits = None,
    audited: Audited = None,
) -> None:
    """Forget a tenth of scikit-learn's digits by every method.

    With --lm a small language model that was taught invented people forgets some of them.
    """
    changes = {"members": members, "seed": seed, "audits": told_audits(audit), "audited": audited}
    chosen = adjusted(load("people" if lm else "digits"), only, method, **changes)
    run_experiment(chosen, store, jobs)


@app.command()
def run(
    experiment: Name,
    members: Members = None,
    only: Only = "",
    method: Own = None,
    store: StoreOption = STORE,
    jobs: Jobs = 0,
    data: DataOption = "",
    seed: Seed = None,
    train_size: Size = None,
    forget: Forget = "",
    shadows: Shadows = None,
    rule: Rule = "",
    protocol: Protocol = "",
    audit: Audits = None,
    audited: Audited = None,
    forecast: Annotated[
        bool, typer.Option("--forecast", help="Only say what it will cost.")
    ] = False,
) -> None:
    """Carry out an experiment, or go on with it.

    Run the same command again and it goes on where it was stopped, or says that it is done. A
    suite, such as ranking-digits, is carried out one experiment after the other.
    """
    from expunge.experiments.planning import chosen_by_shadows

    changes = {
        "members": members,
        "seed": seed,
        "data": data or None,
        "train_size": train_size,
        "forget": forget or None,
        "shadows": shadows,
        "rule": rule or None,
        "protocol": protocol or None,
        "audits": told_audits(audit),
        "audited": audited,
    }
    # All are read before the first is begun: a slip in the last one is told at once.
    listed = [adjusted(one, only, method, **changes) for one in load_all(experiment)]
    for chosen in listed:
        chosen_by_shadows(chosen)
    for chosen in listed:
        (forecast_experiment if forecast else run_experiment)(chosen, store, jobs)


@app.command()
def rank(
    title: Title = "",
    store: StoreOption = STORE,
    markdown: Annotated[bool, typer.Option(help="A table for a README.")] = False,
) -> None:
    """Rank the methods of a finished experiment.

    Those that cannot be told apart share a rank.
    """
    from expunge.core.store import Store
    from expunge.report import terminal

    opened = Store(existing(store))
    found = opened.named("summary", wanted(title, opened.names("summary"), store))
    console = Console() if sys.stdout.isatty() else Console(width=160)
    if markdown:
        typer.echo(terminal.markdown(found))
        return
    terminal.draw_ranking(found, console)


@app.command()
def status(title: Title = "", store: StoreOption = STORE) -> None:
    """Say what of an experiment is made, and the time to go."""
    from expunge.core.store import Store
    from expunge.experiments.progress import print_status

    opened = Store(existing(store))
    names = opened.names("experiment")
    text = opened.named("experiment", wanted(title, names, store))["text"]
    print_status(read(text, "the store"), opened, Console())


@app.command()
def report(
    title: Title = "",
    store: StoreOption = STORE,
    out: Annotated[Path | None, typer.Option(help="The file to write.")] = None,
) -> None:
    """Write the report of a finished experiment: one HTML file."""
    from expunge.core.store import Store
    from expunge.report.page import write

    opened = Store(existing(store))
    name = wanted(title, opened.names("summary"), store)
    path = write(opened.named("summary", name), out or report_path(store, name))
    typer.echo(path)


@app.command()
def methods(names: Asked = None, on: On = "digits", data: DataOption = "") -> None:
    """List the published methods, or explain those named.

    The list says what each needs and costs, what it guarantees, and where it is from.
    """
    from expunge.cli.explain import print_explanations, print_methods
    from expunge.experiments.planning import outline

    wanted = [None if name == "retrain" else as_method(name) for name in names or ()]
    plan = outline(adjusted(load(on), "", None, data=data or None))
    if wanted:
        print_explanations([method or plan.retrain for method in wanted], plan, wide_console())
    else:
        print_methods(plan, wide_console())


@app.command()
def show(
    sentence: Annotated[str, typer.Argument(help="A sentence, or a published method's name.")],
    on: On = "digits",
    data: DataOption = "",
) -> None:
    """Explain a method: its steps, what they read, and its cost."""
    methods([sentence], on, data)


app.command()(deletions)


app.command("forecast", hidden=True)(forecast)


app.command()(tune)


app.command()(search)


app.command("unlearn")(unlearn_command)


app.command()(advise)


app.command()(answers)


app.command()(concept)


app.command()(sequential)


app.command("audit")(audit_command)


def main() -> None:
    """The command `expunge`."""
    with mistakes_as_sentences():
        app()
