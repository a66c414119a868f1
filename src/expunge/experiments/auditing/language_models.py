"""The audit of a whole experiment: every method's models, beside anchors that are read once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from expunge.audits.audit import (
    ORACLE,
    ORIGINAL,
    AuditedModel,
    MeasurementCache,
    Measurements,
    fingerprint,
)
from expunge.audits.finding import REDACTED, inert, line_of
from expunge.audits.panel import STANDARD_TEXT
from expunge.audits.text.facts import SOUND, State, state
from expunge.audits.text.lm_verdict import (
    GUARDRAIL,
    check_measured_oracles,
    effect_of,
    judge,
    key_of,
    run_facts,
)
from expunge.audits.verdict import AuditEffect
from expunge.core.store import Job, Store
from expunge.experiments.auditing.experiment_audit import ExperimentAuditRequest, verdict_record
from expunge.experiments.auditing.lm_models import CONTROLS, FILTER, SeedModels, seed_models
from expunge.experiments.executors import completed, executor
from expunge.experiments.experiment import Experiment
from expunge.experiments.plan import Plan
from expunge.experiments.planning import plan_for

Record = dict[str, Any]


EXAMPLES = 2


STATE_VERSION = 2


def read_all(
    plan: Plan, store: Store, asked: ExperimentAuditRequest, jobs: int = 1
) -> Iterator[tuple[str, float]]:
    """Read what is not in the store yet, model by model; yield (who, processor seconds).

    Each reading is a product of its own, so that a run that was stopped goes on, and anchors are
    read once for all methods.

    Args:
        plan, store: the experiment, carried out.
        asked: what is audited.
        jobs: processes of one thread each; 1 reads everything in this one.

    Raises:
        BadSentence, StoreError, Unsupported: as for `seed_models`.
        BadEvidence: retrained models that know what was to be forgotten.
    """
    asked = _completed(plan, asked)
    every = {seed: seed_models(plan, store, seed, asked.only) for seed in asked.seeds}
    for here in every.values():
        _check(here, asked, store)
    tasks = [(seed, name) for seed, here in every.items() for name in _everyone(here)]
    shared = SharedModels(plan, store, asked, every)
    build = partial(_shared_models, plan.experiment, store.root, asked)
    with executor(shared, build, jobs) as workers:
        for place, seconds in completed(workers, [partial(_read, *task) for task in tasks]):
            seed, name = tasks[place]
            yield f"{name}, member {seed}", seconds


def verdicts(
    plan: Plan, store: Store, asked: ExperimentAuditRequest, *, redact: bool = False
) -> Record:
    """Judge all methods of an experiment; readings that the store lacks are made here.

    Args:
        plan, store, asked: as for `read_all`.
        redact: leave prompts and answers out.
    """
    asked = _completed(plan, asked)
    every = [seed_models(plan, store, seed, asked.only) for seed in asked.seeds]
    members = [_judged(here, asked, store, redact) for here in every]
    return verdict_record(
        plan,
        asked,
        [one["rows"] for one in members],
        CONTROLS,
        seeds=list(asked.seeds),
        facts=len(every[0].context.problem.forget),
        subjects=len({item.subject for item in every[0].context.problem.forget}),
        oracles=sum(name.startswith(ORACLE) for name in every[0].anchors),
        absent={name: why for here in every for name, why in here.absent.items()},
        anchors=[one["anchors"] for one in members],
        seconds=_spent(every, asked, store),
    )


def _completed(plan: Plan, asked: ExperimentAuditRequest) -> ExperimentAuditRequest:
    """A request with the usual audits and the first seed where it names none."""
    seeds = asked.seeds or plan.experiment.seeds[:1]
    return replace(asked, audits=asked.audits or STANDARD_TEXT, seeds=seeds)


def _everyone(here: SeedModels) -> list[str]:
    """Anchors first, then the methods that are none of them."""
    return [
        *here.anchors,
        *(name for name in here.names if name not in ("nothing", FILTER)),
    ]


def _check(here: SeedModels, asked: ExperimentAuditRequest, store: Store) -> None:
    """Refuse retrained models that saw the forget set, before anything is spent."""
    plain = tuple(one for one in asked.audits if one.plain)
    for one in run_facts(plain, here.anchors, here.context, store):
        if not one.reason:
            check_measured_oracles(one, here.holdout, here.context)


def _read_one(here: SeedModels, name: str, asked: ExperimentAuditRequest, store: Store) -> float:
    """Measure one model by all audits; return the processor seconds that it took."""
    begun, subject = time.process_time(), here.subject(name)
    for _ in run_facts(asked.audits, {name: subject}, here.context, store):
        continue
    if name in here.names:
        _state(here, subject, store)
    return time.process_time() - begun


def _state(here: SeedModels, subject: AuditedModel, store: Store) -> State:
    """How a model is broken, kept in the store, as `state` says it."""
    spec = repr((fingerprint(subject.bare).hex(), key_of(here.context), STATE_VERSION))
    job = Job("state", spec, here.seed)
    if not store.has(job):
        oracles = [one for name, one in here.anchors.items() if name.startswith(ORACLE)]
        store.write(job, about=vars(state(subject, oracles, here.context)))
    return State(**store.about(job))


def _judged(here: SeedModels, asked: ExperimentAuditRequest, store: Store, redact: bool) -> Record:
    """The verdicts on all methods of one member, and what the anchors measured."""
    beside = list(run_facts(asked.audits, here.anchors, here.context, store))
    rows = {}
    for name in here.names:
        known = {"nothing": ORIGINAL, FILTER: GUARDRAIL}.get(name, name)
        subject, measured = here.subject(name), beside
        if known == name:
            mine = run_facts(asked.audits, {name: subject}, here.context, store)
            measured = [
                replace(one, models={**one.models, **other.models})
                for one, other in zip(beside, mine, strict=True)
            ]
        how = SOUND if name == FILTER else _state(here, subject, store)
        rows[name] = _member(measured, known, how, asked, redact)
        rows[name]["seed"] = here.seed
    return {"rows": rows, "anchors": _anchors(beside, here.seed)}


def _member(
    measured: Sequence[Measurements],
    name: str,
    how: State,
    asked: ExperimentAuditRequest,
    redact: bool,
) -> Record:
    """The verdict on one model, with a line for each audit."""
    limits = {"margin": asked.margin, "alpha": asked.alpha}
    verdict = judge(measured, name=name, state=how, **limits)
    lines = [_line(one, name, effect_of(one, name, **limits), redact) for one in measured]
    return {**vars(verdict), "notes": list(verdict.notes), "lines": lines}


def _line(measured: Measurements, name: str, said: AuditEffect, redact: bool) -> Record:
    """What one audit measured of one model, and how much of the gap that is."""
    line = line_of(said, measured.audit.unit)
    if name in measured.models:
        one = measured.models[name]
        shown = [[inert(text) for text in pair] for pair in one.examples[:EXAMPLES]]
        line["drawn"] = [[REDACTED] * 2 for _ in shown] if redact else shown
        line |= {"mean": one.mean, "also": one.details}
        line["curve"] = [list(at) for at in one.curve]
    return line


def _anchors(measured: Sequence[Measurements], seed: int) -> Record:
    """What original, retrained models and the filter measured, audit by audit."""
    found = {}
    for one in measured:
        means = {name: each.mean for name, each in one.models.items()}
        curves = {name: [list(at) for at in each.curve] for name, each in one.models.items()}
        details = {name: each.details for name, each in one.models.items()}
        found[repr(one.audit)] = {"means": means, "curves": curves, "also": details}
    return {"seed": seed, "audits": found}


def _spent(every: Sequence[SeedModels], asked: ExperimentAuditRequest, store: Store) -> Record:
    """Processor seconds, by audit and by model; measurements count where they were made."""
    audits: dict[str, float] = {}
    models: dict[str, float] = {}
    for here in every:
        cache = MeasurementCache(store, key_of(here.context))
        for name in _everyone(here):
            took = cache.seconds(asked.audits, here.subject(name), here.seed)
            models[f"{name}, member {here.seed}"] = sum(took.values())
            for audit, seconds in took.items():
                audits[audit] = audits.get(audit, 0.0) + seconds
    return {"audits": audits, "models": models}


@dataclass(frozen=True)
class SharedModels:
    """What tasks of reading share: the experiment, and each member's models once looked up."""

    plan: Plan
    store: Store
    asked: ExperimentAuditRequest
    by_seed: dict[int, SeedModels]


def _shared_models(
    experiment: Experiment, root: Path, asked: ExperimentAuditRequest
) -> SharedModels:
    store = Store(root)
    return SharedModels(plan_for(experiment, store), store, asked, {})


def _read(seed: int, name: str, shared: SharedModels) -> float:
    if seed not in shared.by_seed:
        shared.by_seed[seed] = seed_models(shared.plan, shared.store, seed, shared.asked.only)
    return _read_one(shared.by_seed[seed], name, shared.asked, shared.store)
