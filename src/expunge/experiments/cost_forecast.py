"""What an experiment will cost on this machine: models, examples and time, before it is run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from expunge.core.store import Store
from expunge.engine.stacking import Timing
from expunge.engine.training import Train, unrolled
from expunge.errors import ExpungeError
from expunge.experiments.audit_jobs import AuditRoles, timed
from expunge.experiments.make import choose_engine
from expunge.experiments.memorised_sets import notice
from expunge.experiments.plan import Plan
from expunge.methods.cost import forecast, time_in_words

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
