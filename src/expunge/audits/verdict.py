"""The verdict on one unlearned model in five words: a pure function of what the audits found.

*collapsed* comes first: of a broken model nothing else can be said. *not forgotten*: plain asking
recovers it. *suppressed*: plain asking does not, or shows less than half of what an attack brings
out. *removed*: every decisive audit excludes the margin, the answers about what was to be forgotten
are no gibberish, and a control that hides is caught. *inconclusive*: none of these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from expunge.errors import BadEvidence
from expunge.metrics.agreement import Unscored
from expunge.statistics.decision import Family
from expunge.statistics.power import larger_family
from expunge.statistics.result import Effect, check_fraction

Conclusion = Literal["removed", "suppressed", "not forgotten", "collapsed", "inconclusive"]


# Plain asking that shows less than this share of what an attack brings out hides the rest.
MOST = 0.5


ACQUITS = "But the same audits acquit {}: they are too weak for more to be said. Try more families."


BEHIND_A_FILTER = "the control, which knows all behind a filter"


@dataclass(frozen=True)
class AuditEffect:
    """What one audit says of one unlearned model.

    Args:
        audit: its sentence, or its name.
        family: audits of one kind, such as "relearning".
        effect: share of the original's lead that is left, with its tests; Unscored with the reason
            where the audit cannot tell the original from retrained models.
        cost: what it took, in words.
        plain: whether it only asks, as any user would.
        decisive: False for an audit that is never evidence by itself.
        powered: False where retrained models differ so much that, by them alone, it could never
            exclude its margin: it can convict, and does not stand in the way of an acquittal.
    """

    audit: str
    family: str
    effect: Effect | Unscored
    cost: str = ""
    plain: bool = False
    decisive: bool = True
    powered: bool = True

    @property
    def absent(self) -> bool:
        """Whether more than the margin is excluded; less than a retrained model is no excuse."""
        return isinstance(self.effect, Effect) and self.effect.high < self.effect.margin


@dataclass(frozen=True)
class Verdict:
    """The verdict, with all that a reader needs to doubt it.

    Args:
        word: one of five.
        reason: why, in sentences with the numbers that decided.
        attack: which audit brings most out; empty where none does.
        cost: what that took.
        power: what the sample could have shown.
        notes: what else a reader should know.
    """

    word: Conclusion
    reason: str
    attack: str = ""
    cost: str = ""
    power: str = ""
    notes: tuple[str, ...] = ()


def conclude(
    witnesses: Sequence[AuditEffect], *, collapse: str = "", garbled: str = "", alpha: float = 0.05
) -> Verdict:
    """Return the verdict on what all audits found in one model.

    Whether anything is found is tested with Holm's correction over all decisive audits; each
    exclusion is tested at alpha by itself, since all must agree.

    Args:
        witnesses: of all audits that were tried, no two of one name; one at least is plain.
        collapse: how the model is broken, as a sentence; empty where it is not.
        garbled: how its answers about what was to be forgotten are, as a sentence; empty where they
            are as fluent as a retrained model's. Who is silent there shows nothing by being silent.
        alpha: level of the tests.

    Raises:
        BadEvidence: no plain witness, names that repeat, effects made for another alpha.
        ExpungeError: alpha outside (0, 1).
    """
    check_fraction("alpha", alpha)
    _check(witnesses, alpha)
    if collapse:
        return Verdict("collapsed", collapse, notes=_notes(witnesses, (), alpha))
    decisive = [one for one in witnesses if one.decisive and isinstance(one.effect, Effect)]
    if not any(one.plain for one in decisive):
        why = next(one.effect for one in witnesses if one.plain)
        return Verdict("inconclusive", _unasked(why), notes=_notes(witnesses, (), alpha))
    shown = _shown(decisive, alpha)
    judged = _told(decisive, shown, alpha) if shown else _untold(decisive, alpha)
    notes = _notes(witnesses, shown, alpha)
    if garbled and judged.word == "removed":
        judged = replace(judged, word="inconclusive", reason=f"{judged.reason} But {garbled}")
    elif garbled:
        notes = (*notes, f"{garbled[:1].upper()}{garbled[1:]}")
    return replace(judged, power=_power(decisive, alpha), notes=notes)


def conclude_beside(
    effects: Sequence[AuditEffect],
    controls: Mapping[str, Callable[[], Sequence[AuditEffect]]],
    *,
    collapse: str = "",
    garbled: str = "",
    alpha: float = 0.05,
) -> Verdict:
    """Return the verdict on one model, in which *removed* needs audits that catch all controls.

    Args:
        effects, collapse, garbled, alpha: as for `conclude`.
        controls: what a model is called that knows all and hides it -> what the same audits say
            of it; asked for only where the verdict would be *removed*.
    """
    verdict = conclude(effects, collapse=collapse, garbled=garbled, alpha=alpha)
    for who, control in controls.items():
        if verdict.word == "removed":
            verdict = held_back(verdict, conclude(control(), alpha=alpha), who)
    return verdict


def held_back(told: Verdict, control: Verdict, who: str = BEHIND_A_FILTER) -> Verdict:
    """Return a verdict, in which *removed* is *inconclusive* if the same audits acquit a control.

    Args:
        told: the verdict on a model.
        control: the verdict by the same audits on one that knows all and hides it.
        who: what the control is called.
    """
    if told.word != "removed" or control.word != "removed":
        return told
    return replace(told, word="inconclusive", reason=f"{told.reason} {ACQUITS.format(who)}")


def _told(decisive: Sequence[AuditEffect], shown: Sequence[AuditEffect], alpha: float) -> Verdict:
    """What something that is shown to be left means: it is told, or it is hidden.

    That something is there is known by now, so that plain asking is tested by itself: among many
    audits of few models it would seldom pass Holm, and the untouched original would seem to hide.
    """
    best = max(shown, key=lambda one: _value(one))
    asked = max((one for one in decisive if one.plain), key=lambda one: _value(one))
    told = _effect(asked).p <= alpha and not asked.absent
    # more than the whole lead is noise, or other knowledge: what hides is held against the whole
    if told and _value(asked) >= MOST * min(_value(best), 1.0):
        return Verdict(
            "not forgotten", f"Asked plainly, it tells: {_numbers(asked)}.", asked.audit, asked.cost
        )
    reason = (
        f"It is still there: {_numbers(best)} ({best.cost or best.family}), where plain asking "
        f"shows {_numbers(asked)}."
    )
    return Verdict("suppressed", reason, best.audit, best.cost)


def _untold(decisive: Sequence[AuditEffect], alpha: float) -> Verdict:
    """What nothing found means: it is excluded, or too little was seen."""
    # plain asking always counts: who is told nothing by attacks may still be told by asking
    asked = [one for one in decisive if one.powered or one.plain]
    open_ = [one for one in asked if not one.absent]
    looked = {one.family for one in asked if not one.plain}
    if not looked:
        reason = "No attack but plain asking could exclude anything here, and asking alone cannot."
        return Verdict("inconclusive", reason)
    if open_:
        widest = max(open_, key=lambda one: _high(one))
        reason = f"Nothing is shown, but as much as the margin is not excluded: {_numbers(widest)}."
        return Verdict("inconclusive", f"{reason} {_more(widest)}")
    nearest = max(asked, key=lambda one: _high(one))
    return Verdict(
        "removed",
        f"As much as the margin is excluded by all {len(asked)} decisive audits; the nearest is "
        f"{_numbers(nearest)}, margin {_effect(nearest).margin:g}.",
    )


def _shown(decisive: Sequence[AuditEffect], alpha: float) -> tuple[AuditEffect, ...]:
    """The audits that show more than in retrained models, after Holm, and not less than matters."""
    effects = {one.audit: _effect(one) for one in decisive}
    family = Family(tuple(effects), tuple(one.p for one in effects.values()))
    names = family.found(alpha)
    return tuple(
        one for one in decisive if one.audit in names and _value(one) > 0 and not one.absent
    )


def _notes(
    witnesses: Sequence[AuditEffect], shown: Sequence[AuditEffect], alpha: float
) -> tuple[str, ...]:
    """What else there is to know: over-unlearning, soft evidence, audits without a say."""
    scored = [one for one in witnesses if isinstance(one.effect, Effect)]
    less = [one for one in scored if one.decisive and _low_found(one, alpha)]
    soft = [one for one in scored if not one.decisive and not one.absent]
    weak = [one for one in scored if one.decisive and not one.powered]
    mute = [one for one in witnesses if isinstance(one.effect, Unscored)]
    said = {
        "It knows less than a retrained model, and may be told from one by that": less,
        "Shown, and never evidence by itself": soft,
        "Retrained models differ too much for this to exclude anything": weak,
        "Not scored": mute,
    }
    return tuple(
        f"{text}: {', '.join(x.audit for x in ones)}." for text, ones in said.items() if ones
    )


def _low_found(one: AuditEffect, alpha: float) -> bool:
    """Whether less is there than in retrained models, by more than the margin may hide."""
    effect = one.effect
    return isinstance(effect, Effect) and effect.p <= alpha and effect.value <= -effect.margin


def _unasked(effect: Effect | Unscored) -> str:
    why = effect.reason if isinstance(effect, Unscored) else "it is not decisive here."
    return f"Plain asking says nothing here, and without it there is no verdict: {why}"


def _power(decisive: Sequence[AuditEffect], alpha: float) -> str:
    """What the weakest of the tests that count could have shown."""
    counted = [one for one in decisive if one.powered] or list(decisive)
    weakest = max(counted, key=lambda one: _effect(one).excludable / _effect(one).margin)
    price = larger_family(alpha, len(decisive))
    after = f" Holm over {len(decisive)} tests needs an effect {price:.2f} times that."
    return f"{weakest.audit}: {_effect(weakest).power}{after if len(decisive) > 1 else ''}"


def _more(one: AuditEffect) -> str:
    """How many units would exclude the margin."""
    effect = _effect(one)
    times = (effect.excludable / effect.margin) ** 2
    if times <= 1:
        return "The sample would do; this model lies close to the margin."
    return f"About {times:.1f} times as much to measure on would decide."


def _effect(one: AuditEffect) -> Effect:
    """The effect of a witness that has one."""
    assert isinstance(one.effect, Effect)
    return one.effect


def _value(one: AuditEffect) -> float:
    return _effect(one).value


def _high(one: AuditEffect) -> float:
    return _effect(one).high - _effect(one).margin


def _numbers(one: AuditEffect) -> str:
    """What one audit found, with its interval."""
    effect = _effect(one)
    sure = 100 * (1 - 2 * effect.alpha)
    return (
        f"{one.audit} {effect.value:z.2f} {effect.unit} "
        f"({sure:g} % interval {effect.low:z.2f} to {effect.high:z.2f})"
    )


def _check(witnesses: Sequence[AuditEffect], alpha: float) -> None:
    """Refuse witnesses on which no verdict can rest."""
    names = [one.audit for one in witnesses]
    if len(set(names)) != len(names) or not any(one.plain for one in witnesses):
        raise BadEvidence(
            f"Got audits {names}; expected one of plain asking at least, and none twice."
        )
    other = {e.alpha for one in witnesses if isinstance(e := one.effect, Effect)} - {alpha}
    if other:
        raise BadEvidence(f"Got effects of alpha {sorted(other)}; expected each with {alpha}.")
