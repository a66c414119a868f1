"""How often audits, read together, find something between two groups of retrained models.

Usage: python benchmarks/audit_false_alarms.py [--experiment digits-class] [--models 512]
       [--repetitions 200] [--store FOLDER] [--write FILE]

Every audit of the experiment reads each of many retrained models once. Then two disjoint groups, as
large as the experiment's own, are drawn again and again and judged as the experiment judges. All
draws are from one pool of models, so that beside them stand groups that share no model at all.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from expunge.audits.finding import ALPHA, AuditQuestion, Finding, found, shown, together
from expunge.audits.images.classifier_audit import ClassifierAudit
from expunge.core.machine import hardware
from expunge.core.store import Job, Store
from expunge.engine.training import from_scratch
from expunge.experiments.audit_jobs import AuditRoles, AuditRound, make_round
from expunge.experiments.experiment import load
from expunge.experiments.make import STACK, Block, choose_engine, make_block, make_problem
from expunge.experiments.planning import plan_for
from expunge.metrics.agreement import Unscored
from expunge.statistics.counts import clopper_pearson
from expunge.statistics.result import Effect, Interval

ORIGINALS = 4


@dataclass(frozen=True)
class Read:
    """What one audit reads: a value of each retrained model and of each original."""

    audit: ClassifierAudit
    retrained: tuple[float, ...]
    original: tuple[float, ...]
    grain: float


def readings(store: Store, name: str, models: int) -> tuple[list[Read], int]:
    """Make and read what is missing; the readings of all audits, and the models of a group."""
    experiment = load(name)
    group = experiment.audited
    sizes = {"members": models + 1, "audited": models, "shadows": 0, "methods": ()}
    plan = plan_for(dataclasses.replace(experiment, **sizes))  # type: ignore[arg-type]
    few = dataclasses.replace(plan.experiment, audited=min(models, ORIGINALS * group))
    pool, anchors = AuditRoles(plan), AuditRoles(dataclasses.replace(plan, experiment=few))
    make_problem(plan, store)
    engine = choose_engine(plan, store).engine
    for block in wanted(anchors):
        make_block(plan, store, block, engine, wait=True)
    for audit in pool.audits:
        make_round(anchors.plan, store, AuditRound(audit, "originals"), wait=True)
        make_round(plan, store, AuditRound(audit, "oracles"), wait=True)
    return [read(store, pool, anchors, audit) for audit in pool.audits], group


def wanted(anchors: AuditRoles) -> list[Block]:
    """Originals, and all retrained models, the yardstick first."""
    plan, recipe = anchors.plan, partial(from_scratch, anchors.plan.problem)
    kinds = (
        ("original", recipe("train", "original"), tuple(job.seed for job in anchors.originals)),
        ("oracle", recipe("retain", "oracle"), plan.experiment.seeds),
    )
    return [
        Block(kind, method, seeds[first : first + STACK])
        for kind, method, seeds in kinds
        for first in range(0, len(seeds), STACK)
    ]


def read(store: Store, pool: AuditRoles, anchors: AuditRoles, audit: ClassifierAudit) -> Read:
    """The readings of one audit."""

    def values(jobs: Sequence[Job]) -> tuple[float, ...]:
        return tuple(store.about(pool.number(audit, job))["value"] for job in jobs)

    grain = store.about(pool.number(audit, pool.oracles[0]))["grain"]
    return Read(audit, values(pool.oracles), values(anchors.originals), grain)


def trial(read: Sequence[Read], mine: np.ndarray, theirs: np.ndarray, starts: np.ndarray) -> Any:
    """The findings on some retrained models, held against others and against some originals."""
    return [
        found(
            AuditQuestion(
                one.audit,
                tuple(one.retrained[i] for i in mine),
                tuple(one.retrained[i] for i in theirs),
                tuple(one.original[i] for i in starts),
                one.grain,
            )
        )
        for one in read
    ]


def drawn(read: Sequence[Read], group: int, repetitions: int, seed: int) -> list[list[Finding]]:
    """Groups drawn at random, again and again: disjoint within a draw, shared between draws."""
    rng, trials = np.random.default_rng(seed), []
    for _ in range(repetitions):
        order = rng.permutation(len(read[0].retrained))
        starts = rng.permutation(len(read[0].original))[:group]
        trials.append(trial(read, order[:group], order[group : 2 * group], starts))
    return trials


def apart(read: Sequence[Read], group: int, seed: int) -> list[list[Finding]]:
    """As many groups as there are without a model in common; originals alone are shared."""
    rng = np.random.default_rng(seed)
    order, trials = rng.permutation(len(read[0].retrained)), []
    for first in range(0, len(order) - 2 * group + 1, 2 * group):
        mine, theirs = order[first : first + group], order[first + group : first + 2 * group]
        starts = rng.permutation(len(read[0].original))[:group]
        trials.append(trial(read, mine, theirs, starts))
    return trials


def told(trials: Sequence[Sequence[Finding]]) -> dict[str, Any]:
    """The family-wise rate with its interval, what each audit says alone, and the verdicts."""
    alarms, n = [bool(shown(one)) for one in trials], len(trials)
    verdicts = [together(one, alpha=ALPHA) for one in trials]
    words = Counter("unscored" if isinstance(one, Unscored) else one.word for one in verdicts)
    alone = {
        first.audit: sum(small(one[place]) for one in trials) / n
        for place, first in enumerate(trials[0])
    }
    return {
        "alarms": sum(alarms), **ends(clopper_pearson(sum(alarms), n)),
        "verdicts": dict(words), "alone": alone,
    }  # fmt: skip


def small(finding: Finding) -> bool:
    """Whether an audit alone, before Holm, has a p-value of 5 % or less."""
    return isinstance(finding.effect, Effect) and finding.effect.p <= ALPHA


def ends(rate: Interval) -> dict[str, float]:
    """A rate with its exact interval."""
    return {"value": rate.value, "low": rate.low, "high": rate.high, "n": rate.n}


def draw(told: dict[str, Any], what: str) -> None:
    """Print what was found."""
    print(
        f"{what}: {told['alarms']} of {told['n']} raise an alarm, {told['value']:.1%} "
        f"({told['low']:.1%} to {told['high']:.1%}); together {told['verdicts']}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", default="digits-class")
    parser.add_argument("--models", type=int, default=512)
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    least = 2 * load(given.experiment).audited
    if given.models < least:
        parser.error(f"--models {given.models}: expected {least} or more, two groups.")
    torch.set_num_threads(1)
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(given.store or Path(folder) / "store")
        read, group = readings(store, given.experiment, given.models)
    seconds = time.process_time() - start
    found = {
        "experiment": given.experiment, "models": given.models, "group": group,
        "originals": len(read[0].original), "processor_seconds": seconds,
        "drawn": told(drawn(read, group, given.repetitions, 0)),
        "apart": told(apart(read, group, 1)), "hardware": hardware(),
    }  # fmt: skip
    print(f"{given.models} retrained models, {group} v. {group}; {seconds:.0f} s of processor time")
    draw(found["drawn"], "drawn from one pool")
    draw(found["apart"], "without a model in common")
    for name, share in found["drawn"]["alone"].items():
        print(f"  {name:32} alone, before Holm {share:6.1%}")
    if given.write:
        given.write.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
