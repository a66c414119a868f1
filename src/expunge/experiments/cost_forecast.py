"""What an experiment will cost before it is run: models, examples, and hours on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from expunge.core.store import Store
from expunge.engine.requirements import effort, examples_read, forecast
from expunge.engine.stacking import Timing
from expunge.engine.training import Train, unrolled
from expunge.errors import ExpungeError
from expunge.experiments.audit_jobs import AuditRoles, timed
from expunge.experiments.make import choose_engine
from expunge.experiments.memorised_sets import notice
from expunge.experiments.plan import Plan


@dataclass(frozen=True)
class CostLine:
    """One row: so many models, each reading so many examples.

    Args:
        what: a kind of model, or a method's name.
        models: how many.
        examples: read for each, an answer of a teacher counted as a third; None where not known.
        seconds: for each, on one process of this machine.
        why: why there is no number, for a method that cannot work here; else empty.
    """

    what: str
    models: int
    examples: float | None
    seconds: float
    why: str = ""


def foreseen(plan: Plan, timing: Timing) -> Iterator[CostLine]:
    """All models of an experiment, from the forecast of each method and the timing of a step."""
    each = seconds_an_example(plan, timing)
    retrain, experiment = plan.retrain, plan.experiment
    full = effort(examples_read(retrain, plan.problem))
    count = experiment.members
    originals = 1 if experiment.protocol == "challenge" else count
    yield CostLine("originals", originals, full, full * each)
    yield CostLine("oracles", count, full, full * each)
    if experiment.shadows:
        yield CostLine("shadows", experiment.shadows, full / 2, full / 2 * each)
    for method in plan.methods:
        if not method.steps:
            continue
        try:
            share = forecast(method, plan.problem).share or 0.0
        except ExpungeError as fault:
            yield CostLine(method.name, 0, 0.0, 0.0, str(fault))
            continue
        yield CostLine(method.name, count, share * full, share * full * each)
    if experiment.audits:
        yield CostLine("audits", AuditRoles(plan).size, None, sum(timed(plan).values()))


def seconds_an_example(plan: Plan, timing: Timing) -> float:
    """Seconds a member takes for one example, from the steps that were timed."""
    steps = unrolled(plan.experiment.recipe.steps)
    train = next(step for _, _, step in steps if isinstance(step, Train))
    known = [one for one in (timing.looped, timing.vmapped) if one is not None]
    return min(known) / (train.batch * len(train.objective.sets))


def draw(plan: Plan, store: Store, jobs: int, console: Console) -> None:
    """Time a few steps, and print what a run would take; nothing is trained to its end."""
    timing = choose_engine(plan, store)
    lines = list(foreseen(plan, timing))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("what", "models", "examples each", "seconds each", "hours"):
        table.add_column(name, justify="left" if name == "what" else "right")
    for line in lines:
        hours = line.models * line.seconds / jobs / 3600
        read = "-" if line.examples is None else f"{line.examples:,.0f}"
        shown = (str(line.models), read, f"{line.seconds:.2f}", f"{hours:.3f}")
        table.add_row(Text(line.what), *(shown if not line.why else ("-", "-", "-", "-")))
    console.print(table)
    total = sum(line.models * line.seconds for line in lines) / jobs / 3600
    console.print(Text(f"About {total:.2f} hours for the models with {jobs} at once. {legend()}"))
    if not plan.settled:
        console.print(Text(notice(plan)))
    for line in lines:
        if line.why:
            console.print(Text(f"{line.what}: {line.why}"))


def legend() -> str:
    """How the hours were worked out, and what is not in them."""
    return (
        "Measured: a few steps of the recipe on this machine, as it is now. Methods are reckoned "
        "by the examples they read at the recipe's pace; steps that cannot be stacked are slower. "
        "Audits were timed once each on an untrained network. Scoring and attacks come on top."
    )
