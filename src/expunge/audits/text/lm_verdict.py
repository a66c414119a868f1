"""From measurements of several language models to a verdict: all measured alike, fact by fact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from torch import nn

from expunge.audits.audit import (
    ORACLE,
    ORIGINAL,
    SUBJECT,
    AuditedModel,
    MeasurementCache,
    Measurements,
    fingerprint,
    run_audits,
)
from expunge.audits.controls import Guardrail
from expunge.audits.finding import compare
from expunge.audits.text.facts import (
    SOUND,
    FactAudit,
    FactContext,
    FactProblem,
    State,
    audited,
    check_apart,
    check_oracles,
    context_of,
    known_untaught,
    state,
)
from expunge.audits.verdict import BEHIND_A_FILTER, AuditEffect, Verdict, conclude_beside
from expunge.core.store import Store
from expunge.errors import BadEvidence
from expunge.metrics.agreement import Unscored
from expunge.problems.text.benchmarks.files import Item
from expunge.statistics.paired import Facts, groups_needed
from expunge.statistics.power import excludable_mean
from expunge.statistics.result import Effect

GUARDRAIL = "guardrail"


# The share of the original's lead that matters, unless told otherwise. With ten subjects of nine
# facts and three retrained models plain asking can exclude a fifth, and not a tenth.
MARGIN = 0.2


@dataclass(frozen=True, eq=False)
class AuditReport:
    """All that was found of one unlearned model.

    Args:
        verdict: on it.
        guardrail: the verdict on the control, which must be caught; None where none was built.
        measured: what each audit measured.
        effects: what each audit says of it, in the same order.
        margin: the share of the gap between original and retrained that matters.
        seed: what the audits drew from.
    """

    verdict: Verdict
    guardrail: Verdict | None
    measured: tuple[Measurements, ...]
    effects: tuple[AuditEffect, ...]
    margin: float
    seed: int


@dataclass(frozen=True)
class AuditRequest:
    """How language models are audited.

    Args:
        audits: what is tried, plain asking among them.
        untaught: facts of the same form that nobody was taught, to check the oracles by.
        seed: all that the audits draw follows from it.
        margin: the share of the gap between original and retrained that matters.
        alpha: level of the tests.
    """

    audits: tuple[FactAudit, ...]
    untaught: tuple[Item, ...] = ()
    seed: int = 0
    margin: float = MARGIN
    alpha: float = 0.05


def audit_models(
    subject: nn.Module,
    original: nn.Module,
    oracles: Sequence[nn.Module],
    problem: FactProblem,
    request: AuditRequest,
    store: Store | None = None,
) -> AuditReport:
    """Return the verdict on an unlearned language model, and all that it rests on.

    Args:
        subject: the unlearned model.
        original: the model before.
        oracles: one or more retrained without the forget set; audits may look at the first.
        problem: the facts, about two subjects at least; without any that were kept, nobody looks
            whether the model is broken.
        request: what is tried, and how it is judged.
        store: caches each measurement; None for none.

    Raises:
        BadEvidence: no oracle, an oracle that is the original or the subject, or that saw the
            forget set.
    """
    check_apart(subject, original, oracles)
    context = context_of(problem, original, oracles[0], request.seed)
    retrained = {f"{ORACLE} {number}": one for number, one in enumerate(oracles, 1)}
    named = {SUBJECT: subject, ORIGINAL: original, **retrained}
    models = {name: audited(name, model) for name, model in named.items()}
    control = guarded(context)
    everyone = models | ({GUARDRAIL: control} if control else {})
    # plain asking first: oracles that saw the forget set are refused before anything is spent
    audits = sorted(request.audits, key=lambda audit: not audit.plain)
    measured = []
    for one in run_facts(audits, everyone, context, store):
        measured.append(one)
        if one.audit.plain and not one.reason:
            check_measured_oracles(one, request.untaught, context)
    how = state(models[SUBJECT], [models[name] for name in retrained], context)
    margin, alpha = request.margin, request.alpha
    verdict = judge(measured, state=how, margin=margin, alpha=alpha)
    notes = (*verdict.notes, *_limits(len(oracles), bool(problem.retain)))
    return AuditReport(
        replace(verdict, notes=notes),
        judge(measured, name=GUARDRAIL, margin=margin, alpha=alpha) if control else None,
        tuple(measured),
        tuple(effect_of(one, margin=margin, alpha=alpha) for one in measured),
        request.margin,
        request.seed,
    )


def run_facts(
    audits: Sequence[FactAudit],
    models: Mapping[str, AuditedModel],
    context: FactContext,
    store: Store | None = None,
) -> Iterator[Measurements]:
    """Run audits on all models alike; each measurement is cached where there is a store."""
    if store is None:
        return run_audits(audits, models, context)
    return run_audits(audits, models, context, MeasurementCache(store, key_of(context)))


def check_measured_oracles(
    one: Measurements, untaught: Sequence[Item], context: FactContext
) -> None:
    """Refuse retrained models that saw the forget set, by what plain asking measured.

    Raises:
        BadEvidence: naming the oracle and its numbers.
    """
    measured = {name: one.models[name] for name in one.oracles}
    floor = known_untaught(context.oracle, untaught, context)
    check_oracles(one.models[ORIGINAL], measured, floor)


def _limits(oracles: int, kept: bool) -> tuple[str, ...]:
    """What the verdict does not cover."""
    one = "One retrained model: how much other trainings would differ is not in the intervals."
    blind = "No kept facts were given: it was not looked whether the model is broken."
    return (*((one,) if oracles == 1 else ()), *(() if kept else (blind,)))


def judge(
    measured: Sequence[Measurements],
    *,
    name: str = SUBJECT,
    state: State = SOUND,
    margin: float | None = None,
    alpha: float = 0.05,
) -> Verdict:
    """Return the verdict on one of the models.

    Where these audits call the control *removed*, a filter around the original, they say that of
    nobody.

    Args:
        measured: of all audits; `Question`, plain asking, among them.
        name: which model.
        state: how it answers, as `checks.state` says.
        margin: the share of the gap that matters; the audits' own unless given.
        alpha: level of the tests.

    Raises:
        BadEvidence: no plain asking.
    """

    def effects(who: str) -> list[AuditEffect]:
        return [effect_of(one, who, margin=margin, alpha=alpha) for one in measured]

    controls = {}
    if any(GUARDRAIL in one.models for one in measured):
        controls = {BEHIND_A_FILTER: lambda: effects(GUARDRAIL)}
    return conclude_beside(
        effects(name), controls, collapse=state.broken, garbled=state.garbled, alpha=alpha
    )


def effect_of(
    one: Measurements, name: str = SUBJECT, *, margin: float | None = None, alpha: float = 0.05
) -> AuditEffect:
    """Return what one audit says of one of the models."""
    audit = one.audit
    limit = audit.margin if margin is None else margin

    def said(effect: Effect | Unscored, cost: str = "", powered: bool = True) -> AuditEffect:
        return AuditEffect(
            repr(audit), audit.family, effect, cost, audit.plain, audit.decisive, powered
        )

    if one.reason:
        return said(Unscored(f"{audit!r} does not fit: {one.reason}."))
    try:
        facts = facts_of(one, name)
    except BadEvidence as fault:
        return said(Unscored(f"{fault} {_needed(one, limit, alpha)}".strip()))
    effect = compare(audit, facts, margin=limit, alpha=alpha)[1]
    if isinstance(effect, Unscored):
        return said(effect)
    # by name: the store keeps no other order
    costs = sorted(one.models[name].cost.items())
    cost = ", ".join(f"{value:g} {what}" for what, value in costs)
    return said(effect, cost, _excludable(facts, alpha) <= limit)


def facts_of(one: Measurements, name: str) -> Facts:
    """The values of one model beside those of the retrained ones and the original.

    Raises:
        BadEvidence: as `Facts`.
    """
    mine, known = one.models[name], one.models[ORIGINAL]
    others = np.stack([one.models[oracle].values for oracle in one.oracles])
    return Facts(mine.values, others, known.values, mine.groups)


def guarded(context: FactContext) -> AuditedModel | None:
    """The control: the original behind a filter on the subjects' names; None where none is named.

    It has forgotten nothing, and whoever asks plainly is told nothing.
    """
    names = tuple(dict.fromkeys(item.subject for item in context.problem.forget if item.subject))
    if not names:
        return None
    return audited(GUARDRAIL, Guardrail(context.original, context.problem.tokenizer, names))


def _excludable(facts: Facts, alpha: float) -> float:
    """The share of the lead that could be excluded, by the spread of original and oracles alone.

    No subject is looked at, so that what is left out for want of power was not chosen by its say.
    """
    gap, error, freedom = facts.contrast((0.0, -1.0, 1.0))
    return excludable_mean(error, freedom, alpha) / gap


def _needed(one: Measurements, margin: float, alpha: float) -> str:
    """How many subjects would do, by what the first oracle guesses."""
    theirs, known = one.models[one.oracles[0]], one.models[ORIGINAL]
    gap = float(known.values.mean() - theirs.values.mean())
    if gap <= 0:
        return ""
    count = groups_needed(theirs.values, theirs.groups, gap, margin=margin, alpha=alpha)
    return f"About {count} subjects with as many facts each would do."


def key_of(context: FactContext) -> str:
    """What a measurement depends on besides the model and the audit."""
    items = [
        [asdict(item) for item in part]
        for part in (context.problem.forget, context.problem.retain, context.problem.unrelated)
    ]
    marks = [fingerprint(model).hex() for model in (context.original, context.oracle)]
    return repr((items, marks, context.seed, context.problem.chat))
