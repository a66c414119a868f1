"""The command `sequential`: requests one after another, and whether the first stays forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from expunge.audits.images.classifier_audit import ClassifierAudit
from expunge.cli.options import STORE, DataOption, Name, StoreOption
from expunge.errors import BadSentence

if TYPE_CHECKING:
    from rich.table import Table

    from expunge.core.method import Method
    from expunge.experiments.experiment import Experiment


def sequential(
    experiment: Name,
    method: Annotated[
        str, typer.Option(help="One of the experiment's, a published one, or NAME=SENTENCE.")
    ] = "finetune",
    requests: Annotated[int, typer.Option(help="How many, the forget set first.")] = 3,
    audit: Annotated[
        str, typer.Option(help="What is asked of the first after each, such as 'Relearn()'.")
    ] = "ForgetConfidence()",
    members: Annotated[int, typer.Option(help="Originals, each unlearned in turn.")] = 8,
    oracles: Annotated[int, typer.Option(help="Models retrained for each request.")] = 8,
    forget: Annotated[str, typer.Option(help="The first request, such as 'WholeClass(3)'.")] = "",
    store: StoreOption = STORE,
    data: DataOption = "",
    seed: Annotated[int | None, typer.Option(help="Draws the members.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes, for shadow models.")] = 1,
) -> None:
    """Forget request after request: does the first stay forgotten?"""
    import torch

    from expunge.cli.console import wide_console
    from expunge.cli.options import adjusted
    from expunge.core.store import Store
    from expunge.experiments.experiment import load
    from expunge.experiments.sequential import Requests, answer, asked_of

    torch.set_num_threads(1)
    changes = {"forget": forget or None, "data": data or None, "seed": seed}
    chosen = adjusted(load(experiment), "", None, members=members, **changes)
    asked = Requests(chosen_method(chosen, method), chosen_audit(audit), requests, oracles)
    found = asked_of(chosen, asked, Store(store), jobs)
    console = wide_console()
    console.print(table(found))
    console.print(legend(found), markup=False)
    console.print(f"Does the first stay forgotten? {answer(found)}", markup=False)


def chosen_method(experiment: Experiment, said: str) -> Method:
    """A method of the experiment by its name, a published one, or one of the user's own."""
    from expunge.cli.options import own_method

    named = {method.name: method for method in experiment.methods}
    return named[said] if said in named else own_method(said, 1)


def chosen_audit(said: str) -> ClassifierAudit:
    """The audit of a sentence.

    Raises:
        BadSentence: it is no audit.
    """
    from expunge.audits.panel import audit_words
    from expunge.core.sentence import parse

    found = parse(said, audit_words())
    if not isinstance(found, ClassifierAudit):
        raise BadSentence(f"{said[:80]!r} is no audit; write ForgetConfidence() or Relearn().")
    return found


def table(found: Mapping[str, Any]) -> Table:
    """A row a request: what the audit says of the first one after it."""
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    names = ("after request", "forgotten by then", "of the first recovered", "kept (retrained)")
    for name in (*names, "verdict", "why"):
        drawn.add_column(name, justify="left" if name in ("verdict", "why") else "right")
    for number, each in enumerate(found["after"], start=1):
        share = each["recovered"]
        shown = "-"
        if "value" in share:
            shown = f"{share['value']:.2f} [{share['low']:.2f}, {share['high']:.2f}]"
        gone = str(number * found["size"])
        kept = f"{each['kept']:.2f} ({each['kept_retrained']:.2f})"
        drawn.add_row(str(number), gone, shown, kept, each["word"], Text(each["reason"]))
    return drawn


def legend(found: Mapping[str, Any]) -> str:
    """How to read the table."""
    machine = found["hardware"]
    return (
        f"{found['method']['name']} on {found['experiment']}, first request {found['forget']} "
        f"({found['size']} of {found['train']} examples), then as many random ones each time; "
        f"{found['members']} originals, {found['oracles']} models retrained for each request "
        f"without all that was asked for until then. {found['audit']} asks of the first request: "
        "0 as retrained, 1 as the original, 95 % interval over models. Kept: mean probability of "
        "the right class, or of the answer's tokens, on what is still to be known. Measured on "
        f"{machine['processor']}, {machine['cores']} cores."
    )
