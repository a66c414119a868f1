"""Makes products: one block of members at a time, alone or in a pool of processes, one a core.

A block is a fixed group of seeds, so that what a member is does not depend on what was already
there: an interrupted run, resumed, makes the very same models.
"""

from __future__ import annotations

import dataclasses
import json
import platform
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from typing import Any, Literal

import torch
from torch import Tensor

from expunge.core.machine import device, hardware
from expunge.core.method import Method
from expunge.core.receipt import Unlearned
from expunge.core.store import Corrupt, Job, Store, model_state
from expunge.engine.check import check_fit
from expunge.engine.run import Memo, Run, frozen
from expunge.engine.stacking import Engine, Timing, Vmapped, fastest, unlearn_runs
from expunge.engine.training import from_scratch
from expunge.errors import BadEvidence, ExpungeError, StoreError
from expunge.experiments.experiment import RESERVED
from expunge.experiments.plan import Plan

STACK = 64


Outcome = Literal["made", "busy", "again", "failed"]


# Of each epoch: the step's place, the epoch's number, and what the model said then.
Trace = list[list[Any]]


@dataclass(frozen=True)
class Block:
    """Members that are made together: the products of one method that differ in the seed alone."""

    kind: str
    method: Method
    seeds: tuple[int, ...]

    @property
    def title(self) -> str:
        """What a progress bar calls it."""
        several = {"original": "originals", "oracle": "oracles", "shadow": "shadows"}
        return several.get(self.kind, self.method.name)


def blocks(plan: Plan, size: int) -> list[Block]:
    """All blocks of an experiment, in an order in which their inputs come first."""
    seeds = plan.experiment.seeds
    originals = tuple(dict.fromkeys(plan.original(seed).seed for seed in seeds))
    recipe = partial(from_scratch, plan.problem)
    kinds = [("original", recipe("train", "original"), originals)]
    kinds += [("oracle", recipe("retain", "oracle"), seeds)]
    shadows = plan.experiment.shadow_seeds
    kinds += [("shadow", recipe("train", "shadow"), shadows)] if shadows else []
    kinds += [("unlearned", method, seeds) for method in plan.methods if method.steps]
    return [
        Block(kind, method, owners[first : first + size])
        for kind, method, owners in kinds
        for first in range(0, len(owners), size)
    ]


def product(plan: Plan, block: Block, seed: int) -> Job:
    """The model of one member of a block."""
    if block.kind == "unlearned":
        return plan.unlearned(block.method, seed)
    kinds = {"original": plan.original, "oracle": plan.oracle, "shadow": plan.shadow}
    return kinds[block.kind](seed)


def missing(plan: Plan, store: Store, block: Block) -> bool:
    """Whether some model of a block, or its evidence, has still to be made."""
    if block.kind == "unlearned" and store.has(plan.failure(block.method)):
        return False
    jobs = [product(plan, block, seed) for seed in block.seeds]
    return not all(store.has(job) and store.has(plan.evidence(job)) for job in jobs)


def make_block(plan: Plan, store: Store, block: Block, engine: Engine, wait: bool) -> Outcome:
    """Make a block's models and their evidence; what is already there is kept.

    "busy": another process has it. "again": an input was corrupt and has to be made first.
    "failed": the method cannot be run, and the reason is in the store.
    """
    name = product(plan, block, block.seeds[0]).key
    with store.claim(f"{name}-{len(block.seeds)}", wait) as ours:
        if not ours:
            return "busy"
        if not missing(plan, store, block):
            return "made"
        try:
            _make(plan, store, block, engine)
        except Corrupt:
            return "again"
        except StoreError:
            raise
        except ExpungeError as fault:
            # Without originals, oracles or the ceiling there is nothing to compare with.
            if block.kind != "unlearned" or block.method.name in RESERVED:
                raise
            store.write(plan.failure(block.method), about={"reason": str(fault)})
            return "failed"
    return "made"


def _make(plan: Plan, store: Store, block: Block, engine: Engine) -> None:
    jobs = [product(plan, block, seed) for seed in block.seeds]
    if not all(store.has(job) for job in jobs):
        check_fit(block.method, plan.problem)
        runs = runs_of(plan, store, block)
        made, seen = run_block(plan, runs, block, engine)
        for job, unlearned in zip(jobs, made, strict=True):
            _keep(plan, store, job, unlearned, seen.get(job.seed, []))
        return
    for job in jobs:
        if not store.has(plan.evidence(job)):
            _keep_answers(plan, store, job, load_model(plan, store, job))


def run_block(
    plan: Plan, runs: list[Run], block: Block, engine: Engine
) -> tuple[list[Unlearned], dict[int, Trace]]:
    """Run a method for some members, and trace the models that unlearn after each epoch."""
    made: list[Unlearned] = []
    seen: dict[int, Trace] = {}
    models = {run.seed: run.model for run in runs}
    for result in unlearn_runs(runs, block.method, engine):
        if isinstance(result, list):
            made = result
        elif block.kind == "unlearned":
            for seed in result.losses:
                if said := plan.task.trace(plan, models[seed]):
                    seen.setdefault(seed, []).append([result.place, result.number, said])
    return made, seen


def _keep(plan: Plan, store: Store, job: Job, made: Unlearned, seen: Trace) -> None:
    """Write a model and its evidence."""
    if not store.has(job):
        receipt = asdict(made.receipt)
        about: dict[str, Any] = {
            "receipt": receipt,
            "versions": versions(plan),
            "hardware": hardware(),
        }
        about |= {"trace": seen} if seen else {}
        store.write(job, {"model": _cpu(made.model.state_dict())}, about)
    if not store.has(plan.evidence(job)):
        # Of the model that is in the store: another process may have been first with its own.
        _keep_answers(plan, store, job, load_model(plan, store, job))


def _keep_answers(plan: Plan, store: Store, job: Job, model: torch.nn.Module) -> None:
    tensors, about = plan.task.collect(plan, model, job.kind)
    store.write(plan.evidence(job), tensors, about)


def _cpu(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}


def load_model(plan: Plan, store: Store, job: Job) -> torch.nn.Module:
    """A model from the store, in evaluation mode."""
    model = model_state(store.tensors(job, "model"), plan.problem.untrained("load"))
    return model.to(device())


def runs_of(plan: Plan, store: Store, block: Block) -> list[Run]:
    """Fresh runs of a block's members; those of one original share it, and its parts."""
    problem = plan.problem
    if block.kind != "unlearned":
        starts = {s: problem.untrained(block.kind, s).to(device()) for s in block.seeds}
        own = {s: plan.shadow_problem(s) if block.kind == "shadow" else problem for s in starts}
        return [Run(m, frozen(m), own[seed], seed, block.kind) for seed, m in starts.items()]
    runs: list[Run] = []
    originals: dict[str, torch.nn.Module] = {}
    memos: dict[str, Memo] = {}
    for seed in block.seeds:
        job = plan.original(seed)
        if job.key not in originals:
            originals[job.key], memos[job.key] = load_model(plan, store, job), {}
        start = frozen(originals[job.key]).requires_grad_(True)
        runs.append(Run(start, originals[job.key], problem, seed, memo=memos[job.key]))
    return runs


def choose_engine(plan: Plan, store: Store) -> Timing:
    """Time stacked against looped training once a store, problem and machine, and remember it.

    Remembered, so that a run that was interrupted goes on in the way in which it began.
    """
    job, count = timing_job(plan), min(STACK, plan.experiment.members)
    if store.has(job):
        try:
            return Timing(**store.about(job))
        except (Corrupt, TypeError):
            pass
    recipe = from_scratch(plan.problem, "retain", "timing")
    timing = fastest(partial(trial, plan), recipe, count)
    store.write(job, about=dataclasses.asdict(timing))
    return Timing(**store.about(job))  # of two processes that timed at once, the first counts


def timing_job(plan: Plan) -> Job:
    """What was timed: this problem, on this machine, with so many members in a stack."""
    count = min(STACK, plan.experiment.members)
    machine = json.dumps([hardware(), versions(plan), count], sort_keys=True)
    return Job("timing", machine, 0, (plan.root,))


def trial(plan: Plan, count: int) -> list[Run]:
    """Fresh runs that are trained only to see how long it takes."""
    starts = {s: plan.problem.untrained("timing", s).to(device()) for s in range(count)}
    return [Run(m, frozen(m), plan.problem, seed, "timing") for seed, m in starts.items()]


def warm_up(plan: Plan) -> None:
    """Train for a moment, so that no member's time includes what torch sets up at first."""
    fastest(partial(trial, plan), from_scratch(plan.problem, "retain", "timing"), 2)


def block_size(timing: Timing) -> int:
    """Stacked members are made together; looped ones a few at a time, so that little is lost."""
    return STACK if isinstance(timing.engine, Vmapped) else 2


def make_problem(plan: Plan, store: Store) -> None:
    """Put what is to be forgotten, and how large the sets are, into the store."""
    if not store.has(plan.root):
        store.write(plan.root, *plan.task.problem_record(plan))


def make_score(plan: Plan, store: Store, method: Method) -> Outcome:
    """Compute all numbers of one method against the oracles."""
    job = plan.score(method)
    if store.has(job) or store.has(plan.failure(method)):
        return "made"
    try:
        store.write(job, about=plan.task.score(plan, store, method).to_json())
    except Corrupt:
        return "again"
    except BadEvidence as fault:  # finite weights may still answer with infinite logits
        if method.name in RESERVED:
            raise
        store.write(plan.failure(method), about={"reason": str(fault)})
        return "failed"
    return "made"


def versions(plan: Plan) -> dict[str, str]:
    """The versions that decide what a model becomes."""
    from expunge.core.machine import __version__

    found = {name: version(name) for name in plan.task.packages}
    return {"expunge": __version__, "python": platform.python_version(), **found}


def counts(plan: Plan, store: Store) -> dict[str, tuple[int, int, float | None]]:
    """What is made, of how many, by row, with the seconds a member took where known.

    Of a method that cannot be run no more is due than there is.
    """
    found: dict[str, tuple[int, int, float | None]] = {}
    for block in blocks(plan, STACK):
        jobs = [product(plan, block, seed) for seed in block.seeds]
        there = [job for job in jobs if store.has(job) and store.has(plan.evidence(job))]
        made, of, seconds = found.get(block.title, (0, 0, None))
        if there and seconds is None:
            seconds = store.about(there[0])["receipt"]["seconds"]
        failed = block.kind == "unlearned" and store.has(plan.failure(block.method))
        due = len(there) if failed else len(jobs)
        found[block.title] = (made + len(there), of + due, seconds)
    return found
