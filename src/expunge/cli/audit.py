"""The command `audit`: whether a model, or every method of an experiment, forgot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from expunge.cli.console import write_text
from expunge.cli.options import panel
from expunge.errors import BadData, BadSentence

if TYPE_CHECKING:
    from rich.console import Console
    from torch import nn

    from expunge.audits.text.facts import FactAudit
    from expunge.core.store import Store
    from expunge.experiments.plan import Plan
    from expunge.problems.text.models import Loaded


Folder = Annotated[
    str,
    typer.Argument(
        help="The unlearned model: a folder, or a hub id; with --experiment on pictures, weights "
        "of your own for its network, a file .safetensors."
    ),
]


Whole = Annotated[str, typer.Option(help="Every method of this experiment instead, from --store.")]


Methods = Annotated[str, typer.Option(help="With --experiment: methods, with commas between.")]


Members = Annotated[
    int,
    typer.Option(
        min=0, help="With --experiment: members, from --seed on; of pictures, models of a method."
    ),
]


Margin = Annotated[
    float | None,
    typer.Option(help="The share of knowledge that matters; 0.2 for texts, 0.1 for pictures."),
]


Jobs = Annotated[int, typer.Option(min=0, help="With --experiment: processes; 0: one a core.")]


Original = Annotated[str, typer.Option(help="The model before unlearning.")]


Oracles = Annotated[
    list[str] | None,
    typer.Option("--oracle", help="A model retrained without the forget set; several are better."),
]


Forget = Annotated[Path | None, typer.Option(help="JSON Lines: prompt, answer, subject, value.")]


Retain = Annotated[
    Path | None, typer.Option(help="What was to be kept; without it, no collapse is seen.")
]


Holdout = Annotated[
    Path | None, typer.Option(help="Like the forget set, and taught to nobody: checks oracles.")
]


Only = Annotated[str, typer.Option(help="Families to try besides plain asking, with commas.")]


Out = Annotated[Path | None, typer.Option(help="A report: a file .json or .html.")]


STORE = Path("expunge-audit")


def audit(
    subject: Folder = "",
    original: Original = "",
    forget: Forget = None,
    oracle: Oracles = None,
    retain: Retain = None,
    holdout: Holdout = None,
    only: Only = "",
    margin: Margin = None,
    seed: Annotated[int, typer.Option(help="All that audits draw follows from it.")] = 0,
    chat: Annotated[bool, typer.Option(help="Use the tokenizer's chat template.")] = False,
    redact: Annotated[bool, typer.Option(help="Leave prompts and answers out.")] = False,
    store: Annotated[Path, typer.Option(help="Folder that keeps each reading.")] = STORE,
    out: Out = None,
    experiment: Whole = "",
    methods: Methods = "",
    members: Members = 0,
    jobs: Jobs = 0,
) -> None:
    """Say whether a model forgot: removed, suppressed, not forgotten, collapsed.

    Every audit is carried out alike on the model, the original, the retrained ones and a guardrail.
    Run the same command again, and it goes on where it was stopped.
    """
    if out is not None and out.suffix not in (".json", ".html"):
        raise BadSentence(f"--out: expected a file .json or .html, got {out.name}.")
    if experiment:
        _refuse_folders(original, forget, oracle)

        asked = Request(subject, only, methods, members, seed, margin, jobs, redact)
        audit_experiment(experiment, store, asked, out)
        return
    if not subject or not original or forget is None:
        raise BadSentence(
            "Expected the folder of a model with --original and --forget, or --experiment NAME "
            "with the --store in which it was carried out."
        )
    _audit_folders(
        subject, original, forget, oracle, retain, holdout, audits=panel(only),
        margin=margin, seed=seed, chat=chat, redact=redact, store=store, out=out,
    )  # fmt: skip


def _refuse_folders(*given: object) -> None:
    if any(given):
        raise BadSentence(
            "--experiment takes its models and facts from --store; leave --original, --oracle and "
            "--forget out."
        )


def _audit_folders(
    subject: str,
    original: str,
    forget: Path,
    oracle: list[str] | None,
    retain: Path | None,
    holdout: Path | None,
    *,
    audits: tuple[FactAudit, ...],
    margin: float | None,
    seed: int,
    chat: bool,
    redact: bool,
    store: Path,
    out: Path | None,
) -> None:
    """Audit one model from folders."""
    from expunge.audits.text.facts import FactProblem
    from expunge.audits.text.lm_verdict import MARGIN, AuditRequest, audit_models
    from expunge.cli.console import wide_console
    from expunge.core.machine import transformers
    from expunge.core.store import Store
    from expunge.problems.text.jsonl import read_items
    from expunge.report.verdicts import card, page

    if not oracle:
        raise BadSentence(
            "No --oracle was given. Without a model retrained without the forget set, nobody can "
            "tell what a model that never saw it would know, and there is no verdict."
        )
    items = read_items(forget)
    kept = read_items(retain, 1_000_000) if retain else ()
    untaught = read_items(holdout, 2_000_000) if holdout else ()
    transformers().utils.logging.disable_progress_bar()
    limit = MARGIN if margin is None else margin
    models = loaded(subject, original, oracle)
    found = audit_models(
        models["subject"].model,
        models["original"].model,
        [one.model for name, one in models.items() if name.startswith("oracle")],
        FactProblem(tuple(items), tuple(kept), models["original"].tokenizer, chat=chat),
        AuditRequest(audits, tuple(untaught), seed, limit),
        Store(store),
    )
    told = card(found, redact=redact)
    wide_console().print(told.drawn())
    if out is not None:
        write_text(out, page(told) if out.suffix == ".html" else json.dumps(told.plain(), indent=1))


def loaded(subject: str, original: str, oracles: Sequence[str]) -> dict[str, Loaded]:
    """All models, with one tokenizer.

    Raises:
        BadData: tokenizers that differ: the same words would be other tokens.
    """
    from expunge.problems.text.models import load

    places = {"subject": subject, "original": original}
    places |= {f"oracle {number}": one for number, one in enumerate(oracles, 1)}
    models = {name: load(place) for name, place in places.items()}
    first = vocabulary(models["original"].tokenizer)
    for name, one in models.items():
        if vocabulary(one.tokenizer) != first:
            raise BadData(
                f"The {name} ({places[name]}) has another tokenizer than the original: the same "
                "words are other tokens to it, and numbers of tokens cannot be compared."
            )
    return models


def vocabulary(tokenizer: Any) -> Any:
    """What tells a tokenizer from others: its tokens, and how it cuts and joins them."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return backend.to_str() if backend is not None else tokenizer.get_vocab()


@dataclass(frozen=True)
class Request:
    """What the command was asked for, besides the experiment.

    Args:
        subject: a file of weights of one's own; empty for none.
        only: families of audits with commas between; all when empty.
        methods: names with commas between; all when empty.
        members: of texts, members that are judged one by one; of pictures, models of a method that
            are judged together; 0 for the usual number.
        seed: the first member.
        margin: the share of the original's lead that matters; None for the usual one.
        jobs: processes; 0 for one a core.
        redact: leave prompts and answers out.
    """

    subject: str
    only: str
    methods: str
    members: int
    seed: int
    margin: float | None
    jobs: int
    redact: bool


def audit_experiment(name: str, store: Path, asked: Request, out: Path | None) -> None:
    """Audit all methods of an experiment that was carried out; print a table, write a page.

    Args:
        name: of an experiment, or its file.
        store: where its models lie.
        asked: who is judged, and how.
        out: a file .json or .html; without one, a page in the store's reports.

    Raises:
        BadSentence: an experiment, method or member that does not exist.
        StoreError: a store without the experiment's models.
    """
    import torch

    from expunge.cli.console import wide_console, write_text
    from expunge.cli.options import existing, report_path
    from expunge.core.store import Store
    from expunge.experiments.experiment import load
    from expunge.experiments.planning import LANGUAGE, plan_for
    from expunge.report.audit_table import draw
    from expunge.report.verdicts import render

    torch.set_num_threads(1)
    experiment = load(name)
    opened = Store(existing(store))
    if asked.seed < 0:
        raise BadSentence(f"--seed {asked.seed}: expected 0 or more.")
    plan, console = plan_for(experiment, opened), wide_console()
    judge = _texts if experiment.problem in LANGUAGE else _pictures
    found = judge(plan, opened, asked, console)
    draw(found, console)
    place = out or report_path(store, f"{experiment.name}-audit")
    write_text(place, json.dumps(found, indent=1) if place.suffix == ".json" else render(found))


def _texts(plan: Plan, store: Store, asked: Request, console: Console) -> Mapping[str, Any]:
    """Language models, member by member."""
    from expunge.audits.text.lm_verdict import MARGIN
    from expunge.cli.options import panel
    from expunge.core.machine import cores
    from expunge.experiments.auditing.experiment_audit import ExperimentAuditRequest
    from expunge.experiments.auditing.language_models import read_all, verdicts

    if asked.subject:
        raise BadSentence(
            f"{plan.experiment.name} is on texts: a model of your own stands before the same "
            "audits as expunge audit FOLDER --original ... --oracle ... --forget ..."
        )
    first = plan.experiment.seeds[0] + asked.seed
    seeds = tuple(range(first, first + (asked.members or 1)))
    margin = MARGIN if asked.margin is None else asked.margin
    which = ExperimentAuditRequest(panel(asked.only), seeds, _names(asked.methods), margin)
    for who, seconds in read_all(plan, store, which, asked.jobs or cores()):
        console.print(f"read: {who} ({seconds:.1f} s of processor time)", markup=False)
    return verdicts(plan, store, which, redact=asked.redact)


def _pictures(plan: Plan, store: Store, asked: Request, console: Console) -> Mapping[str, Any]:
    """Classifiers: the models of a method together."""
    from expunge.audits.images.classifier_audit import ClassifierAudit
    from expunge.core.machine import cores
    from expunge.experiments.auditing.classifiers import panel_of, refuse_oracles, trial, verdicts
    from expunge.experiments.auditing.experiment_audit import ExperimentAuditRequest
    from expunge.experiments.graph import audit
    from expunge.experiments.progress import lines

    if asked.seed:
        raise BadSentence(
            "--seed: the models of a method on pictures are judged together, from the first on; "
            "leave it out, and say with --members how many."
        )
    margin = ClassifierAudit.margin if asked.margin is None else asked.margin
    audits = panel_of(plan.experiment, _names(asked.only))
    seeds = tuple(range(asked.members))
    which = ExperimentAuditRequest(audits, seeds, _names(asked.methods), margin)
    here = trial(plan, store, which, _own(asked.subject, plan))
    for name in here.own:
        refuse_oracles(here, name)
    lines(audit(here.plan, store, asked.jobs or cores()), console)
    return verdicts(here)


def _own(file: str, plan: Plan) -> dict[str, nn.Module]:
    """A model of one's own for the experiment's network, by the name of its file.

    Raises:
        BadData: no safetensors file, or weights that do not fit the network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from expunge.core.machine import device
    from expunge.core.store import model_state
    from expunge.engine.check import refuse_broken

    if not file:
        return {}
    place = Path(file)
    if place.suffix != ".safetensors" or not place.is_file():
        raise BadData(
            f"{file}: expected a file .safetensors with the weights and buffers of one model, as "
            "safetensors.torch.save_file(model.state_dict(), FILE) writes it."
        )
    try:
        model = model_state(load_file(place), plan.problem.untrained("load")).to(device())
    except (SafetensorError, RuntimeError, OSError) as fault:
        network = plan.experiment.architecture
        why = " ".join(str(fault).split())[:300]
        raise BadData(f"{place.name} does not fit the network {network}: {why}") from None
    refuse_broken(model, place.name)
    return {place.stem: model}


def _names(methods: str) -> tuple[str, ...]:
    """The names between commas."""
    return tuple(name.strip() for name in methods.split(",") if name.strip())
