"""How far an experiment is, and what it will cost before it is run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from expunge.core.store import Job, Store
from expunge.engine.stacking import Timing
from expunge.engine.training import Train, unrolled
from expunge.errors import ExpungeError
from expunge.experiments.audit_jobs import AuditRoles, counted, timed
from expunge.experiments.experiment import Experiment, to_toml
from expunge.experiments.graph import Progress, choose, make
from expunge.experiments.make import choose_engine, counts
from expunge.experiments.plan import Plan
from expunge.experiments.planning import chosen_by_shadows, outline, plan_for
from expunge.experiments.shadowing import notice
from expunge.methods.cost import forecast, time_in_words
from expunge.metrics.row_label import LARGEST_COST


def run_with_progress(experiment: Experiment, store: Store, jobs: int) -> Plan:
    """Make what is missing of an experiment and show how far it is, on standard error."""
    console = Console(stderr=True)
    with console.status("reading the data"):
        plan = outline(experiment, store)  # a mistake is reported before the store knows the name
    text = to_toml(experiment)
    job = Job("experiment", text)
    if not store.has(job):
        store.write(job, about={"text": text})
    store.name(experiment.name, job)
    # One thread a process, so that results do not depend on how many processes there are.
    torch.set_num_threads(1)
    draw = _bars if console.is_terminal else lines
    if chosen_by_shadows(experiment):
        draw(choose(experiment, store, jobs), console)
        plan = plan_for(experiment, store)
    progress = make(plan, store, jobs)
    with console.status("timing a few steps, stacked and alone"):
        begun = list(islice(progress, 1))  # the first piece comes once the timing is known
    draw(chain(begun, progress), console)
    return plan


def _bars(progress: Iterator[Progress], console: Console) -> None:
    columns = (
        TextColumn("{task.description:<9}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[now]}", markup=False),
    )
    with Bars(*columns, console=console) as bars:
        known = {}
        for piece in progress:
            if piece.stage not in known:
                known[piece.stage] = bars.add_task(piece.stage, total=piece.of, now="")
            bars.update(known[piece.stage], completed=piece.made, total=piece.of, now=piece.title)


def lines(progress: Iterator[Progress], console: Console) -> None:
    """One line a stage when it ends: quiet enough for a log."""
    for piece in progress:
        if piece.made == piece.of:
            console.print(Text(f"{piece.stage}: {piece.made} made"))


def print_status(experiment: Experiment, store: Store, console: Console) -> None:
    """Print what is made and missing, and about how long the rest will take."""
    plan = outline(experiment, store)
    found = {**counts(plan, store), **counted(plan, store)}
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("what", "made", "missing", "seconds each"):
        table.add_column(name, justify="left" if name == "what" else "right")
    left = 0.0
    for title, (made, of, seconds) in found.items():
        shown = "-" if seconds is None else f"{seconds:.2f}"
        table.add_row(Text(title), str(made), str(of - made), shown)
        left += (of - made) * (seconds_of(title, found) if seconds is None else seconds)
    console.print(table)
    scored = sum(store.has(plan.score(method)) for method in plan.methods)
    failed = sum(store.has(plan.failure(method)) for method in plan.methods)
    rest = f", {failed} unscored, with a reason" if failed else ""
    console.print(f"scores: {scored} of {len(plan.methods)}{rest}")
    if not plan.settled:
        console.print(Text(notice(plan)))
    if any(made < of for made, of, _ in found.values()):
        missing = f"The missing models take about {time_in_words(left / (os.cpu_count() or 1))}"
        unknown = "No model is finished yet, so the time is not known."
        console.print(f"{missing} with one process a core." if left else unknown)


def seconds_of(title: str, found: dict[str, tuple[int, int, float | None]]) -> float:
    """Estimate the seconds of a kind of model that was never made: from retraining, if known."""
    full = found["oracles"][2] or found["originals"][2] or 0.0
    return full if title in ("oracles", "originals", "retrain") else LARGEST_COST * full


LEGEND = (
    "A few steps of the recipe were timed on this machine. Methods are taken to read examples at "
    "the recipe's pace; one that cannot be stacked is slower. Each audit was timed once on an "
    "untrained network. Scoring and attacks are not counted."
)


@dataclass(frozen=True)
class CostLine:
    """One row: so many models, each reading so many examples.

    Args:
        what: a kind of model, or a method's name.
        models: how many.
        examples: read for each, a forward pass alone counted as a third; None where not known.
        seconds: for each, on one process of this machine.
        why: why there is no number, for a method that cannot work here; else empty.
    """

    what: str
    models: int
    examples: float | None
    seconds: float
    why: str = ""


def cost_lines(plan: Plan, timing: Timing) -> Iterator[CostLine]:
    """Yield a row for all models of a kind, from each method's forecast and the timed steps."""
    pace = seconds_per_example(plan, timing)
    experiment, problem = plan.experiment, plan.problem
    full, count = forecast(plan.retrain, problem).work, experiment.members
    originals = 1 if experiment.protocol == "challenge" else count
    yield CostLine("originals", originals, full, full * pace)
    yield CostLine("oracles", count, full, full * pace)
    if experiment.shadows:
        yield CostLine("shadows", experiment.shadows, full / 2, full / 2 * pace)
    for method in plan.methods:
        if not method.steps:
            continue
        try:
            work = forecast(method, problem).work
        except ExpungeError as fault:
            yield CostLine(method.name, 0, 0.0, 0.0, str(fault))
        else:
            yield CostLine(method.name, count, work, work * pace)
    if experiment.audits:
        yield CostLine("audits", AuditRoles(plan).size, None, sum(timed(plan).values()))


def seconds_per_example(plan: Plan, timing: Timing) -> float:
    """Return the seconds that one model takes for one example, from the steps that were timed."""
    steps = unrolled(plan.experiment.recipe.steps)
    train = next(step for _, _, step in steps if isinstance(step, Train))
    known = [one for one in (timing.looped, timing.vmapped) if one is not None]
    return min(known) / (train.batch * len(train.objective.sets))


def print_cost(plan: Plan, store: Store, jobs: int, console: Console) -> None:
    """Time a few steps and print what an experiment will take; no model is trained to its end."""
    lines = list(cost_lines(plan, choose_engine(plan, store)))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("what", "models", "examples each", "seconds each", "time in all"):
        table.add_column(name, justify="left" if name == "what" else "right")
    for line in lines:
        read = "-" if line.examples is None else f"{line.examples:,.0f}"
        whole = time_in_words(line.models * line.seconds / jobs)
        cells = (str(line.models), read, f"{line.seconds:.2f}", whole)
        table.add_row(Text(line.what), *(("-",) * 4 if line.why else cells))
    console.print(table)
    whole = time_in_words(sum(line.models * line.seconds for line in lines) / jobs)
    console.print(Text(f"The models take about {whole} with {jobs} at once. {LEGEND}"))
    if not plan.settled:
        console.print(Text(notice(plan)))
    for line in lines:
        if line.why:
            console.print(Text(f"{line.what}: {line.why}"))
