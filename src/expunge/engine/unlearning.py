"""Unlearn: check, copy the model, run the method's steps, and write a measured receipt.

The author of a method says what is done; what it cost and what it changed is measured here.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from torch import nn

from expunge.core.method import Method, words_of
from expunge.core.problem import Problem
from expunge.core.receipt import Receipt, Spent, Unlearned
from expunge.core.schedules import Schedule
from expunge.engine.check import check, explain_shapes, refuse_broken, whole_set_terms
from expunge.engine.loop import Epoch, SingleModel
from expunge.engine.run import (
    Lookup,
    Run,
    adapter_alone,
    change,
    compares,
    frozen,
    on_disk,
    run_steps,
    sharing,
    weights_of,
)
from expunge.engine.training import unrolled
from expunge.errors import NothingChanged

if TYPE_CHECKING:
    from expunge.engine.checkpoint import Checkpointer
    from expunge.engine.distributed import Team


def unlearn(
    model: nn.Module,
    method: Any,
    problem: Problem,
    *,
    seed: int = 0,
    in_place: bool = False,
    checkpointer: Checkpointer | None = None,
    team: Team | None = None,
) -> Unlearned:
    """Make a copy of a model forget, as `expunge.unlearn` says, by a method, a step or steps."""
    wanted = check(model, method, problem)
    with explain_shapes(model, problem, wanted.sets):
        if in_place or checkpointer or team:
            return _in_place(model, wanted, problem, seed, checkpointer, team)
        original = sharing(model)
        mine = sharing(model) if adapter_alone(wanted) else copy.deepcopy(original)
        run = Run(mine.requires_grad_(True), original, problem, seed)
        return _run_and_measure(run, wanted, weights_of(original))


def _in_place(
    model: nn.Module,
    method: Method,
    problem: Problem,
    seed: int,
    checkpointer: Checkpointer | None,
    team: Team | None,
) -> Unlearned:
    """Change the model itself; its weights from before wait on disk for the receipt."""
    original = sharing(model) if adapter_alone(method) else model
    if compares(method) and original is model:
        original = frozen(model)
    model.eval()
    with on_disk(model) as before:
        run = Run(model.requires_grad_(True), original, problem, seed)
        run.checkpointer, run.team = checkpointer, team
        if checkpointer:
            checkpointer.open(run, method, team.size if team else 1)
        if team:
            from expunge.engine.distributed import check_team

            check_team(method, team)
        # while the model still is the original
        for place, turn, step in unrolled(method.steps, seed=seed):
            run.place, run.turn = place, turn
            for term in whole_set_terms(step):
                run.facts(term)
        return _run_and_measure(run, method, before)


def _run_and_measure(run: Run, method: Method, before: Lookup) -> Unlearned:
    start = Spent.now()
    for epoch in run_steps(method.steps, SingleModel(run)):
        record_losses(epoch, (run,))
    return finish(run, method, "alone", start.elapsed(), before)


def record_losses(epoch: Epoch, runs: tuple[Run, ...] | list[Run]) -> None:
    """Write an epoch's losses into the receipt counts of its runs."""
    for run in runs:
        if run.seed in epoch.losses:
            run.counts.curve.append((epoch.place, epoch.number, epoch.losses[run.seed]))


def finish(
    run: Run, method: Method, engine: str, spent: Spent, before: Lookup | None = None
) -> Unlearned:
    """Check the unlearned model and write its receipt; `before` looks up the weights of before.

    Raises:
        Diverged: a weight became infinite or not a number.
        NothingChanged: the method left every weight as it was.
    """
    refuse_broken(run.model, f"After {method.name}, seed {run.seed}: the model")
    moved, touched, largest = change(before or weights_of(run.original), run.model)
    if method.steps and touched == 0:
        unmoved = any(isinstance(one, Schedule) and one(0.0) == 0 for one in words_of(method.steps))
        cause = (
            "Its warmup begins at a rate of 0, so a training of one step moves nothing: ask for "
            "more epochs or a smaller batch. Otherwise, raise"
        )
        raise NothingChanged(
            f"{method.name} left every weight as it was: {method.sentence}. "
            f"{cause if unmoved else 'Raise'} its learning rate or epochs, or loosen its threshold."
        )
    run.model.eval().requires_grad_(False)
    receipt = Receipt(
        method.sentence,
        run.seed,
        engine,
        spent.seconds + run.counts.earlier[0],
        spent.processor_seconds + run.counts.earlier[1],
        dict(run.counts.examples),
        moved,
        touched,
        largest,
        tuple(run.counts.curve),
        dict(run.counts.drawn),
    )
    return Unlearned(run.model, receipt)
