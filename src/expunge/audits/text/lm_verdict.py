"""From readings of several language models to a verdict: every model read alike, fact by fact."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from expunge.audits.frame import fingerprint
from expunge.audits.text.asking import Question
from expunge.audits.text.checks import (
    SOUND,
    State,
    check_apart,
    check_oracles,
    known_untaught,
    state,
)
from expunge.audits.text.facts import Case, Reading, Subject, TextAudit
from expunge.audits.text.guardrail import Guardrail
from expunge.audits.verdict import AuditEffect, Verdict, conclude, held_back
from expunge.core.store import Corrupt, Job, Store
from expunge.errors import BadEvidence
from expunge.metrics.score import Unscored
from expunge.problems.text.benchmarks.items import Item
from expunge.statistics.paired import Facts, groups_needed
from expunge.statistics.power import excludable_mean
from expunge.statistics.recovered import compare_recovered, gap_p_value

SUBJECT, ORIGINAL, ORACLE, GUARDRAIL = "subject", "original", "oracle", "guardrail"


# The share of the original's lead that matters, unless told otherwise. With ten subjects of nine
# facts and three retrained models plain asking can exclude a fifth, and not a tenth.
MARGIN = 0.2


# What a kept reading took, beside it: never part of what was read.
SECONDS = "processor seconds"


@dataclass(frozen=True, eq=False)
class Measurements:
    """What one audit read from all models.

    Args:
        audit: which.
        readings: name of a model -> its reading; empty where the audit does not fit.
        reason: why it does not fit, as a clause; empty where it does.
    """

    audit: TextAudit
    readings: Mapping[str, Reading]
    reason: str = ""

    @property
    def oracles(self) -> list[str]:
        """The names of the retrained models."""
        return [name for name in self.readings if name.startswith(ORACLE)]

    def facts(self, name: str) -> Facts:
        """The values of one model beside those of the retrained ones and the original."""
        mine, known = self.readings[name], self.readings[ORIGINAL]
        others = np.stack([self.readings[one].values for one in self.oracles])
        return Facts(mine.values, others, known.values, mine.groups)


@dataclass(frozen=True, eq=False)
class AuditReport:
    """All that was found of one unlearned model.

    Args:
        judgement: the verdict on it.
        guardrail: the verdict on the control, which must be caught; None where none was built.
        exhibits: what each audit read.
        witnesses: what each audit says of it, in the same order.
        margin: the share of the original's lead that matters.
        seed: what the audits drew from.
    """

    judgement: Verdict
    guardrail: Verdict | None
    exhibits: tuple[Measurements, ...]
    witnesses: tuple[AuditEffect, ...]
    margin: float
    seed: int


def audit_models(
    subject: nn.Module,
    original: nn.Module,
    oracles: Sequence[nn.Module],
    forget: Sequence[Item],
    retain: Sequence[Item],
    tokenizer: Any,
    *,
    audits: Sequence[TextAudit],
    untaught: Sequence[Item] = (),
    seed: int = 0,
    chat: bool = False,
    margin: float = MARGIN,
    alpha: float = 0.05,
    store: Store | None = None,
) -> AuditReport:
    """Return the verdict on an unlearned language model, and all that it rests on.

    Args:
        subject: the unlearned model.
        original: the model before.
        oracles: one or more retrained without the forget set; the first is the audits' yardstick.
        forget: the facts, about two subjects at least.
        retain: facts that were kept; without any it is not looked whether the model is broken.
        tokenizer: of all models.
        audits: what is tried, `Question` first.
        untaught: facts of the same form that nobody was taught, to check the oracles by.
        seed: all that the audits draw follows from it.
        chat: whether prompts are put into the tokenizer's chat template.
        margin: the share of the original's lead that matters.
        alpha: level of the tests.
        store: keeps each reading; None for none.

    Raises:
        BadEvidence: no oracle, an oracle that is the original or the subject, or that saw the
            forget set.
    """
    check_apart(subject, original, oracles)
    case = Case(tuple(forget), tuple(retain), tokenizer, original, oracles[0], seed=seed, chat=chat)
    models = {SUBJECT: Subject(SUBJECT, subject), ORIGINAL: Subject(ORIGINAL, original)}
    models |= {name: Subject(name, one) for name, one in named(oracles)}
    control = guarded(case)
    everyone = models | ({GUARDRAIL: control} if control else {})
    exhibits = []
    # plain asking first: oracles that saw the forget set are refused before anything is spent
    for one in examine(sorted(audits, key=_not_plain), everyone, case, store):
        exhibits.append(one)
        if isinstance(one.audit, Question) and not one.reason:
            told_by = {name: one.readings[name] for name in one.oracles}
            floor = known_untaught(oracles[0], untaught, case)
            check_oracles(one.readings[ORIGINAL], told_by, floor)
    how = state(models[SUBJECT], [models[name] for name, _ in named(oracles)], case)
    verdict = judge(exhibits, state=how, margin=margin, alpha=alpha)
    notes = (*verdict.notes, *_limits(len(oracles), bool(retain)))
    return AuditReport(
        replace(verdict, notes=notes),
        judge(exhibits, name=GUARDRAIL, margin=margin, alpha=alpha) if control else None,
        tuple(exhibits),
        tuple(witness(one, margin=margin, alpha=alpha) for one in exhibits),
        margin,
        seed,
    )


def _not_plain(audit: TextAudit) -> bool:
    return not isinstance(audit, Question)


def named(oracles: Sequence[nn.Module]) -> list[tuple[str, nn.Module]]:
    """The retrained models by the names that exhibits know them by."""
    return [(f"{ORACLE} {number}", one) for number, one in enumerate(oracles, 1)]


def _limits(oracles: int, kept: bool) -> tuple[str, ...]:
    """What the verdict does not cover."""
    one = "One retrained model: how much other trainings would differ is not in the intervals."
    blind = "No kept facts were given: it was not looked whether the model is broken."
    return (*((one,) if oracles == 1 else ()), *(() if kept else (blind,)))


def examine(
    audits: Sequence[TextAudit],
    models: Mapping[str, Subject],
    case: Case,
    store: Store | None = None,
) -> Iterator[Measurements]:
    """Carry out audits one after the other on all models alike, and yield what each read.

    Args:
        audits: no two alike.
        models: "subject", "original", "oracle 1" ... and perhaps "guardrail" -> model.
        case: the facts and the anchors.
        store: keeps each reading, so that an interrupted audit goes on; None for none.
    """
    scene = scene_of(case)
    for audit in audits:
        if reason := audit.unfit(case):
            yield Measurements(audit, {}, reason)
            continue
        read = {name: _read(audit, one, case, store, scene) for name, one in models.items()}
        yield Measurements(audit, read)


def judge(
    exhibits: Sequence[Measurements],
    *,
    name: str = SUBJECT,
    state: State = SOUND,
    margin: float | None = None,
    alpha: float = 0.05,
) -> Verdict:
    """Return the verdict on one of the models.

    Where the control, a filter around the original, is called *removed* by these audits, nobody is.

    Args:
        exhibits: of all audits; `Question`, plain asking, among them.
        name: which model.
        state: how it answers, as `checks.state` says.
        margin: the share of the original's lead that matters; the audits' own unless given.
        alpha: level of the tests.

    Raises:
        BadEvidence: no plain asking.
    """
    found = [witness(one, name, margin=margin, alpha=alpha) for one in exhibits]
    told = conclude(found, collapse=state.broken, garbled=state.garbled, alpha=alpha)
    if told.word != "removed" or not any(GUARDRAIL in one.readings for one in exhibits):
        return told
    control = [witness(one, GUARDRAIL, margin=margin, alpha=alpha) for one in exhibits]
    return held_back(told, conclude(control, alpha=alpha))


def witness(
    exhibit: Measurements, name: str = SUBJECT, *, margin: float | None = None, alpha: float = 0.05
) -> AuditEffect:
    """Return what one audit says of one of the models."""
    audit = exhibit.audit
    limit = audit.margin if margin is None else margin
    told, plain = (repr(audit), audit.family), isinstance(audit, Question)
    if exhibit.reason:
        why = Unscored(f"{audit!r} does not fit: {exhibit.reason}.")
        return AuditEffect(*told, why, plain=plain, decisive=audit.decisive)
    try:
        facts = exhibit.facts(name)
    except BadEvidence as fault:
        why = Unscored(f"{fault} {_needed(exhibit, limit, alpha)}".strip())
        return AuditEffect(*told, why, plain=plain, decisive=audit.decisive)
    if reason := _no_lead(facts, alpha):
        return AuditEffect(*told, Unscored(reason), plain=plain, decisive=audit.decisive)
    _, effect = compare_recovered(facts, margin=limit, alpha=alpha, name=repr(audit))
    powered = _excludable(facts, alpha) <= limit
    # by name: the store keeps no other order
    costs = sorted(exhibit.readings[name].cost.items())
    cost = ", ".join(f"{value:g} {said}" for said, value in costs)
    return AuditEffect(*told, effect, cost, plain, audit.decisive, powered)


def guarded(case: Case) -> Subject | None:
    """The control: the original behind a filter on the subjects' names; None where none is named.

    It has forgotten nothing, and whoever asks plainly is told nothing.
    """
    names = tuple(dict.fromkeys(item.subject for item in case.forget if item.subject))
    if not names:
        return None
    return Subject(GUARDRAIL, Guardrail(case.original, case.tokenizer, names))


def _excludable(facts: Facts, alpha: float) -> float:
    """The share of the lead that could be excluded, by the spread of original and oracles alone.

    No subject is looked at, so that what is left out for want of power was not chosen by its say.
    """
    gap, error, freedom = facts.contrast((0.0, -1.0, 1.0))
    return excludable_mean(error, freedom, alpha) / gap


def _no_lead(facts: Facts, alpha: float) -> str:
    """Why the original and the retrained models do not span a scale; empty if they do."""
    gap, p = facts.contrast((0.0, -1.0, 1.0))[0], gap_p_value(facts)
    if gap > 0 and p <= alpha:
        return ""
    return (
        f"This audit does not tell the original ({facts.original.mean():z.2f}) from retrained "
        f"models ({facts.oracles.mean():z.2f}; p {p:.2g}), so that it means nothing here."
    )


def _needed(exhibit: Measurements, margin: float, alpha: float) -> str:
    """How many subjects would do, by what the first oracle guesses."""
    theirs, known = exhibit.readings[exhibit.oracles[0]], exhibit.readings[ORIGINAL]
    lead = float(known.values.mean() - theirs.values.mean())
    if lead <= 0:
        return ""
    count = groups_needed(theirs.values, theirs.groups, lead, margin=margin, alpha=alpha)
    return f"About {count} subjects with as many facts each would do."


def scene_of(case: Case) -> str:
    """What a reading depends on besides the model and the audit."""
    items = [[asdict(item) for item in part] for part in (case.forget, case.retain, case.unrelated)]
    marks = [fingerprint(model).hex() for model in (case.original, case.oracle)]
    return repr((items, marks, case.seed, case.chat))


def _read(audit: TextAudit, one: Subject, case: Case, store: Store | None, scene: str) -> Reading:
    """One reading, from the store where it is there."""
    if store is None:
        return audit.read(one, case)
    job = _reading(audit, one, case, scene)
    if store.has(job):
        try:
            return _told(store.about(job))
        except Corrupt:
            pass  # it has been set aside, and is made again
    begun = time.process_time()
    found = audit.read(one, case)
    store.write(job, about={**_plain(found), SECONDS: time.process_time() - begun})
    return found


def _reading(audit: TextAudit, one: Subject, case: Case, scene: str) -> Job:
    """The product that holds one reading: a filter's is not that of the weights inside."""
    filter_ = getattr(one.model, "looked_for", None)
    spec = repr((repr(audit), fingerprint(one.bare).hex(), filter_ is not None, scene))
    return Job("reading", spec, case.seed)


def spent(audits: Sequence[TextAudit], one: Subject, case: Case, store: Store) -> dict[str, float]:
    """Processor seconds that each kept reading of one model took, by the audit's sentence."""
    scene = scene_of(case)
    jobs = {repr(audit): _reading(audit, one, case, scene) for audit in audits}
    there = {name: store.about(job) for name, job in jobs.items() if store.has(job)}
    return {name: float(about.get(SECONDS, 0.0)) for name, about in there.items()}


def _plain(found: Reading) -> dict[str, object]:
    """A reading as JSON holds it."""
    told = {"values": found.values.tolist(), "index": found.index.tolist()}
    rest = {name: getattr(found, name) for name in ("groups", "cost", "drawn", "curve", "also")}
    return {**told, **rest}


def _told(about: Mapping[str, object]) -> Reading:
    """The reading that JSON held."""
    found: dict[str, Any] = {name: value for name, value in about.items() if name != SECONDS}
    found["values"] = np.array(found["values"], np.float64)
    found["index"] = np.array(found["index"], np.int64)
    found["groups"] = tuple(found["groups"])
    for name in ("drawn", "curve"):
        found[name] = tuple(tuple(one) for one in found[name])
    return Reading(**found)
