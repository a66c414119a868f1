"""The verdicts on the methods of an experiment as rows: words, counts, and what audits found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from expunge.audits.verdict import AuditEffect
from expunge.errors import BadSentence, did_you_mean, printable
from expunge.metrics.score import Unscored

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
