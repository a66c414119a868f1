"""What the commands share: run or forecast an experiment, and say mistakes as sentences."""

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


def run_experiment(experiment: Experiment, store: Path, jobs: int) -> None:
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


def forecast_experiment(experiment: Experiment, store: Path, jobs: int) -> None:
    """Print what an experiment will cost on this machine."""
    import torch

    from expunge.core.machine import cores
    from expunge.core.store import Store
    from expunge.experiments.planning import outline
    from expunge.experiments.progress import print_cost

    torch.set_num_threads(1)
    opened = Store(store)
    print_cost(outline(experiment, opened), opened, jobs or cores(), wide_console())


def wide_console() -> Console:
    """Return a console on standard output, 176 columns wide where that is no terminal.

    A width in COLUMNS is ignored there, so that a log looks the same everywhere.
    """
    return Console() if sys.stdout.isatty() else Console(width=176)


@contextmanager
def mistakes_as_sentences() -> Iterator[None]:
    """Turn the user's mistakes in the block into a sentence and an exit code, not a traceback."""
    try:
        yield
    except ExpungeError as fault:
        typer.echo(f"expunge: {printable(str(fault))}", err=True)
        sys.exit(fault.exit_code)
    except (KeyboardInterrupt, SystemExit) as end:
        # Typer turns Ctrl-C into an exit of its own.
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:
            raise
        typer.echo(
            "\nexpunge: stopped. Finished work is kept; run the same command to resume.", err=True
        )
        sys.exit(INTERRUPTED)


def printable(text: str) -> str:
    """Return a message without signs that act on a terminal; it may quote a foreign file."""
    return "".join(
        sign if sign.isprintable() or sign == "\n" else repr(sign)[1:-1] for sign in text
    )


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, and print where it is.

    Raises:
        StoreError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        part.write_text(text + "\n", "utf-8")
        os.replace(part, path)
    except OSError as fault:
        raise StoreError(f"Cannot write {path}: {fault.strerror}.") from None
    finally:
        part.unlink(missing_ok=True)
    typer.echo(f"Written: {path}")
