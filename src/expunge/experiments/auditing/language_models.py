"""The audit of a whole experiment: every method's models, beside anchors that are read once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from expunge.audits.frame import fingerprint
from expunge.audits.text.asking import Question
from expunge.audits.text.checks import SOUND, State, check_oracles, known_untaught, state
from expunge.audits.text.facts import Subject, TextAudit
from expunge.audits.text.lm_verdict import (
    GUARDRAIL,
    MARGIN,
    ORACLE,
    ORIGINAL,
    Measurements,
    examine,
    judge,
    scene_of,
    spent,
    witness,
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

    audits: tuple[TextAudit, ...]
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
        "facts": len(stands[0].case.forget),
        "subjects": len({item.subject for item in stands[0].case.forget}),
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
    plain = tuple(one for one in asked.audits if isinstance(one, Question))
    for exhibit in examine(plain, stand.anchors, stand.case, store):
        if not exhibit.reason:
            told = {name: exhibit.readings[name] for name in exhibit.oracles}
            floor = known_untaught(stand.case.oracle, stand.holdout, stand.case)
            check_oracles(exhibit.readings[ORIGINAL], told, floor)


def _read_one(stand: Lineup, name: str, asked: LanguageAuditRequest, store: Store) -> float:
    """Read one model by all audits; return the processor seconds that it took."""
    begun, subject = time.process_time(), stand.subject(name)
    for _ in examine(asked.audits, {name: subject}, stand.case, store):
        continue
    if name in stand.names:
        _state(stand, subject, store)
    return time.process_time() - begun


def _state(stand: Lineup, subject: Subject, store: Store) -> State:
    """How a model is broken, kept in the store, as `state` says it."""
    spec = repr((fingerprint(subject.bare).hex(), scene_of(stand.case), STATE_VERSION))
    job = Job("state", spec, stand.seed)
    if not store.has(job):
        oracles = [one for name, one in stand.anchors.items() if name.startswith(ORACLE)]
        store.write(job, about=vars(state(subject, oracles, stand.case)))
    return State(**store.about(job))


def _judged(stand: Lineup, asked: LanguageAuditRequest, store: Store, redact: bool) -> Record:
    """The verdicts on all methods of one member, and what the anchors read."""
    beside = list(examine(asked.audits, stand.anchors, stand.case, store))
    rows = {}
    for name in stand.names:
        known = {"nothing": ORIGINAL, FILTER: GUARDRAIL}.get(name, name)
        subject, exhibits = stand.subject(name), beside
        if known == name:
            mine = examine(asked.audits, {name: subject}, stand.case, store)
            exhibits = [
                replace(one, readings={**one.readings, **other.readings})
                for one, other in zip(beside, mine, strict=True)
            ]
        how = SOUND if name == FILTER else _state(stand, subject, store)
        rows[name] = _member(exhibits, known, how, asked, redact)
        rows[name]["seed"] = stand.seed
    return {"rows": rows, "anchors": _anchors(beside, stand.seed)}


def _member(
    exhibits: Sequence[Measurements],
    name: str,
    how: State,
    asked: LanguageAuditRequest,
    redact: bool,
) -> Record:
    """The verdict on one model, with a line for each audit."""
    rest = {"margin": asked.margin, "alpha": asked.alpha}
    told = judge(exhibits, name=name, state=how, **rest)
    lines = [_line(one, name, witness(one, name, **rest), redact) for one in exhibits]
    return {**vars(told), "notes": list(told.notes), "lines": lines}


def _line(exhibit: Measurements, name: str, said: AuditEffect, redact: bool) -> Record:
    """What one audit read from one model, and how much of the original's lead that is."""
    line = line_of(said, exhibit.audit.unit)
    if name in exhibit.readings:
        read = exhibit.readings[name]
        drawn = [["" if redact else inert(text) for text in one] for one in read.drawn[:EXAMPLES]]
        line["drawn"] = [[REDACTED] * 2 for _ in drawn] if redact else drawn
        line |= {"mean": float(read.values.mean()), "also": read.also}
        line["curve"] = [list(one) for one in read.curve]
    return line


def _anchors(exhibits: Sequence[Measurements], seed: int) -> Record:
    """What original, retrained models and the filter read, audit by audit."""
    found = {}
    for one in exhibits:
        means = {name: float(read.values.mean()) for name, read in one.readings.items()}
        curves = {name: [list(at) for at in read.curve] for name, read in one.readings.items()}
        also = {name: read.also for name, read in one.readings.items()}
        found[repr(one.audit)] = {"means": means, "curves": curves, "also": also}
    return {"seed": seed, "audits": found}


def _spent(stands: Sequence[Lineup], asked: LanguageAuditRequest, store: Store) -> Record:
    """Processor seconds, by audit and by model; readings are counted where they were made."""
    audits: dict[str, float] = {}
    models: dict[str, float] = {}
    for stand in stands:
        for name in _everyone(stand):
            took = spent(asked.audits, stand.subject(name), stand.case, store)
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
