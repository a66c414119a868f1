"""The command line: demo, run, status, report, methods, show, forecast."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from expunge.audits.images.classifier_audit import ClassifierAudit
from expunge.audits.panel import asked
from expunge.core.method import Method
from expunge.errors import BadSentence, StoreError, did_you_mean
from expunge.experiments.experiment import Experiment
from expunge.methods.sentences import as_method

if TYPE_CHECKING:
    from expunge.audits.text.facts import FactAudit

Name = Annotated[str, typer.Argument(help="A file, or the name of an experiment.")]


StoreOption = Annotated[Path, typer.Option(help="Folder that keeps what is made.")]


Jobs = Annotated[int, typer.Option(min=0, help="Processes; 0 for one a core.")]


DataOption = Annotated[str, typer.Option(help="Folder of the data, where a problem needs one.")]


Size = Annotated[int | None, typer.Option(help="Use a subset of the training set.")]


Forget = Annotated[str, typer.Option(help="The forget set, such as 'WholeClass(3)'.")]


STORE = Path("expunge-store")


Members = Annotated[int | None, typer.Option(help="Models of each kind; 16 or more can rank.")]


Only = Annotated[str, typer.Option(help="Names of the methods to compare, with commas between.")]


Own = Annotated[
    list[str] | None,
    typer.Option("--method", help="A method of your own: SENTENCE or NAME=SENTENCE."),
]


Seed = Annotated[int | None, typer.Option(help="Draws the members.")]


Shadows = Annotated[int | None, typer.Option(help="Models on random halves of the data.")]


Rule = Annotated[str, typer.Option(help="released (comparable with published) or exact.")]


Protocol = Annotated[str, typer.Option(help="challenge (one original) or paired (N originals).")]


Audits = Annotated[
    list[str] | None,
    typer.Option(
        "--audit",
        help="An audit of the weights, such as 'Relearn()', or standard for the usual ones, in "
        "place of the experiment's; say --audit again for another.",
    ),
]


Audited = Annotated[int | None, typer.Option(help="Models of each kind that audits measure.")]


On = Annotated[str, typer.Option(help="The experiment on whose network and sets it is told.")]


Asked = Annotated[list[str] | None, typer.Argument(help="Names or sentences; all when left out.")]


Title = Annotated[str, typer.Argument(help="Name of an experiment; the last one when left out.")]


def adjusted(
    experiment: Experiment, only: str, own: list[str] | None, **changes: object
) -> Experiment:
    """An experiment with what the command line changes."""
    given = {name: value for name, value in changes.items() if value is not None}
    chosen = chosen_methods(experiment, only)
    mine = tuple(own_method(said, number) for number, said in enumerate(own or (), start=1))
    return replace(experiment, methods=(*chosen, *mine), **given)  # type: ignore[arg-type]


def told_audits(said: list[str] | None) -> tuple[ClassifierAudit, ...] | None:
    """The audits of --audit, one sentence each; None where none is given."""
    return asked(said, "--audit") if said else None


def chosen_methods(experiment: Experiment, only: str) -> tuple[Method, ...]:
    """The methods named by --only; all when it is empty."""
    there = {method.name: method for method in experiment.methods}
    names = [name.strip() for name in only.split(",") if name.strip()]
    for name in names:
        if name not in there:
            hint = did_you_mean(name, there)
            raise BadSentence(f"--only: no method {name!r} in {experiment.name}.{hint}")
    return tuple(there[name] for name in names) if names else experiment.methods


def own_method(said: str, number: int) -> Method:
    """A method from NAME=SENTENCE, or from a sentence alone."""
    head, equals, tail = said.partition("=")
    name = head.strip()
    if equals and name and "(" not in name:
        return Method(name, as_method(tail, name).steps)
    return Method(f"mine_{number}", as_method(said).steps)


def report_path(store: Path, name: str) -> Path:
    """Where a report is written unless told otherwise."""
    folder = store / "reports"
    folder.mkdir(exist_ok=True)
    return folder / f"{name}.html"


def existing(store: Path) -> Path:
    """A store that is there already."""
    if not (store / "STORE").exists():
        raise StoreError(f"There is no store at {store}. Run an experiment first, or give --store.")
    return store


def wanted(title: str, names: list[str], store: Path) -> str:
    """The title asked for, or the last one."""
    if not names:
        raise StoreError(f"The store {store} holds no finished experiment yet.")
    if title and title not in names:
        hint = did_you_mean(title, names)
        raise StoreError(f"The store {store} knows {', '.join(names)}, not {title!r}.{hint}")
    return title or names[-1]


def panel(only: str) -> tuple[FactAudit, ...]:
    """The audits of some families, or all; plain asking is always among them.

    Raises:
        BadSentence: a family that does not exist.
    """
    from expunge.audits.panel import STANDARD_TEXT

    names = [name.strip() for name in only.split(",") if name.strip()]
    there = dict.fromkeys(str(one.family) for one in STANDARD_TEXT)
    for name in names:
        if name not in there:
            hint = did_you_mean(name, there)
            raise BadSentence(f"--only: no family {name!r}; there are {', '.join(there)}.{hint}")
    return tuple(one for one in STANDARD_TEXT if not names or one.family in names or one.plain)
