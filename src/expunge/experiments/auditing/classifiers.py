"""The audit of a whole experiment on images: the five words on every method, from its store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

from torch import nn

from expunge.audits.audit import ASKING, fingerprint
from expunge.audits.controls import LookedUp
from expunge.audits.finding import Finding, Record, chosen, found, line_of
from expunge.audits.images.answers import ForgetConfidence
from expunge.audits.images.classifier_audit import ClassifierAudit, logits_on
from expunge.audits.images.classifier_verdict import (
    PANEL,
    breakage,
    effects_of,
    evidence,
    kept_accuracy,
    looked_at,
)
from expunge.audits.verdict import AuditEffect, Verdict, conclude_beside
from expunge.core.store import Job, Store
from expunge.errors import BadEvidence, BadSentence, StoreError, did_you_mean
from expunge.experiments.audit_jobs import AuditRoles, AuditSetting, asked_of, measured
from expunge.experiments.auditing.experiment_audit import ExperimentAuditRequest, verdict_record
from expunge.experiments.collect import layout
from expunge.experiments.experiment import Experiment
from expunge.experiments.make import load_model
from expunge.experiments.plan import Plan

# The control that is no method: the original behind a list of the images to be forgotten.
FILTER = "filter"


SHAM = "sham"


CONTROLS = ("retrain", "nothing", FILTER, SHAM)


HIDES = {
    FILTER: "the control, which knows all behind a list of images",
    SHAM: "the control sham, which hides its answer and forgets nothing beneath it",
}


# The families of audits of classifiers that have a say in a verdict.
FAMILIES = (ASKING, "relearning", "transforms", "inside")


# A yardstick and two retrained models to hold others against.
FEWEST = 3


@dataclass(frozen=True, eq=False)
class ExperimentAudit:
    """All that is audited of an experiment that was carried out.

    Args:
        plan: with the audits that are asked, and the methods that have models.
        store: where models and readings lie.
        asked: how it is judged.
        names: of the rows, controls first.
        absent: name of a method -> why it has no model.
        own: name -> a model of the user's own, judged beside the methods.
        known: what was worked out once.
    """

    plan: Plan
    store: Store
    asked: ExperimentAuditRequest
    names: tuple[str, ...]
    absent: Mapping[str, str]
    own: Mapping[str, nn.Module] = field(default_factory=dict)
    known: dict[Any, Any] = field(default_factory=dict)

    def once(self, key: object, make: Callable[[], Any]) -> Any:
        """What several rows need, worked out once and kept."""
        if key not in self.known:
            self.known[key] = make()
        return self.known[key]

    @cached_property
    def roles(self) -> AuditRoles:
        """Who is measured by what."""
        return AuditRoles(self.plan)

    @cached_property
    def setting(self) -> AuditSetting:
        """Where models outside the experiment are measured."""
        return AuditSetting(self.roles, self.store)

    def subjects(self, name: str, audit: ClassifierAudit) -> tuple[Job, ...]:
        """The models of a row that one audit reads; of the filter, those that it meets."""
        if name == FILTER:
            asks = audit.family == ASKING
            return (self.filter,) if asks else self.roles.originals[:1]
        if name in self.own:
            return (Job("own", fingerprint(self.own[name]).hex(), 0, (self.plan.root,)),)
        return self.models(name)

    def models(self, name: str) -> tuple[Job, ...]:
        """The models of a method or control of the experiment."""
        return self.roles.subjects(next(one for one in self.plan.methods if one.name == name))

    @property
    def filter(self) -> Job:
        """What readings of the filter are known by; it is made anew from its two models."""
        return Job("filter", "a list of the pictures/1", 0, self.roles.yardsticks)


def panel_of(experiment: Experiment, families: Sequence[str] = ()) -> tuple[ClassifierAudit, ...]:
    """The audits that a verdict rests on: those that the experiment asks for, or `PANEL`.

    Only what reads how much is left has a say, not what reads damage; plain asking comes first.

    Raises:
        BadSentence: a family that does not exist.
    """
    there = FAMILIES
    for name in families:
        if name not in there:
            hint = did_you_mean(name, there)
            raise BadSentence(f"--only: no family {name!r}; there are {', '.join(there)}.{hint}")
    listed = [one for one in experiment.audits or PANEL if evidence(one)]
    plain, others = ForgetConfidence(), [one for one in listed if type(one) is not ForgetConfidence]
    return (plain, *(x for x in others if not families or x.family in families))


def trial(
    plan: Plan,
    store: Store,
    asked: ExperimentAuditRequest,
    own: Mapping[str, nn.Module] | None = None,
) -> ExperimentAudit:
    """Gather an experiment that was carried out.

    Args:
        plan, store: the experiment, and where its models lie.
        asked: how it is audited.
        own: name -> a model of one's own of the same architecture, trained on the same sets.

    Raises:
        BadSentence: a method or family that does not exist.
        StoreError: originals or retrained models that are not in the store.
    """
    own_audits = tuple(one for one in asked.audits if isinstance(one, ClassifierAudit))
    panel = own_audits or panel_of(plan.experiment)
    count = _audited(plan, store, len(asked.seeds) or plan.experiment.audited)
    changed = replace(plan.experiment, audits=panel, audited=count)
    whole = replace(plan, experiment=changed)
    names, absent = _present(whole, store, asked.only)
    # the sham is read whoever is asked for: what the audits may say hangs on it
    read = [m for m in changed.methods if m.name in names or _is_sham(m.name, whole, store)]
    mine = dict(own or {})
    for name in mine:
        if name in names or name in absent:
            raise BadSentence(f"The experiment has a row {name!r} already; rename the file.")
    return ExperimentAudit(
        replace(whole, experiment=replace(changed, methods=tuple(read))), store, asked,
        (*names, *mine), absent, mine,
    )  # fmt: skip


def _is_sham(name: str, plan: Plan, store: Store) -> bool:
    return name == SHAM and not _lacking(plan, store, name)


def _audited(plan: Plan, store: Store, most: int) -> int:
    """How many models of each method are judged: as many as there are oracles beside the first."""
    there = 0
    for seed in plan.experiment.seeds[: most + 1]:
        if not store.has(plan.oracle(seed)) or not store.has(plan.original(seed)):
            break
        there += 1
    if there < FEWEST:
        raise StoreError(
            f"The store {store.root} has {there} retrained models with their originals; expected "
            f"{FEWEST} at least. Carry the experiment out first: `expunge run "
            f"{plan.experiment.name}` with this store."
        )
    return min(most, there - 1)


def _present(
    plan: Plan, store: Store, only: Sequence[str]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The rows that have models, controls first, and why others have none."""
    methods = [method.name for method in plan.methods]
    if FILTER in methods:
        raise BadSentence(
            f"A method of {plan.experiment.name} is called {FILTER!r}, as a control of every audit "
            "is; call it otherwise. Its models stay what they are."
        )
    there = ["retrain", "nothing", FILTER, *methods]
    return chosen(there, only, plan.experiment.name, partial(_lacking, plan, store))


def _lacking(plan: Plan, store: Store, name: str) -> str:
    """Why a row has no models to judge; empty where it has, and for the filter."""
    if name == FILTER:
        return ""
    method = next(one for one in plan.methods if one.name == name)
    if store.has(plan.failure(method)):
        return str(store.about(plan.failure(method))["reason"])
    models = AuditRoles(plan).subjects(method)
    made = sum(map(store.has, models))
    if made < len(models):
        return f"It has {made} of {len(models)} models in this store; run the experiment."
    return ""


def verdicts(here: ExperimentAudit) -> Record:
    """Judge every row of an experiment whose audits have been carried out.

    Readings of the control behind a list, and of one's own models, are made here and kept.

    Raises:
        StoreError: what the audits read is not in the store; `graph.audit` makes it.
    """
    _read_others(here)
    plan, audits = here.plan, here.roles.audits
    judged = {name: _member(here, name) for name in here.names}
    return verdict_record(
        plan,
        here.asked,
        [judged],
        CONTROLS,
        seeds=[plan.experiment.seeds[0]],
        pictures=len(plan.problem.sets["forget"]),
        models=plan.experiment.audited,
        oracles=len(here.roles.oracles),
        absent=dict(here.absent),
        anchors=[{"seed": plan.experiment.seeds[0], "audits": _anchors(here)}],
        seconds={"audits": {repr(one): _seconds(here, one) for one in audits}},
        clock="wall-clock time, model by model",
    )


def _read_others(here: ExperimentAudit) -> None:
    """Measure the filter and one's own models, where the store does not hold it yet."""
    roles, store = here.roles, here.store
    asks = [one for one in roles.audits if one.family == ASKING]
    due = [(FILTER, audit) for audit in asks]
    due += [(name, audit) for name in here.own for audit in roles.audits]
    for name, audit in due:
        product = roles.number(audit, here.subjects(name, audit)[0])
        if not store.has(product):
            store.write(product, about=measured(audit, _made(here, name), here.setting))


def _made(here: ExperimentAudit, name: str) -> nn.Module:
    if name in here.own:
        return here.own[name]
    original, oracle = (load_model(here.plan, here.store, job) for job in here.roles.yardsticks)
    return LookedUp(original, oracle, here.plan.problem.sets["forget"])


def _findings(here: ExperimentAudit, name: str) -> tuple[list[Finding], list[float]]:
    """What each audit found in a row, and what its values are rounded to."""

    def made() -> tuple[list[Finding], list[float]]:
        rest = {"margin": here.asked.margin, "alpha": here.asked.alpha}
        read = [
            asked_of(here.roles, here.store, audit, here.subjects(name, audit))
            for audit in here.plan.experiment.audits
        ]
        return [found(one, **rest) for one in read], [one.grain for one in read]

    told: tuple[list[Finding], list[float]] = here.once(("findings", name), made)
    return told


def _effects(here: ExperimentAudit, name: str) -> list[AuditEffect]:
    return effects_of(here.plan.experiment.audits, *_findings(here, name), alpha=here.asked.alpha)


def _judged(here: ExperimentAudit, name: str, said: Sequence[AuditEffect]) -> Verdict:
    """The verdict on a row, in which nobody is removed by audits that acquit a control."""
    shams = (SHAM,) if any(one.name == SHAM for one in here.plan.methods) else ()
    controls = {HIDES[who]: partial(_effects, here, who) for who in (FILTER, *shams)}
    return conclude_beside(said, controls, collapse=_state(here, name), alpha=here.asked.alpha)


def _state(here: ExperimentAudit, name: str) -> str:
    """How the models of a row are broken, from their answers; a filter's weights are whole."""
    if name == FILTER:
        return ""
    problem = here.plan.problem
    theirs = [_accuracy(here, job) for job in here.roles.oracles]
    if name in here.own:
        answers = logits_on(here.own[name], problem.sets[looked_at(problem)])
        return breakage([kept_accuracy(answers, problem)], theirs, problem)
    return breakage([_accuracy(here, job) for job in here.models(name)], theirs, problem)


def _accuracy(here: ExperimentAudit, job: Job) -> float:
    """What one model of the experiment answers rightly of what was to be kept, from its evidence.

    Raises:
        StoreError: its evidence is not in the store.
    """

    def made() -> float:
        problem, names = here.plan.problem, here.plan.measured
        answers = here.store.tensors(here.plan.evidence(job), "evidence")["logits"]
        return kept_accuracy(answers[layout(problem, names)[1][looked_at(problem)]], problem)

    return float(here.once(("accuracy", job.key), made))


def _member(here: ExperimentAudit, name: str) -> Record:
    """The verdict on a row, with a line for each audit."""
    said = _effects(here, name)
    told = _judged(here, name, said)
    values, _ = _findings(here, name)
    lines = []
    for audit, one, finding in zip(here.plan.experiment.audits, said, values, strict=True):
        mean = {"mean": sum(finding.subject) / len(finding.subject)} if finding.subject else {}
        lines.append({**line_of(one, audit.unit), **mean, "also": {}, "curve": []})
    count = max((len(one.subject) for one in values), default=0)
    who = f"{count} models together" if count > 1 else "One model"
    rest = {"notes": list(told.notes), "lines": lines, "who": who}
    return {**vars(told), **rest, "seed": here.plan.experiment.seeds[0]}


def _anchors(here: ExperimentAudit) -> Record:
    """What original and retrained models read, audit by audit."""
    told = {}
    for audit, one in zip(here.plan.experiment.audits, _findings(here, "nothing")[0], strict=True):
        means: dict[str, float] = {}
        if one.original:
            means = {"original": sum(one.original) / len(one.original)}
            means |= {f"oracle {n}": value for n, value in enumerate(one.oracle, 1)}
        told[repr(audit)] = {"means": means, "curves": {}, "also": {}}
    return told


def _seconds(here: ExperimentAudit, audit: ClassifierAudit) -> float:
    """How long one audit took on all models that it read, each once."""
    rows = (here.subjects(name, audit) for name in here.names)
    who = dict.fromkeys(
        [*here.roles.originals, *here.roles.oracles, *(j for one in rows for j in one)]
    )
    return sum(float(here.store.about(here.roles.number(audit, job))["seconds"]) for job in who)


def refuse_oracles(here: ExperimentAudit, name: str) -> None:
    """Refuse a model of one's own that is one of the retrained ones.

    Raises:
        BadEvidence: it is, bit for bit.
    """
    mark = fingerprint(here.own[name])
    for job in (here.roles.yardsticks[1], *here.roles.oracles):
        if fingerprint(load_model(here.plan, here.store, job)) == mark:
            raise BadEvidence(
                f"{name} is a retrained model of the experiment, bit for bit, and would be "
                "compared with itself."
            )
