"""The audit of a whole experiment: every method's models, beside anchors that are read once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from expunge.audits.audit import AuditedModel
from expunge.audits.runner import ORACLE, ORIGINAL, MeasurementCache, Measurements, fingerprint
from expunge.audits.text.checks import SOUND, State, state
from expunge.audits.text.facts import FactAudit
from expunge.audits.text.lm_verdict import (
    GUARDRAIL,
    MARGIN,
    check_measured_oracles,
    effect_of,
    judge,
    key_of,
    run_facts,
)
from expunge.audits.verdict import AuditEffect
from expunge.audits.verdict_rows import REDACTED, inert, line_of, row
from expunge.core.machine import hardware
from expunge.core.store import Job, Store
from expunge.experiments.auditing.lm_models import CONTROLS, FILTER, Lineup, lineup
from expunge.experiments.executors import completed, executor
from expunge.experiments.experiment import Experiment
from expunge.experiments.make import versions
from expunge.experiments.plan import Plan
from expunge.experiments.planning import plan_for

Record = dict[str, Any]


EXAMPLES = 2


STATE_VERSION = 2


@dataclass(frozen=True)
class LanguageAuditRequest:
    """How an experiment is audited.

    Args:
        audits: the panel, plain asking among them.
        seeds: the members whose models are audited.
        only: names of methods and controls; all when empty.
        margin: the share of the original's lead that matters.
        alpha: level of the tests.
    """

    audits: tuple[FactAudit, ...]
    seeds: tuple[int, ...]
    only: tuple[str, ...] = ()
    margin: float = MARGIN
    alpha: float = 0.05


def read_all(
    plan: Plan, store: Store, asked: LanguageAuditRequest, jobs: int = 1
) -> Iterator[tuple[str, float]]:
    """Read what is not in the store yet, model by model; yield (who, processor seconds).

    Each reading is a product of its own, so that a run that was stopped goes on, and anchors are
    read once for all methods.

    Args:
        plan, store: the experiment, carried out.
        asked: what is audited.
        jobs: processes of one thread each; 1 reads everything in this one.

    Raises:
        BadSentence, StoreError, Unsupported: as for `lineup`.
        BadEvidence: retrained models that know what was to be forgotten.
    """
    stands = {seed: lineup(plan, store, seed, asked.only) for seed in asked.seeds}
    for stand in stands.values():
        _check(stand, asked, store)
    tasks = [(seed, name) for seed, stand in stands.items() for name in _everyone(stand)]
    here = SharedModels(plan, store, asked, stands)
    build = partial(_shared_models, plan.experiment, store.root, asked)
    with executor(here, build, jobs) as workers:
        for place, seconds in completed(workers, [partial(_read, *task) for task in tasks]):
            seed, name = tasks[place]
            yield f"{name}, member {seed}", seconds


def verdicts(
    plan: Plan, store: Store, asked: LanguageAuditRequest, *, redact: bool = False
) -> Record:
    """Judge all methods of an experiment; readings that the store lacks are made here.

    Args:
        plan, store, asked: as for `read_all`.
        redact: leave prompts and answers out.
    """
    stands = [lineup(plan, store, seed, asked.only) for seed in asked.seeds]
    members = [_judged(stand, asked, store, redact) for stand in stands]
    names = list(dict.fromkeys(name for one in members for name in one["rows"]))
    absent = {name: why for stand in stands for name, why in stand.absent.items()}
    return {
        "kind": "verdicts",
        "experiment": plan.experiment.name,
        "problem": plan.problem.name,
        "seeds": list(asked.seeds),
        "margin": asked.margin,
        "alpha": asked.alpha,
        "facts": len(stands[0].context.problem.forget),
        "subjects": len({item.subject for item in stands[0].context.problem.forget}),
        "oracles": sum(name.startswith(ORACLE) for name in stands[0].anchors),
        "rows": [
            row(
                name,
                [one["rows"][name] for one in members if name in one["rows"]],
                name in CONTROLS,
            )
            for name in names
        ],
        "absent": absent,
        "anchors": [one["anchors"] for one in members],
        "seconds": _spent(stands, asked, store),
        "sentences": {method.name: method.sentence for method in plan.methods},
        "hardware": hardware(),
        "versions": versions(plan),
    }


def _everyone(stand: Lineup) -> list[str]:
    """Anchors first, then the methods that are none of them."""
    return [*stand.anchors, *(name for name in stand.names if name not in ("nothing", FILTER))]


def _check(stand: Lineup, asked: LanguageAuditRequest, store: Store) -> None:
    """Refuse retrained models that saw the forget set, before anything is spent."""
    plain = tuple(one for one in asked.audits if one.plain)
    for one in run_facts(plain, stand.anchors, stand.context, store):
        if not one.reason:
            check_measured_oracles(one, stand.holdout, stand.context)


def _read_one(stand: Lineup, name: str, asked: LanguageAuditRequest, store: Store) -> float:
    """Measure one model by all audits; return the processor seconds that it took."""
    begun, subject = time.process_time(), stand.subject(name)
    for _ in run_facts(asked.audits, {name: subject}, stand.context, store):
        continue
    if name in stand.names:
        _state(stand, subject, store)
    return time.process_time() - begun


def _state(stand: Lineup, subject: AuditedModel, store: Store) -> State:
    """How a model is broken, kept in the store, as `state` says it."""
    spec = repr((fingerprint(subject.bare).hex(), key_of(stand.context), STATE_VERSION))
    job = Job("state", spec, stand.seed)
    if not store.has(job):
        oracles = [one for name, one in stand.anchors.items() if name.startswith(ORACLE)]
        store.write(job, about=vars(state(subject, oracles, stand.context)))
    return State(**store.about(job))


def _judged(stand: Lineup, asked: LanguageAuditRequest, store: Store, redact: bool) -> Record:
    """The verdicts on all methods of one member, and what the anchors measured."""
    beside = list(run_facts(asked.audits, stand.anchors, stand.context, store))
    rows = {}
    for name in stand.names:
        known = {"nothing": ORIGINAL, FILTER: GUARDRAIL}.get(name, name)
        subject, measured = stand.subject(name), beside
        if known == name:
            mine = run_facts(asked.audits, {name: subject}, stand.context, store)
            measured = [
                replace(one, models={**one.models, **other.models})
                for one, other in zip(beside, mine, strict=True)
            ]
        how = SOUND if name == FILTER else _state(stand, subject, store)
        rows[name] = _member(measured, known, how, asked, redact)
        rows[name]["seed"] = stand.seed
    return {"rows": rows, "anchors": _anchors(beside, stand.seed)}


def _member(
    measured: Sequence[Measurements],
    name: str,
    how: State,
    asked: LanguageAuditRequest,
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


def _spent(stands: Sequence[Lineup], asked: LanguageAuditRequest, store: Store) -> Record:
    """Processor seconds, by audit and by model; measurements count where they were made."""
    audits: dict[str, float] = {}
    models: dict[str, float] = {}
    for stand in stands:
        cache = MeasurementCache(store, key_of(stand.context))
        for name in _everyone(stand):
            took = cache.seconds(asked.audits, stand.subject(name), stand.seed)
            models[f"{name}, member {stand.seed}"] = sum(took.values())
            for audit, seconds in took.items():
                audits[audit] = audits.get(audit, 0.0) + seconds
    return {"audits": audits, "models": models}


@dataclass(frozen=True)
class SharedModels:
    """What tasks of reading share: the experiment, and each member's models once looked up."""

    plan: Plan
    store: Store
    asked: LanguageAuditRequest
    stands: dict[int, Lineup]


def _shared_models(experiment: Experiment, root: Path, asked: LanguageAuditRequest) -> SharedModels:
    store = Store(root)
    return SharedModels(plan_for(experiment, store), store, asked, {})


def _read(seed: int, name: str, shared: SharedModels) -> float:
    if seed not in shared.stands:
        shared.stands[seed] = lineup(shared.plan, shared.store, seed, shared.asked.only)
    return _read_one(shared.stands[seed], name, shared.asked, shared.store)
