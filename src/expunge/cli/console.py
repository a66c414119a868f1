"""The command line: demo, run, status, report, methods, show, forecast."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.text import Text

from expunge.cli.options import report_path
from expunge.errors import ExpungeError, StoreError
from expunge.experiments.experiment import Experiment

INTERRUPTED = 130


def carry_out(experiment: Experiment, store: Path, jobs: int) -> None:
    """Make what is missing, print the table, write the report."""
    from expunge.core.machine import cores
    from expunge.core.store import Store
    from expunge.experiments.progress import run_with_progress
    from expunge.experiments.summary import keep
    from expunge.report.page import write
    from expunge.report.terminal import draw

    opened = Store(store)
    plan = run_with_progress(experiment, opened, jobs or cores())
    summary = keep(plan, opened)
    console = wide_console()
    draw(summary, console)
    console.print(Text(f"Report: {write(summary, report_path(store, experiment.name))}"))


def wide_console() -> Console:
    """The terminal; a pipe or a file has no width of its own, and a table then takes what it needs.

    A width in COLUMNS is heeded by neither, so that a log says the same everywhere.
    """
    return Console() if sys.stdout.isatty() else Console(width=176)


def foretell(experiment: Experiment, store: Path, jobs: int) -> None:
    """Print what an experiment will cost on this machine."""
    import torch

    from expunge.core.machine import cores
    from expunge.core.store import Store
    from expunge.experiments import cost_forecast as foresight
    from expunge.experiments.planning import outline

    torch.set_num_threads(1)
    at_once = jobs or cores()
    opened = Store(store)
    foresight.draw(outline(experiment, opened), opened, at_once, wide_console())


@contextmanager
def told() -> Iterator[None]:
    """Turn the user's mistakes into a sentence and an exit code, without a traceback."""
    try:
        yield
    except ExpungeError as fault:
        typer.echo(f"expunge: {seen(str(fault))}", err=True)
        sys.exit(fault.exit_code)
    except (KeyboardInterrupt, SystemExit) as end:
        # Typer turns Ctrl-C into an exit of its own.
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:
            raise
        typer.echo("\nexpunge: stopped. What was made is kept; run the same again.", err=True)
        sys.exit(INTERRUPTED)


def seen(text: str) -> str:
    """A message without signs that act on a terminal; it may quote a foreign file."""
    return "".join(
        sign if sign.isprintable() or sign == "\n" else repr(sign)[1:-1] for sign in text
    )


def written(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        part.write_text(text + "\n", "utf-8")
        os.replace(part, path)
    except OSError as fault:
        raise StoreError(f"Cannot write {path}: {fault.strerror}.") from None
    finally:
        part.unlink(missing_ok=True)
    typer.echo(f"Written: {path}")
