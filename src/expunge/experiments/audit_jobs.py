"""Audits in an experiment: a product for each audit and model, and what they say of each method."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch

from expunge.audits.audit import fingerprint
from expunge.audits.finding import AuditQuestion, alarms, recorded
from expunge.audits.images.classifier_audit import ClassifierAudit, ImageContext, measure
from expunge.core.method import Method
from expunge.core.seeds import derived
from expunge.core.store import Corrupt, Job, Store
from expunge.core.vocabulary import in_full
from expunge.engine.run import frozen
from expunge.errors import ExpungeError, StoreError
from expunge.experiments.make import Outcome, load_model
from expunge.experiments.plan import Plan

VERSION = 1


Kind = Literal["originals", "oracles", "unlearned"]


Record = dict[str, Any]


@dataclass(frozen=True)
class AuditRound:
    """One audit on the models of one kind; of a method, on those that it made."""

    audit: ClassifierAudit
    kind: Kind
    method: Method | None = None

    @property
    def title(self) -> str:
        """What a progress bar calls it."""
        who = self.kind if self.method is None else self.method.name
        return f"{type(self.audit).__name__}, {who}"


@dataclass(frozen=True, eq=False)
class AuditRoles:
    """Who is audited in an experiment: every job is worked out once, since there are many."""

    plan: Plan
    known: dict[Any, Any] = field(default_factory=dict)

    @cached_property
    def audits(self) -> tuple[ClassifierAudit, ...]:
        """The audits that make sense on the problem."""
        asked = self.plan.experiment.audits
        return tuple(audit for audit in asked if not audit.mismatch(self.plan.problem))

    @cached_property
    def yardsticks(self) -> tuple[Job, Job]:
        """The original and the oracle that audits may look at."""
        first = self.plan.experiment.seeds[0]
        return self.plan.original(first), self.plan.oracle(first)

    @cached_property
    def originals(self) -> tuple[Job, ...]:
        """The untouched originals, each once: one under the challenge's protocol."""
        each = (self.plan.original(seed) for seed in self._seeds)
        return tuple({job.key: job for job in each}.values())

    @cached_property
    def oracles(self) -> tuple[Job, ...]:
        """The retrained models that others are compared with: without the yardstick."""
        experiment = self.plan.experiment
        return tuple(map(self.plan.oracle, experiment.seeds[1 : experiment.audited + 1]))

    @property
    def size(self) -> int:
        """How many models are audited."""
        made = [method for method in self.plan.methods if method.steps]
        return len(self.originals) + len(self.oracles) + len(self._seeds) * len(made)

    def subjects(self, method: Method) -> tuple[Job, ...]:
        """The models of a method; of one without steps, the originals."""
        if not method.steps:
            return self.originals
        if method.name not in self.known:
            each = tuple(self.plan.unlearned(method, seed) for seed in self._seeds)
            self.known[method.name] = each
        found: tuple[Job, ...] = self.known[method.name]
        return found

    def models(self, round_: AuditRound) -> tuple[Job, ...]:
        """The models that a round measures."""
        if round_.method is not None:
            return self.subjects(round_.method)
        return self.originals if round_.kind == "originals" else self.oracles

    @property
    def rounds(self) -> list[AuditRound]:
        """All rounds, the anchors first."""
        kinds: tuple[Kind, ...] = ("originals", "oracles")
        rounds = [AuditRound(audit, kind) for kind in kinds for audit in self.audits]
        made = [method for method in self.plan.methods if method.steps]
        return rounds + [AuditRound(audit, "unlearned", m) for m in made for audit in self.audits]

    def number(self, audit: ClassifierAudit, model: Job) -> Job:
        """The product that holds what an audit says of one model, and of nothing else."""
        if (audit, model.key) not in self.known:
            seed, spec = self.plan.experiment.seed, f"{in_full(audit)}/{VERSION}"
            self.known[audit, model.key] = Job("audited", spec, seed, (model, *self.yardsticks))
        found: Job = self.known[audit, model.key]
        return found

    def findings(self, method: Method) -> Job:
        """The product that holds what all audits say of one method."""
        who = (*self.subjects(method), *self.oracles, *self.originals)
        each = tuple(self.number(audit, model) for audit in self.audits for model in who)
        spec = f"{', '.join(map(in_full, self.plan.experiment.audits))}/{VERSION}"
        return Job("findings", spec, len(self.subjects(method)), each or who)

    @property
    def _seeds(self) -> tuple[int, ...]:
        return self.plan.experiment.seeds[: self.plan.experiment.audited]


def failed(plan: Plan, store: Store, method: Method | None) -> bool:
    """Whether a method could not be carried out, so that there is nothing to audit."""
    return method is not None and store.has(plan.failure(method))


def due(roles: AuditRoles, store: Store, round_: AuditRound) -> list[tuple[Job, Job]]:
    """The models of a round that are not measured yet, each with its product."""
    if failed(roles.plan, store, round_.method):
        return []
    pairs = [(model, roles.number(round_.audit, model)) for model in roles.models(round_)]
    return [(model, product) for model, product in pairs if not store.has(product)]


def make_round(plan: Plan, store: Store, round_: AuditRound, wait: bool) -> Outcome:
    """Measure the models of a round, one product each; what is already there is kept."""
    roles = AuditRoles(plan)
    name = roles.number(round_.audit, roles.models(round_)[0]).key
    with store.claim(name, wait) as ours:
        if not ours:
            return "busy"
        setting = AuditSetting(roles, store)
        try:
            for model, product in due(roles, store, round_):
                about = measured(round_.audit, load_model(plan, store, model), setting)
                store.write(product, about=about)
        except Corrupt:
            return "again"
    return "made"


@dataclass(frozen=True, eq=False)
class AuditSetting:
    """Where the models of one round are measured: read from the store when first asked for."""

    roles: AuditRoles
    store: Store

    @cached_property
    def context(self) -> ImageContext:
        """The problem, with the first original and the first oracle as yardsticks."""
        plan = self.roles.plan
        original, oracle = (load_model(plan, self.store, job) for job in self.roles.yardsticks)
        return ImageContext(plan.problem, frozen(original), frozen(oracle), plan.experiment.seed)


def measured(audit: ClassifierAudit, model: torch.nn.Module, setting: AuditSetting) -> Record:
    """The number of one model, or the reason why there is none."""
    context, begun = setting.context, time.perf_counter()
    try:
        told: Record = {"value": measure(audit, model, context), "grain": audit.grain(context)}
    except torch.OutOfMemoryError:
        raise
    except (ExpungeError, ValueError, RuntimeError) as fault:  # torch refuses shapes with the last
        told = {"reason": str(fault).strip().partition("\n")[0] or type(fault).__name__}
    return {**told, "weights": fingerprint(model).hex(), "seconds": time.perf_counter() - begun}


def make_findings(plan: Plan, store: Store, method: Method) -> Outcome:
    """Judge what all audits measured of one method."""
    roles = AuditRoles(plan)
    job = roles.findings(method)
    if store.has(job) or failed(plan, store, method):
        return "made"
    try:
        asked = [
            asked_of(roles, store, audit, roles.subjects(method))
            for audit in plan.experiment.audits
        ]
    except Corrupt:
        return "again"
    told: Record = {"models": len(roles.subjects(method)), **recorded(asked)}
    if method.name == "retrain":
        draws = np.random.default_rng(derived("score", plan.experiment.seed, "audits"))
        told["false_alarms"] = alarms(asked, draws)
    store.write(job, about=told)
    return "made"


def asked_of(
    roles: AuditRoles, store: Store, audit: ClassifierAudit, subjects: Sequence[Job]
) -> AuditQuestion:
    """The values of one audit for some models and both anchors, all of them measured."""
    if reason := audit.mismatch(roles.plan.problem):
        return AuditQuestion(audit, reason=f"It does not fit the problem: {reason}.")
    groups = {
        "unlearned": subjects,
        "retrained": roles.oracles,
        "original": roles.originals,
    }
    read = {
        name: _different([store.about(roles.number(audit, job)) for job in jobs])
        for name, jobs in groups.items()
    }
    for name, records in read.items():
        without = [record["reason"] for record in records if "reason" in record]
        if without:
            who = f"{len(without)} of {len(records)} {name} models gave no number: "
            return AuditQuestion(audit, reason=f"{who}{without[0]}")
    mine, theirs, start = (tuple(one["value"] for one in records) for records in read.values())
    return AuditQuestion(audit, mine, theirs, start, read["original"][0]["grain"])


def _different(records: Sequence[Record]) -> list[Record]:
    """One record of equal models, since a copy is no second witness."""
    return list({record["weights"]: record for record in records}.values())


def findings_of(plan: Plan, store: Store, method: Method) -> Record:
    """What the audits found in a method; empty where none were asked for or it has no models.

    Raises:
        StoreError: the experiment has not been carried out to its end.
    """
    if not plan.experiment.audits or failed(plan, store, method):
        return {}
    job = AuditRoles(plan).findings(method)
    if not store.has(job):
        raise StoreError(
            f"{method.name} has not been audited in {store.root} yet. Run the experiment first; "
            "`expunge status` says what is missing."
        )
    return store.about(job)


def counted(plan: Plan, store: Store) -> dict[str, tuple[int, int, float | None]]:
    """What is measured, of how many, with the mean seconds of one measurement where known."""
    roles, made, of = AuditRoles(plan), 0, 0
    seconds: list[float] = []
    for round_ in roles.rounds:
        models, left = roles.models(round_), len(due(roles, store, round_))
        there = 0 if failed(plan, store, round_.method) else len(models) - left
        made, of = made + there, of + there + left
        first = roles.number(round_.audit, models[0])
        seconds += [store.about(first)["seconds"]] if there and store.has(first) else []
    return {"audits": (made, of, float(np.mean(seconds)) if seconds else None)} if of else {}


def timed(plan: Plan) -> dict[ClassifierAudit, float]:
    """Seconds of each audit on a network that is not trained, once; for a forecast."""
    network = frozen(plan.problem.untrained("audit"))
    found = {}
    for audit in AuditRoles(plan).audits:
        context = ImageContext(plan.problem, network, network, plan.experiment.seed)
        begun = time.perf_counter()
        try:
            measure(audit, network, context)
        except (ExpungeError, ValueError, RuntimeError):
            continue  # why, is said of the trained models
        found[audit] = time.perf_counter() - begun
    return found
