"""Requests one after another on an experiment: does the first stay forgotten?

The experiment's forget set is the first request; each further one is as many random rows of what is
left. One product in the store holds what an audit found of the first after each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from expunge.audits.finding import Finding
from expunge.audits.images.classifier_audit import ClassifierAudit
from expunge.audits.images.requests import After, sequential
from expunge.core.machine import hardware
from expunge.core.method import Method
from expunge.core.seeds import stream
from expunge.core.store import Job, Store
from expunge.core.vocabulary import in_full
from expunge.errors import BadData, BadSentence
from expunge.experiments.experiment import Experiment
from expunge.experiments.graph import choose
from expunge.experiments.make import (
    block_size,
    blocks,
    choose_engine,
    load_model,
    make_block,
    missing,
)
from expunge.experiments.plan import Plan
from expunge.experiments.planning import plan_for
from expunge.metrics.agreement import Unscored
from expunge.statistics.result import Effect, Interval

VERSION = 2


MOST_REQUESTS = 100


# The first retrained model is the audit's yardstick, and two more are the least that spread.
FEWEST_ORACLES = 3


# Kept by less than this share of what retrained models keep, a model is not said to forget.
WHOLE = 0.9


@dataclass(frozen=True)
class Requests:
    """What is asked: a method, carried out once a request, and an audit of the first.

    Args:
        method: what unlearns.
        audit: a word of the room `audits` that originals are an anchor of.
        count: requests, 2 or more.
        oracles: models retrained for each request.
    """

    method: Method
    audit: ClassifierAudit
    count: int = 3
    oracles: int = 8

    def __post_init__(self) -> None:
        if not 2 <= self.count <= MOST_REQUESTS:
            raise BadSentence(f"Got {self.count} requests; expected 2 to {MOST_REQUESTS}.")
        if self.oracles < FEWEST_ORACLES:
            raise BadSentence(f"Got {self.oracles} oracles; {FEWEST_ORACLES} are the least.")
        if not self.method.steps:
            raise BadSentence(f"{self.method.name} has no steps; expected a method that unlearns.")
        if not self.audit.anchored:
            raise BadSentence(
                f"{self.audit!r} has no anchor in the original, so it cannot say what is left of a "
                "request; ForgetConfidence(), Relearn() or LinearProbe() can."
            )


def asked_of(
    experiment: Experiment, requests: Requests, store: Store, jobs: int = 1
) -> dict[str, Any]:
    """Carry requests out one after another, or read what was found before.

    Args:
        experiment: its forget set is the first request; its members are the originals.
        requests: what is asked.
        store: keeps originals and what was found.
        jobs: processes, for shadow models that choose the forget set.

    Raises:
        BadData: the requests would leave nothing to retain.
        And what `sequential` raises.
    """
    paired = replace(experiment, protocol="paired", audits=(), methods=(requests.method,))
    for _ in choose(paired, store, jobs):
        continue
    plan = plan_for(paired, store)
    later = later_rows(plan, requests.count)
    job = job_of(plan, requests)
    if not store.has(job):
        models = originals(plan, store)
        found = sequential(
            requests.audit, requests.method, plan.problem, later, models,
            oracles=requests.oracles, seed=experiment.seed,
        )  # fmt: skip
        store.write(job, about=record(plan, requests, found))
    return store.about(job)


def later_rows(plan: Plan, count: int) -> tuple[Tensor, ...]:
    """Rows of the retain set for each request after the first, as many as the first has.

    Raises:
        BadData: the requests would leave nothing to retain.
    """
    size, left = (len(plan.problem.sets[name]) for name in ("forget", "retain"))
    if size * (count - 1) >= left:
        raise BadData(
            f"{count} requests of {size} examples each leave nothing of {left + size}; ask for "
            "fewer requests (--requests) or a smaller forget set (--forget)."
        )
    order = torch.randperm(left, generator=stream("requests", plan.experiment.forget_seed))
    return order[: size * (count - 1)].split(size)


def job_of(plan: Plan, requests: Requests) -> Job:
    """The product that holds what was found."""
    steps, audit = in_full(requests.method.steps), repr(requests.audit)
    said = f"{steps}; {audit}; {requests.count} requests; {requests.oracles} oracles/{VERSION}"
    models = tuple(plan.original(seed) for seed in plan.experiment.seeds)
    return Job("sequence", said, plan.experiment.forget_seed, models)


def originals(plan: Plan, store: Store) -> list[nn.Module]:
    """The members' originals, made where they are missing."""
    timing = choose_engine(plan, store)
    for block in blocks(plan, block_size(timing)):
        if block.kind == "original" and missing(plan, store, block):
            make_block(plan, store, block, timing.engine, wait=True)
    return [load_model(plan, store, plan.original(seed)) for seed in plan.experiment.seeds]


def record(plan: Plan, requests: Requests, found: Sequence[After]) -> dict[str, Any]:
    """What was found, as JSON can hold it."""
    return {
        "experiment": plan.experiment.name,
        "forget": plan.experiment.forget,
        "method": {"name": requests.method.name, "sentence": requests.method.sentence},
        "audit": repr(requests.audit),
        "size": len(plan.problem.sets["forget"]),
        "train": len(plan.problem.sets["train"]),
        "members": plan.experiment.members,
        "oracles": requests.oracles,
        "after": [
            {**finding(each.first), "kept": each.kept, "kept_retrained": each.kept_retrained}
            for each in found
        ],
        "hardware": hardware(),
    }


def finding(found: Finding) -> dict[str, Any]:
    """What was found of the first request after one of them."""
    return {
        "subject": list(found.subject),
        "oracle": list(found.oracle),
        "original": list(found.original),
        "recovered": recovered(found.recovered),
        "more": isinstance(found.effect, Effect) and found.effect.value > 0,
        "word": found.word,
        "reason": found.reason,
    }


def recovered(share: Interval | Unscored) -> dict[str, Any]:
    """The recovered share with its interval, or why there is none."""
    if isinstance(share, Unscored):
        return {"reason": share.reason}
    if not all(map(math.isfinite, (share.value, share.low, share.high))):
        return {"reason": "Originals and retrained models hardly differ: no finite interval."}
    return asdict(share)


def answer(found: Mapping[str, Any]) -> str:
    """Whether the first request stays forgotten, in a sentence that says no more than was seen."""
    after = found["after"]
    kept = [place for place, each in enumerate(after, start=1) if _left(each)]
    if after[0]["word"] == "unscored":
        return f"It cannot be asked here: {after[0]['reason']}"
    if _left(after[0]):
        return "The first request was not forgotten to begin with: the audit finds it right after."
    if kept:
        return f"No: after request {kept[0]} the audit finds the first one again."
    if broken := [place for place, each in enumerate(after, start=1) if not _whole(each)]:
        last = after[broken[0] - 1]
        return (
            f"Not shown: after request {broken[0]} the models give what is to be kept a "
            f"probability of {last['kept']:.2f}, retrained ones {last['kept_retrained']:.2f}. A "
            "model that breaks forgets the first request as well."
        )
    if all(each["word"] == "excluded" for each in after):
        return f"Yes, by {found['audit']} and its margin, after each of {len(after)} requests."
    return "Not shown: the audit does not find the first request, and cannot exclude it either."


def _left(each: Mapping[str, Any]) -> bool:
    """Whether more was found than retrained models have."""
    return bool(each["word"] == "found" and each["more"])


def _whole(each: Mapping[str, Any]) -> bool:
    """Whether what is to be kept is kept about as well as by retrained models."""
    return bool(each["kept"] >= WHOLE * each["kept_retrained"])
