"""Evaluates one sentence on the tuning split: once, and kept in the store.

A trial that was cut short has left nothing behind, so its place in the budget is free again; one
that ended is never made twice, whichever process, command or resumed run asks for it.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from expunge.core.machine import __version__
from expunge.core.method import Method
from expunge.core.receipt import Receipt
from expunge.core.store import Corrupt, Job
from expunge.core.vocabulary import in_full
from expunge.errors import ExpungeError, StoreError
from expunge.experiments.tuning import held_out_answers as answers
from expunge.experiments.tuning.held_out_answers import (
    Bench,
    HeldOutAnswers,
    distance,
    forgetting,
    losses,
    quality,
)
from expunge.methods.cost import share_of_retraining

# Raised when the distance is computed in another way.
VERSION = 1


@dataclass(frozen=True)
class Evaluation:
    """What was found about one sentence.

    Args:
        distance: to the oracles; infinite for a sentence that failed.
        forgetting, losses: the parts that the distance is made of.
        quality: forgetting quality of the same few models, under the experiment's rule.
        cost: forecast, as a share of retraining's examples.
        seconds: of one member, wall clock.
        reason: why the sentence failed; empty when it did not.
    """

    distance: float
    forgetting: float = 0.0
    losses: tuple[tuple[str, float], ...] = ()
    quality: float = 0.0
    cost: float = 0.0
    seconds: float = 0.0
    reason: str = ""

    @property
    def failed(self) -> bool:
        """Whether there is no distance."""
        return bool(self.reason)


def evaluate(
    method: Method, bench: Bench, members: int, draw: int = 0, *, fresh: bool = False
) -> Evaluation:
    """Run a sentence on the tuning split and measure how far from the oracles it comes.

    Args:
        method: what is run; its name and source change nothing.
        bench: split and store.
        members: unlearned models, of the same seeds for every sentence.
        draw: which group of seeds; each is as good as another.
        fresh: against the half of the oracles that no trial is compared with.

    Raises:
        StoreError: the store cannot be read or written.
    """
    job = job_of(method, bench, members, draw, fresh)
    with bench.store.claim(job.key, wait=True):
        while bench.store.has(job):
            try:
                return read(bench.store.about(job))
            except Corrupt:
                continue
        found = _evaluate(method, bench, members, draw, fresh)
        bench.store.write(job, about=_written(found))
        return found


def failure(fault: ExpungeError) -> Evaluation:
    """The evaluation of what cannot be run."""
    return Evaluation(math.inf, reason=str(fault))


def job_of(method: Method, bench: Bench, members: int, draw: int, fresh: bool) -> Job:
    """The product that keeps an evaluation: its key is all that decides it, this version too."""
    seeds, split = bench.split.members(members, draw), bench.split
    half = "second" if fresh else "first"
    halves = f"{members} members against the {half} {len(split.oracles(fresh))} oracles"
    rule = f"{split.plan.experiment.rule}; {split.plan.experiment.protocol}"
    versions = f"{__version__}, answers {answers.VERSION}, distance {VERSION}"
    spec = f"{in_full(method.steps)}; {halves}; {rule}; {versions}"
    return Job("verdict", spec, seeds[0], (split.plan.root,))


def _evaluate(method: Method, bench: Bench, members: int, draw: int, fresh: bool) -> Evaluation:
    oracle = bench.oracles(fresh)
    try:
        seeds = bench.split.members(members, draw)
        subject, receipt = bench.unlearn(method, seeds)
        return _measured(method, bench, subject, oracle, receipt)
    except StoreError:
        raise
    except ExpungeError as fault:
        return failure(fault)


def _measured(
    method: Method, bench: Bench, subject: HeldOutAnswers, oracle: HeldOutAnswers, receipt: Receipt
) -> Evaluation:
    rule = bench.split.plan.experiment.rule
    return Evaluation(
        distance=distance(subject, oracle),
        forgetting=forgetting(subject, oracle),
        losses=tuple(losses(subject, oracle).items()),
        quality=quality(subject, oracle, rule),
        cost=share_of_retraining(method, bench.split.problem),
        seconds=receipt.seconds,
    )


def _written(verdict: Evaluation) -> dict[str, Any]:
    """As JSON, which knows no infinity: a failed evaluation has no distance."""
    record = asdict(verdict)
    if verdict.failed:
        del record["distance"]
    return record


def read(record: dict[str, Any]) -> Evaluation:
    """An evaluation from what was written about it."""
    pairs = tuple((name, lost) for name, lost in record["losses"])
    return Evaluation(**{"distance": math.inf, **record, "losses": pairs})
