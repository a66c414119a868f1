"""What an audit found: values of every model, what they recover, and a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from expunge.audits.audit import Audit
from expunge.metrics.score import Unscored
from expunge.statistics.decision import Decision, decide
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
