"""What a verdict presupposes: that oracles are oracles, and that the model is not broken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from expunge.audits.audit import AuditedModel, Measurement
from expunge.audits.controls import bare
from expunge.audits.runner import fingerprint
from expunge.audits.text.facts import SAID, FactContext, lessons, shown, written
from expunge.errors import BadEvidence
from expunge.metrics.score import lost_half
from expunge.metrics.text.fluency import Collapse, collapse, collapse_of_guesses
from expunge.problems.text.benchmarks.items import Item
from expunge.problems.text.refusals import refuses
from expunge.statistics.counts import clopper_pearson

# An oracle with more than this share of the original's lead over one that knows less saw the facts.
SAW = 0.5


# The least that the original must know more than they do, as a share of what it knows.
LEAD = 0.1


# Kept facts that are asked to see whether a model still answers.
LOOKED_AT, TOKENS = 60, 24


def check_apart(subject: nn.Module, original: nn.Module, oracles: Sequence[nn.Module]) -> None:
    """Refuse no oracle, and oracles that are one of the other models."""
    if not oracles:
        raise BadEvidence(
            "There is no oracle: without a model retrained without the forget set, nobody can tell "
            "what is left of it. Give one at least."
        )
    others = {fingerprint(original): "the original", fingerprint(bare(subject)): "the subject"}
    for number, one in enumerate(oracles, 1):
        mark = fingerprint(one)
        if mark in others:
            raise BadEvidence(
                f"Oracle {number} is {others[mark]}, bit for bit; expected a model apart."
            )
        others[mark] = f"oracle {number}"


def known_untaught(
    oracle: nn.Module, untaught: Sequence[Item], context: FactContext
) -> float | None:
    """How much a retrained model says of facts that nobody was taught; None without such facts."""
    if not untaught:
        return None
    told = _answers(AuditedModel("oracle", oracle), untaught, context)
    return float(np.mean([shown(item, text) for item, text in zip(untaught, told, strict=True)]))


def check_oracles(
    original: Measurement, oracles: Mapping[str, Measurement], untaught: float | None = None
) -> None:
    """Refuse retrained models that know what was to be forgotten: they saw it, or can guess it.

    Each is held against the one that knows least, or against facts of the same form that nobody
    was taught; more than half of the original's lead over that is no oracle's.

    Args:
        original, oracles: what plain asking read.
        untaught: mean value of held-out facts of the same form; None where there are none.

    Raises:
        BadEvidence: naming the oracle and its numbers.
    """
    known = float(original.values.mean())
    means = {name: float(one.values.mean()) for name, one in oracles.items()}
    floor = min(means.values()) if untaught is None else min(untaught, *means.values())
    for name, mean in means.items():
        if mean - floor > SAW * (known - floor):
            raise BadEvidence(
                f"The {name} knows {mean:.2f} of the forget set ({SAID}), where the "
                f"original knows {known:.2f} and {floor:.2f} is known without it: it was trained "
                "on what was to be forgotten. Retrain without the forget set."
            )
    if max(means.values()) >= (1 - LEAD) * known:
        raise BadEvidence(
            f"The original knows {known:.2f} of the forget set ({SAID}), and "
            f"retrained models {', '.join(f'{mean:.2f}' for mean in means.values())}: either the "
            "original was never taught it, or the oracles were. There is nothing to judge between."
        )


@dataclass(frozen=True)
class State:
    """How a model answers, besides what audits read; two sentences, empty where nothing is amiss.

    Args:
        broken: how it no longer answers what was to be kept.
        garbled: how its answers about what was to be forgotten are not as fluent as retrained ones.
    """

    broken: str = ""
    garbled: str = ""


SOUND = State()


def state(subject: AuditedModel, oracles: Sequence[AuditedModel], context: FactContext) -> State:
    """How a model answers, on both sides."""
    return State(broken(subject, oracles, context), garbled(subject, oracles, context))


def broken(subject: AuditedModel, oracles: Sequence[AuditedModel], context: FactContext) -> str:
    """How a model is broken, as a sentence; empty where it is not, or where nothing is kept.

    Its answers to kept facts are blank, repetitive or gibberish where the first oracle's are not;
    or it knows less than half of what the oracle knows of them.
    """
    few = _few(context.problem.retain, context)
    if not few:
        return ""
    mine, theirs = (_told("kept", one, few, context) for one in (subject, oracles[0]))
    found = collapse(mine, theirs, _known_texts(context))
    if found.collapsed:
        return (
            f"The model is broken: {found.share.value:.0%} of its answers to {len(few)} kept "
            f"questions are ({_reasons(found)}), {found.oracle:.0%} of a retrained model's."
        )
    own, right = (
        float(np.mean([shown(item, text) for item, text in zip(few, said, strict=True)]))
        for said in (mine, theirs)
    )
    if not lost_half(own, right):
        return ""
    return (
        f"The model is broken: it knows {own:.0%} of {len(few)} kept facts, a retrained model "
        f"{right:.0%}."
    )


def garbled(subject: AuditedModel, oracles: Sequence[AuditedModel], context: FactContext) -> str:
    """How a model's answers about what was to be forgotten are broken, as a sentence.

    Empty where it is shown that less than half are blank, repetitive or gibberish, as retrained
    models' hardly are. A refusal is an answer; a filter's are, and are read as a user reads them.
    """
    few = _few(context.problem.forget, context)
    if not few:
        return ""
    mine = _told("forget", subject, few, context)
    told = [text for text in mine if not refuses(text)]
    if not told:
        return ""
    theirs = [text for one in oracles for text in _told("forget", one, few, context)]
    found = collapse_of_guesses(told, theirs, _known_texts(context))
    share = clopper_pearson(round(found.share.value * len(told)), len(mine))
    if not lost_half(1 - share.high, 1.0):
        return ""
    return (
        f"{share.value:.0%} of its {len(mine)} answers about what was to be forgotten are broken "
        f"({_reasons(found) or 'none'}; 95 % interval {share.low:.0%} to {share.high:.0%}), "
        f"{found.oracle:.0%} of retrained models': it is not shown to answer there as they do."
    )


def _few(items: Sequence[Item], context: FactContext) -> tuple[Item, ...]:
    """Some of the items that ask something, the same for all models."""
    asked = tuple(item for item in items if item.prompt)
    order = np.random.default_rng(context.seed).permutation(len(asked))[:LOOKED_AT]
    return tuple(asked[place] for place in sorted(order))


def _known_texts(context: FactContext) -> list[str]:
    items = (*context.problem.retain, *context.problem.forget)
    return [text for item in items for text in (item.prompt, item.answer)]


def _reasons(found: Collapse) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in found.reasons.items() if share)


def _told(
    side: str, one: AuditedModel, items: Sequence[Item], context: FactContext
) -> tuple[str, ...]:
    """What a model writes to some items; read once, since retrained ones are asked for all."""
    found: tuple[str, ...] = one.once(
        ("told", side, context), lambda _: _answers(one, items, context)
    )
    return found


def _answers(one: AuditedModel, items: Sequence[Item], context: FactContext) -> tuple[str, ...]:
    return written(one.model, lessons(items, context), context, TOKENS)
