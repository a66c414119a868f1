"""The graph of products: makes what is missing, in parallel, and resumes where it was stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from expunge.core.method import Method
from expunge.core.store import Corrupt, Store
from expunge.engine.stacking import Timing
from expunge.errors import BadData, StoreError
from expunge.experiments.audit_jobs import AuditRoles, AuditRound, due, make_findings, make_round
from expunge.experiments.executors import Executor, completed, executor
from expunge.experiments.experiment import Experiment
from expunge.experiments.make import (
    Block,
    Outcome,
    block_size,
    blocks,
    choose_engine,
    make_block,
    make_problem,
    make_score,
    missing,
    warm_up,
)
from expunge.experiments.plan import Plan
from expunge.experiments.planning import outline, plan_for
from expunge.experiments.shadowing import make_forget_set, make_memorisation

ATTEMPTS = 5


@dataclass(frozen=True)
class Progress:
    """How far a stage is: what was just made, how many of how many."""

    stage: str
    title: str
    made: int
    of: int


@dataclass(frozen=True)
class MakeBlock:
    """Task: make one block of members."""

    block: Block
    timing: Timing

    def __call__(self, plan: Plan, store: Store, wait_for_others: bool) -> Outcome:
        return make_block(plan, store, self.block, self.timing.engine, wait_for_others)

    @property
    def title(self) -> str:
        return self.block.title

    @property
    def weight(self) -> int:
        return len(self.block.seeds)


@dataclass(frozen=True)
class MakeRow:
    """Task: compute what is said of one method, by `make`: its score, or its findings."""

    method: Method
    make: Callable[[Plan, Store, Method], Outcome]
    weight: int = 1

    def __call__(self, plan: Plan, store: Store, wait_for_others: bool) -> Outcome:
        return self.make(plan, store, self.method)

    @property
    def title(self) -> str:
        return self.method.name


@dataclass(frozen=True)
class MakeOnce:
    """Task: compute, by `make`, what the shadow models say of a whole experiment."""

    title: str
    make: Callable[[Plan, Store], object]
    weight: int = 1

    def __call__(self, plan: Plan, store: Store, wait_for_others: bool) -> Outcome:
        try:
            self.make(plan, store)
        except Corrupt:
            return "again"
        return "made"


@dataclass(frozen=True)
class MakeRound:
    """Task: measure the models of one kind by one audit."""

    round_: AuditRound
    weight: int

    def __call__(self, plan: Plan, store: Store, wait_for_others: bool) -> Outcome:
        return make_round(plan, store, self.round_, wait_for_others)

    @property
    def title(self) -> str:
        return self.round_.title


Task = MakeBlock | MakeRow | MakeOnce | MakeRound


Due = Callable[[], list[tuple[str, list[Task]]]]


Stages = Callable[[Plan, Store, Timing], list[tuple[str, list[Task]]]]


# What tasks are called with, in this process and in every worker.
Workplace = tuple[Plan, Store]


def make(plan: Plan, store: Store, jobs: int = 1) -> Iterator[Progress]:
    """Make everything that an experiment consists of and that is not in the store yet.

    Args:
        plan: the experiment with its data.
        store: where products lie; shared with other processes at will.
        jobs: processes; 1 makes everything in this one.

    Raises:
        BadData: the forget set has yet to be chosen, by `choose`.
        StoreError: the store cannot be written, or products in it keep being corrupted.
    """
    if not plan.settled:
        raise BadData(f"{plan.experiment.forget} is not chosen yet; call graph.choose first.")
    store.sweep()
    make_problem(plan, store)
    yield from _made(plan, store, jobs, _stages)


def choose(experiment: Experiment, store: Store, jobs: int = 1) -> Iterator[Progress]:
    """Make the shadow models that choose an experiment's forget set, and let them choose it.

    Nothing is made where it is chosen already, or without shadow models. Afterwards
    `plan_for(experiment, store)` knows the rows.

    Args:
        experiment: whose forget set.
        store, jobs: as for `make`.

    Raises:
        BadData: too few shadow models, or a forget set as large as the training set.
        BadEvidence: the shadow models cannot order the examples.
        StoreError: as for `make`.
    """
    plan = outline(experiment, store)
    if not plan.settled:
        store.sweep()
        yield from _made(plan, store, jobs, _choosing)


def audit(plan: Plan, store: Store, jobs: int = 1) -> Iterator[Progress]:
    """Run the audits that a plan asks for, on models that are all there already.

    Args:
        plan, store, jobs: as for `make`.

    Raises:
        StoreError: as for `make`.
    """
    store.sweep()
    yield from _until_made(plan, store, jobs, lambda: [("audits", _audits(plan, store)[0])])


def _made(plan: Plan, store: Store, jobs: int, stages: Stages) -> Iterator[Progress]:
    """Run stages that train models until none of them is missing anything."""
    timing = choose_engine(plan, store)
    yield from _until_made(plan, store, jobs, lambda: stages(plan, store, timing))


def _until_made(plan: Plan, store: Store, jobs: int, stages: Due) -> Iterator[Progress]:
    build = partial(build_workplace, plan.experiment, plan.settled, store.root)
    with executor((plan, store), build, jobs) as workers:
        for _ in range(ATTEMPTS):
            for stage, tasks in stages():
                yield from _stage(workers, stage, tasks)
            if not any(tasks for _, tasks in stages()):
                return
    raise StoreError(
        f"Products in {store.root} turn out corrupt again and again; its disk may be failing."
    )


def build_workplace(experiment: Experiment, settled: bool, root: Path) -> Workplace:
    """A worker's plan and store, and a moment of training, so that no member pays for the first.

    Args:
        experiment: what the plan is of.
        settled: whether the parent knows the forget set; a stand-in is refused then.
        root: the store.
    """
    store = Store(root)
    plan = (plan_for if settled else outline)(experiment, store)
    warm_up(plan)
    return plan, store


def _stages(plan: Plan, store: Store, timing: Timing) -> list[tuple[str, list[Task]]]:
    """What is missing now, in stages of which each needs those before it."""
    todo = [b for b in blocks(plan, block_size(timing)) if missing(plan, store, b)]
    first: list[Task] = [MakeBlock(b, timing) for b in todo if b.kind == "original"]
    models: list[Task] = [MakeBlock(b, timing) for b in todo if b.kind != "original"]
    unscored = [m for m in plan.methods if not store.has(plan.score(m))]
    last: list[Task] = [MakeRow(m, make_score) for m in unscored if not store.has(plan.failure(m))]
    if plan.experiment.shadows and not store.has(plan.memorisation):
        last.insert(0, MakeOnce("memorisation", make_memorisation))
    asked, judged = _audits(plan, store)
    return [
        ("originals", first), ("models", models), ("audits", asked), ("scores", last),
        ("findings", judged),
    ]  # fmt: skip


def _audits(plan: Plan, store: Store) -> tuple[list[Task], list[Task]]:
    """What is missing now of the audits, and of what they say of each method."""
    if not plan.experiment.audits:
        return [], []
    cast = AuditRoles(plan)
    asked: list[Task] = []
    for round_ in cast.rounds:
        if left := len(due(cast, store, round_)):
            asked.append(MakeRound(round_, left))
    able = [method for method in plan.methods if not store.has(plan.failure(method))]
    return asked, [MakeRow(m, make_findings) for m in able if not store.has(cast.findings(m))]


def _choosing(plan: Plan, store: Store, timing: Timing) -> list[tuple[str, list[Task]]]:
    """What is missing now of the shadow models and of what they choose."""
    todo = [b for b in blocks(plan, block_size(timing)) if b.kind == "shadow"]
    models: list[Task] = [MakeBlock(b, timing) for b in todo if missing(plan, store, b)]
    last: list[Task] = (
        [] if store.has(plan.forget_set) else [MakeOnce("forget set", make_forget_set)]
    )
    return [("shadows", models), ("forget set", last)]


def _stage(workers: Executor[Workplace], stage: str, tasks: list[Task]) -> Iterator[Progress]:
    """Run tasks that do not need each other; those that other processes hold come last."""
    done, total = 0, sum(task.weight for task in tasks)
    busy: list[Task] = []
    if tasks:
        yield Progress(stage, tasks[0].title, 0, total)
    for wait_for_others, round_ in ((False, tasks), (True, busy)):
        turns = [partial(run_task, task, wait_for_others) for task in round_]
        for place, outcome in completed(workers, turns):
            task = round_[place]
            if outcome == "busy":
                busy.append(task)
                continue
            done += task.weight
            yield Progress(stage, task.title, done, total)


def run_task(task: Task, wait_for_others: bool, workplace: Workplace) -> Outcome:
    """Run one task; what another process holds is "busy", unless one waits for others."""
    plan, store = workplace
    return task(plan, store, wait_for_others)
