"""The card of an audit: verdict, why, a line an audit, and a few answers; as text, JSON and HTML.

Prompts and answers are foreign text: signs that act on a terminal or a page are written out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from expunge.audits.runner import ORIGINAL, SUBJECT
from expunge.audits.text.lens import LayerMap, layer_map, shares
from expunge.audits.text.lm_verdict import GUARDRAIL, AuditReport
from expunge.audits.verdict_rows import REDACTED, inert
from expunge.metrics.score import Unscored
from expunge.report.templates import filled
from expunge.statistics.result import Effect

if TYPE_CHECKING:
    from rich.console import Group


EXAMPLES = 3


@dataclass(frozen=True)
class CardLine:
    """One audit: values of all models, and how much of the lead is left.

    Args:
        family, audit, unit: which.
        values: name of a model -> its mean value.
        left: share of the original's lead with its interval, in words; empty where there is none.
        unscored: why there is none; empty where there is one.
        cost: what it took.
        decisive: whether it may be evidence by itself.
        drawn: (prompt, answer) of the subject.
        share: the same as a number; None where there is none.
    """

    family: str
    audit: str
    unit: str
    values: dict[str, float]
    left: str
    unscored: str
    cost: str
    decisive: bool
    drawn: tuple[tuple[str, str], ...]
    share: float | None = None


@dataclass(frozen=True)
class VerdictCard:
    """What is printed of an audit; `drawn` for a terminal, `plain` for JSON."""

    word: str
    reason: str
    attack: str
    cost: str
    power: str
    notes: tuple[str, ...]
    guardrail: str
    lines: tuple[CardLine, ...]
    layers: LayerMap
    margin: float
    seed: int

    def plain(self) -> dict[str, Any]:
        """All of it, as JSON holds it."""
        lines = [{**vars(line), "drawn": [list(one) for one in line.drawn]} for line in self.lines]
        layers = {name: list(part) for name, part in vars(self.layers).items()}
        return {**vars(self), "notes": list(self.notes), "lines": lines, "layers": layers}

    def drawn(self) -> Group:
        """All of it for a terminal; no text is read as markup."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(title=None, show_lines=False)
        heads = ("family", "audit", "subject", "oracle", "original", "guardrail", "left", "cost")
        for head in heads:
            table.add_column(head, overflow="fold")
        for line in self.lines:
            name = line.audit if line.decisive else f"{line.audit} (never evidence by itself)"
            numbers = [
                _number(line.values, one) for one in (SUBJECT, "oracle", ORIGINAL, GUARDRAIL)
            ]
            cells = [
                line.family,
                name,
                *numbers,
                line.left or f"unscored: {line.unscored}",
                line.cost,
            ]
            table.add_row(*(Text(cell) for cell in cells))
        first = Text(f"Verdict: {self.word}", style="bold")
        said = [first, Text(self.reason), Text(f"Margin: {self.margin:g} of the original's lead.")]
        said += [Text(self.power)] if self.power else []
        said += [Text(f"Control, the original behind a filter: {self.guardrail}.")]
        said += [Text(f"Note: {note}") for note in self.notes]
        return Group(*said, table, *(Text(one) for one in self._examples()))

    def _examples(self) -> list[str]:
        """What the subject wrote, for the audit that decided, or else for plain asking."""
        chosen = next((one for one in self.lines if one.audit == self.attack and one.drawn), None)
        shown = chosen or next((one for one in self.lines if one.drawn), None)
        return [] if shown is None else [
            f"{shown.audit}\n  asked: {prompt}\n  wrote: {answer}" for prompt, answer in shown.drawn
        ]  # fmt: skip


def card(found: AuditReport, *, redact: bool = False) -> VerdictCard:
    """Return what is printed of an audit.

    Args:
        found: what `audit_models` gave.
        redact: leave prompts and answers out.
    """
    judged = found.verdict
    lines = tuple(_line(found, place, redact) for place in range(len(found.measured)))
    control = found.guardrail.word if found.guardrail else "not built, since no subject is named"
    said = (judged.word, judged.reason, judged.attack, judged.cost, judged.power, judged.notes)
    return VerdictCard(*said, control, lines, _layers(found), found.margin, found.seed)


def page(told: VerdictCard) -> str:
    """The card as one self-contained HTML page: no script, no request, all text escaped."""
    from expunge.report.verdicts import (
        LAYERS,
        drawn_map,  # its table is read after this
    )

    whole = {line.audit: line.share for line in told.lines if line.share is not None}
    layers = drawn_map(told.layers, whole)
    return filled("audit.html", {"card": told, "layers": layers, "layers_said": LAYERS})


def _layers(found: AuditReport) -> LayerMap:
    """What is left of the lead, layer by layer, by the audits that look inside."""
    read = {}
    for one in found.measured:
        if one.audit.family == "inside" and one.models:
            mine, known = (one.models[name].details for name in (SUBJECT, ORIGINAL))
            others = [one.models[name].details for name in one.oracles]
            read[repr(one.audit)] = [shares(mine, known, others)]
    return layer_map(read)


def _line(found: AuditReport, place: int, redact: bool) -> CardLine:
    one, said = found.measured[place], found.effects[place]
    values = {name: each.mean for name, each in one.models.items()}
    if one.oracles:
        values["oracle"] = sum(values[name] for name in one.oracles) / len(one.oracles)
    examples = one.models[SUBJECT].examples[:EXAMPLES] if SUBJECT in one.models else ()
    return CardLine(
        said.family, said.audit, one.audit.unit, values, *_left(said.effect),
        said.cost, said.decisive,
        tuple((REDACTED, REDACTED) if redact else (inert(a), inert(b)) for a, b in examples),
        said.effect.value if isinstance(said.effect, Effect) else None,
    )  # fmt: skip


def _left(effect: Effect | Unscored) -> tuple[str, str]:
    """What is left of the lead, or why nobody can say."""
    if isinstance(effect, Effect):
        return f"{effect.value:z.2f} ({effect.low:z.2f} to {effect.high:z.2f})", ""
    return "", effect.reason


def _number(values: dict[str, float], name: str) -> str:
    return f"{values[name]:.3f}" if name in values else "-"
