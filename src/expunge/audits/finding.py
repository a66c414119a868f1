"""What audits found: an effect with its power, as records and as the rows of a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from expunge.audits.audit import Audit
from expunge.audits.verdict import AuditEffect
from expunge.errors import BadEvidence, BadSentence, did_you_mean, printable
from expunge.metrics.agreement import Unscored
from expunge.statistics.counts import clopper_pearson
from expunge.statistics.decision import Decision, Family, decide
from expunge.statistics.paired import Facts
from expunge.statistics.recovered import (
    Contrasts,
    Groups,
    compare_groups,
    compare_recovered,
    gap_p_value,
)
from expunge.statistics.result import Effect, Interval


@dataclass(frozen=True)
class Finding:
    """What one audit says of one group of models.

    Args:
        audit: its sentence.
        unit: what the values count.
        more: what a larger value says of a model.
        subject, oracle, original: values, one a model; equal models count once.
        recovered: (subject - oracle) / (original - oracle), 0 as retrained and 1 as the original,
            with its interval; Unscored for an audit that originals are no anchor of.
        effect: what the test against the retrained models gave, with its power.
        verdict: excluded, found or inconclusive; Unscored with the reason where the audit cannot
            say anything.
    """

    audit: str
    unit: str
    more: str
    subject: tuple[float, ...]
    oracle: tuple[float, ...]
    original: tuple[float, ...]
    recovered: Interval | Unscored
    effect: Effect | Unscored
    verdict: Decision | Unscored

    @property
    def word(self) -> str:
        """The verdict in one word; "unscored" where there is none."""
        return self.verdict.word if isinstance(self.verdict, Decision) else "unscored"

    @property
    def reason(self) -> str:
        """Why, in a sentence."""
        return self.verdict.reason


Values = tuple[float, ...]


def judge(
    audit: Audit[Any],
    subject: Sequence[float],
    oracle: Sequence[float],
    original: Sequence[float],
    *,
    grain: float = 0.0,
    margin: float | None = None,
    alpha: float = 0.05,
) -> Finding:
    """Return what an audit found from the values of all models; no model is needed.

    Args:
        audit: which.
        subject, oracle, original: one value a model: unlearned, retrained, untouched.
        grain: what values are rounded to, `audit.grain(scene)`.
        margin: the smallest effect that matters; the audit's own unless given.
        alpha: level of the tests.

    Raises:
        BadEvidence: no value in a group, fewer than two oracles, values that are not finite.
    """
    limit = audit.margin if margin is None else margin
    values = _plain(subject), _plain(oracle), _plain(original)
    if len(values[1]) > 1 and len(set(values[1])) == 1 and grain == 0:
        return _unscored(audit, values, _no_spread(values[1]))
    recovered, effect = compare(audit, Groups(*values, grain), margin=limit, alpha=alpha)
    if isinstance(effect, Unscored):
        return _unscored(audit, values, effect.reason)
    return _finding(audit, values, recovered, effect, _sided(audit, effect, alpha))


def compare(
    audit: Audit[Any], sample: Groups | Facts, *, margin: float, alpha: float
) -> tuple[Interval | Unscored, Effect | Unscored]:
    """Return the share of the gap that is left, and the effect that a verdict rests on.

    Args:
        audit: which.
        sample: values of several models, or of several facts.
        margin: the smallest effect that matters.
        alpha: level of the tests.

    Returns:
        (share of the gap with its interval, effect), 0 as retrained models and 1 as the original;
        Unscored where the audit does not tell these two apart.
    """
    if not audit.anchored and isinstance(sample, Groups):
        apart = compare_groups(
            sample, margin=margin, alpha=alpha, unit=audit.unit, name=repr(audit)
        )
        return Unscored("Originals are no anchor of this audit."), apart
    if reason := _no_gap(audit, sample, alpha):
        return Unscored(reason), Unscored(reason)
    return compare_recovered(sample, margin=margin, alpha=alpha, name=repr(audit))


def together(findings: Sequence[Finding], *, alpha: float = 0.05) -> Decision | Unscored:
    """Return the verdict on several audits of the same models, with Holm's correction.

    Audits that are unscored are left out.

    Raises:
        BadEvidence: no findings, or two of the same audit.
    """
    effects = [one.effect for one in findings if isinstance(one.effect, Effect)]
    if effects or not findings:
        return decide(effects, alpha=alpha)
    return Unscored("No audit of these can tell originals from retrained models here.")


def _no_gap(audit: Audit[Any], sample: Contrasts, alpha: float) -> str:
    """Why originals and retrained models do not span a scale; empty if they do."""
    original, oracle = (sample.contrast(one)[0] for one in ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0)))
    gap, p = sample.contrast((0.0, -1.0, 1.0))[0], gap_p_value(sample)
    means = f"originals score {original:z.3g} {audit.unit}, retrained models {oracle:z.3g}"
    if p > alpha or gap == 0:
        return (
            f"This audit does not tell originals from retrained models: {means} (p {p:.2g}). "
            "What it says of unlearned ones would mean nothing."
        )
    if gap * (-1 if audit.more == "knows less" else 1) < 0:
        return f"This audit calls originals the ones that know less: {means}. It is void here."
    return ""


def _no_spread(oracle: Values) -> str:
    return (
        f"All {len(oracle)} retrained models score {oracle[0]:g}, so that their spread is not "
        "known, and nothing can be held against it."
    )


def _sided(audit: Audit[Any], effect: Effect, alpha: float) -> Decision:
    """The verdict, with a word on which side of the retrained models was found."""
    verdict = decide([effect], alpha=alpha)
    if verdict.word != "found":
        return verdict
    above = effect.value > 0
    if audit.anchored:
        told = "More is left than in retrained models." if above else (
            "Less is there than in retrained models: over-unlearning, which can be seen too."
        )  # fmt: skip
    else:
        told = f"{'More' if above else 'Less'} than in retrained models."
    return replace(verdict, reason=f"{verdict.reason} {told}")


def _finding(
    audit: Audit[Any],
    values: tuple[Values, Values, Values],
    recovered: Interval | Unscored,
    effect: Effect | Unscored,
    verdict: Decision | Unscored,
) -> Finding:
    subject, oracle, original = values
    return Finding(
        repr(audit), audit.unit, audit.more, subject, oracle, original, recovered, effect, verdict
    )


def _unscored(audit: Audit[Any], values: tuple[Values, Values, Values], reason: str) -> Finding:
    why = Unscored(reason)
    return _finding(audit, values, why, why, why)


def unfit(audit: Audit[Any], reason: str) -> Finding:
    """The finding of an audit that makes no sense on a problem, with no model measured."""
    return unscored(audit, f"{audit!r} does not fit the problem: {reason}.")


def unscored(audit: Audit[Any], reason: str) -> Finding:
    """The finding of an audit that could not be carried out, with a sentence that says why."""
    return _unscored(audit, ((), (), ()), reason)


def _plain(group: Sequence[float]) -> Values:
    return tuple(map(float, group))


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


Record = Mapping[str, Any]


EFFECT = ("value", "low", "high", "p", "margin", "detectable", "excludable")


def line_of(said: AuditEffect, unit: str) -> dict[str, Any]:
    """What one audit says of one method: how much of the original's lead is left, or why not."""
    names = ("audit", "family", "plain", "decisive", "powered", "cost")
    line = {"unit": unit, **{name: getattr(said, name) for name in names}}
    if isinstance(said.effect, Unscored):
        return {**line, "reason": said.effect.reason}
    return {**line, "left": {key: float(getattr(said.effect, key)) for key in EFFECT}}


def chosen(
    there: Iterable[str],
    only: Sequence[str],
    experiment: str,
    lacking: Callable[[str], str],
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the rows that have a model, controls first, and why others have none.

    Args:
        there: names of all controls and methods; a name that comes again counts once.
        only: those that are asked for; all when empty.
        experiment: what the experiment is called.
        lacking: says why a row has no model; empty where it has.

    Raises:
        BadSentence: a name that is not there.
    """
    known = list(dict.fromkeys(there))
    for name in only:
        if name not in known:
            hint = did_you_mean(name, known)
            raise BadSentence(f"--methods: no method {name!r} in {experiment}.{hint}")
    reasons = {name: lacking(name) for name in known if not only or name in only}
    absent = {name: why for name, why in reasons.items() if why}
    return tuple(name for name in reasons if name not in absent), absent


def row(name: str, members: Sequence[Record], control: bool) -> dict[str, Any]:
    """One method over all members: words with their counts, and what each audit found."""
    words = [str(one["word"]) for one in members]
    counts = {word: words.count(word) for word in dict.fromkeys(words)}
    return {
        "name": name, "control": control, "words": counts, "members": list(members),
        "left": _over(members),
    }  # fmt: skip


def _over(members: Sequence[Record]) -> dict[str, Any]:
    """Per audit the share of the lead that is left, over members: mean, least, most, and n."""
    found: dict[str, list[float]] = {}
    for member in members:
        for line in member["lines"]:
            if "left" in line:
                found.setdefault(line["audit"], []).append(line["left"]["value"])
    return {
        audit: {"mean": float(np.mean(v)), "least": min(v), "most": max(v), "n": len(v)}
        for audit, v in found.items()
    }


REDACTED = "[redacted]"


LONGEST = 300


def inert(text: str) -> str:
    """A foreign text on one line, cut, without characters that act on a terminal."""
    plain = printable(text)
    return plain if len(plain) <= LONGEST else plain[:LONGEST] + " ..."
