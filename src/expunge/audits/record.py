"""What audits found in one method, as a record that JSON can hold; from values, without a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from expunge.audits.audit import Audit
from expunge.audits.finding import Finding, judge, together, unscored
from expunge.errors import BadEvidence
from expunge.metrics.score import Unscored
from expunge.statistics.counts import clopper_pearson
from expunge.statistics.decision import Decision, Family
from expunge.statistics.result import Effect, Interval

ALPHA = 0.05


REPETITIONS = 40


# Retrained models on each side of a false-alarm trial; fewer know no spread.
FEWEST = 3


@dataclass(frozen=True)
class AuditQuestion:
    """One audit with the values of all models, or why there are none.

    Args:
        audit: which.
        subject, oracle, original: one value a model; equal models once.
        grain: what values are rounded to.
        reason: why the audit could not be carried out; empty where it was.
    """

    audit: Audit[Any]
    subject: tuple[float, ...] = ()
    oracle: tuple[float, ...] = ()
    original: tuple[float, ...] = ()
    grain: float = 0.0
    reason: str = ""


def found(asked: AuditQuestion, *, margin: float | None = None, alpha: float = ALPHA) -> Finding:
    """The finding of one audit; what cannot be judged is unscored with the reason.

    Args:
        asked: the audit with all values.
        margin: the smallest effect that matters; the audit's own unless given.
        alpha: level of the tests.
    """
    if asked.reason:
        return unscored(asked.audit, asked.reason)
    values = asked.subject, asked.oracle, asked.original
    try:
        finding = judge(asked.audit, *values, grain=asked.grain, margin=margin, alpha=alpha)
    except BadEvidence as fault:
        return unscored(asked.audit, str(fault))
    numbers = [one for part in (finding.recovered, finding.effect) for one in _numbers(part)]
    if not all(map(math.isfinite, numbers)):
        return unscored(asked.audit, "Originals and retrained models hardly differ: no interval.")
    return finding


def recorded(asked: Sequence[AuditQuestion]) -> dict[str, Any]:
    """All findings on one method, the verdict on them together, and which of them are shown."""
    findings = [found(one) for one in asked]
    adjusted = family(findings)
    return {
        "findings": [_told(one, adjusted.get(one.audit)) for one in findings],
        "verdict": _verdict(together(findings, alpha=ALPHA)),
        "shown": shown(findings),
        "scored": len(adjusted),
    }


def family(findings: Sequence[Finding]) -> dict[str, float]:
    """P-values after Holm over all scored audits, by sentence."""
    scored = {one.audit: one.effect.p for one in findings if isinstance(one.effect, Effect)}
    return Family(tuple(scored), tuple(scored.values())).adjusted if scored else {}


def shown(findings: Sequence[Finding]) -> list[str]:
    """The audits that find a difference after Holm and do not exclude the margin."""
    adjusted = family(findings)
    return [
        one.audit
        for one in findings
        if isinstance(one.effect, Effect)
        and adjusted[one.audit] <= ALPHA
        and not one.effect.excluded
    ]


def alarms(retrained: Sequence[AuditQuestion], rng: np.random.Generator) -> dict[str, Any]:
    """How often the audits, read together, find something between two halves of retrained models.

    Args:
        retrained: audits with held-out retrained models as subjects.
        rng: draws the halves.

    Returns:
        The rate with its exact 95 % interval, the models on each side, and for each audit the
        share of repetitions in which it alone said *found*; or a reason.
    """
    carried = [one for one in retrained if not one.reason]
    half = min((len(one.subject + one.oracle) // 2 for one in carried), default=0)
    if not carried:
        return {"reason": "No audit could be carried out on retrained models."}
    if half < FEWEST:
        return {"reason": f"{2 * half} retrained models are too few; {2 * FEWEST} is the least."}
    trials = [_trial(carried, half, rng) for _ in range(REPETITIONS)]
    rate = clopper_pearson(sum(bool(shown(one)) for one in trials), REPETITIONS)
    by_audit = {
        repr(one.audit): sum(trial[place].word == "found" for trial in trials) / REPETITIONS
        for place, one in enumerate(carried)
    }
    ends = {"value": rate.value, "low": rate.low, "high": rate.high, "n": REPETITIONS}
    return {"rate": ends, "models": half, "by_audit": by_audit}


def _trial(carried: Sequence[AuditQuestion], half: int, rng: np.random.Generator) -> list[Finding]:
    """The findings on one half of the retrained models, held against the other half."""
    order = rng.permutation(2 * half)
    findings = []
    for one in carried:
        pool = one.oracle + one.subject
        mine, theirs = (tuple(pool[i] for i in side) for side in (order[:half], order[half:]))
        findings.append(found(AuditQuestion(one.audit, mine, theirs, one.original, one.grain)))
    return findings


def _told(finding: Finding, adjusted: float | None) -> dict[str, Any]:
    """One finding as plain numbers and words."""
    effect = finding.effect
    told: dict[str, Any] = {
        "audit": finding.audit,
        "unit": finding.unit,
        "more": finding.more,
        "word": finding.word,
        "reason": finding.reason,
        "subject": list(finding.subject),
        "oracle": list(finding.oracle),
        "original": list(finding.original),
    }
    if isinstance(finding.recovered, Interval):
        told["recovered"] = _fields(finding.recovered, ("value", "low", "high", "n"))
    if isinstance(effect, Effect):
        kept = ("value", "low", "high", "p", "margin", "unit", "detectable", "excludable")
        told["effect"] = {**_fields(effect, kept), "adjusted": adjusted, "n": list(effect.n)}
        told["power"] = effect.power
    return told


def _fields(thing: object, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(thing, name) for name in names}


def _verdict(verdict: Decision | Unscored) -> dict[str, str]:
    if isinstance(verdict, Unscored):
        return {"word": "unscored", "reason": verdict.reason, "power": ""}
    return {"word": verdict.word, "reason": verdict.reason, "power": verdict.power}


def _numbers(part: Interval | Effect | Unscored) -> list[float]:
    names = ("value", "low", "high", "detectable", "excludable")
    return [float(getattr(part, name)) for name in names if hasattr(part, name)]
