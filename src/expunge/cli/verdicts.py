"""`audit --experiment`: every method of an experiment, from the models in its store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.errors import BadData, BadSentence

if TYPE_CHECKING:
    from rich.console import Console
    from torch import nn

    from expunge.core.store import Store
    from expunge.experiments.plan import Plan


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
    from expunge.experiments.auditing.language_models import (
        read_all,
        verdicts,
    )

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
    from expunge.experiments.auditing.classifiers import (
        panel_of,
        refuse_oracles,
        trial,
        verdicts,
    )
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
