"""The page of an audited experiment, and the card of one audited model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from expunge.audits.audit import ORACLE, ORIGINAL, SUBJECT
from expunge.audits.finding import REDACTED, inert
from expunge.audits.text.lm_verdict import GUARDRAIL, AuditReport
from expunge.audits.text.states import LayerMap, layer_map, shares
from expunge.metrics.agreement import Unscored
from expunge.report import audit_table as table
from expunge.report.audit_table import families
from expunge.report.numbers import filled, visible
from expunge.statistics.result import Effect

if TYPE_CHECKING:
    from rich.console import Group


Record = Mapping[str, Any]


# A box of a curve, in its own units.
WIDTH, HEIGHT = 300.0, 120.0


LAYERS = (
    "Share of the gap between original and retrained in each layer, from the first on, by audits "
    "of hidden states: 0 as retrained, 1 as the original; mean over models. No number where the "
    "original is not above every retrained model. The last row is what the audit found by its "
    "own rule, such as the best layer."
)


@dataclass(frozen=True)
class Square:
    """One place of a heat map.

    Args:
        label: the number in it; "-" where there is none.
        shade: how much ink, 0 to 1.
    """

    label: str
    shade: float


@dataclass(frozen=True)
class RelearningCurve:
    """What came back as it was taught, of one model.

    Args:
        who: whose it is.
        path: of an SVG, in a box of 300 x 120: steps across, the mean value from 0 to 1 upwards.
        end: the last mean value, in words.
    """

    who: str
    path: str
    end: str


def render(found: Record) -> str:
    """Return the page of an audited experiment, self-contained; all of its text is escaped.

    Args:
        found: what `verdicts` of `language_models` or of `classifiers` in
            `expunge.experiments.auditing` returns.
    """
    return filled("verdicts.html", context(visible(found)))


def context(found: Record) -> dict[str, Any]:
    """All that the template names."""
    rows, panel = found["rows"], list(found["anchors"][0]["audits"])
    kinds = list(dict.fromkeys(k for row in rows for k in families(row["members"])))
    by_family = [(row["name"], _squares(families(row["members"]), kinds)) for row in rows]
    means = {row["name"]: {k: one["mean"] for k, one in row["left"].items()} for row in rows}
    scored = [audit for audit in panel if any(audit in one for one in means.values())]
    by_audit = [(name, _squares(each, scored)) for name, each in means.items()]
    return {
        "title": found["experiment"],
        "heads": table.HEADS,
        "table": [table.cells(row) for row in rows],
        "legend": table.legend(found),
        "families": kinds,
        "by_family": by_family,
        "audits": scored,
        "by_audit": by_audit,
        "absent": list(found["absent"].items()),
        "layers_said": LAYERS,
        "cards": [_card(row, found["anchors"]) for row in rows],
        "seconds": sum(found["seconds"]["audits"].values()),
        "clock": found.get("clock", "processor time"),
    }


def _squares(values: Mapping[str, float], names: Sequence[str]) -> list[Square]:
    """A row of a heat map."""
    return [square(values.get(name)) for name in names]


def square(value: float | None) -> Square:
    """One place of a heat map; what is left beyond 0 and 1 has the ink of the ends."""
    if value is None:
        return Square("-", 0.0)
    return Square(f"{value:z.2f}", round(min(max(value, 0.0), 1.0), 3))


def _card(row: Record, anchors: Sequence[Record]) -> dict[str, Any]:
    """All of one method: the verdict on each member, audits, curves and a few answers."""
    first = row["members"][0]
    beside = next(one for one in anchors if one["seed"] == first["seed"])["audits"]
    curves = [
        (line["audit"], _curves(row["name"], line["curve"], beside[line["audit"]]["curves"]))
        for line in first["lines"]
        if line["family"] == "relearning" and line.get("curve")
    ]
    lines = [{**line, "share": _share(line), **_beside(line, beside)} for line in first["lines"]]
    return {
        "name": row["name"], "verdict": table.verdict(row["words"]),
        "members": [{**one, "who": _who(one)} for one in row["members"]], "who": _who(first),
        "first": first, "lines": lines, "curves": curves, "layers": _layers(row, anchors),
        "drawn": [(line["audit"], line["drawn"]) for line in lines if line.get("drawn")],
    }  # fmt: skip


def _who(member: Record) -> str:
    """Whose verdict it is: one member's, or that of several models together."""
    return str(member.get("who", f"Member {member['seed']}"))


def _share(line: Record) -> str:
    return table.interval(line) if "left" in line else f"not scored: {line['reason']}"


def _beside(line: Record, anchors: Record) -> dict[str, str]:
    """Means of the original, and of the retrained models together."""
    means = anchors[line["audit"]]["means"]
    others = [value for name, value in means.items() if name.startswith(ORACLE)]
    return {
        "original": f"{means[ORIGINAL]:.3f}" if ORIGINAL in means else "-",
        "retrained": f"{sum(others) / len(others):.3f}" if others else "-",
        "own": f"{line['mean']:.3f}" if "mean" in line else "-",
    }


def _curves(
    name: str, own: Sequence[Any], others: Mapping[str, Sequence[Any]]
) -> list[RelearningCurve]:
    """The method's curve, the original's and a retrained model's."""
    drawn = {name: own, "the original": others[ORIGINAL], "retrained": others[f"{ORACLE} 1"]}
    last = max(float(at) for curve in drawn.values() for at, _ in curve) or 1.0
    return [
        RelearningCurve(who, _path(curve, last), f"{float(curve[-1][1]):.2f}")
        for who, curve in drawn.items()
        if curve
    ]


def _path(curve: Sequence[Any], last: float) -> str:
    places = [
        f"{round(WIDTH * float(at) / last, 1):g} {round(HEIGHT * (1 - float(value)), 1):g}"
        for at, value in curve
    ]
    return "M" + "L".join(places)


def _layers(row: Record, anchors: Sequence[Record]) -> dict[str, Any]:
    """The map of a method: layers down, audits that look inside across, shares of the lead."""
    read: dict[str, list[dict[str, float | None]]] = {}
    for member in row["members"]:
        beside = next(one for one in anchors if one["seed"] == member["seed"])["audits"]
        for line in member["lines"]:
            also = beside[line["audit"]]["also"]
            if line["family"] == "inside" and ORIGINAL in also:
                others = [one for name, one in also.items() if name.startswith(ORACLE)]
                found = shares(line.get("also", {}), also[ORIGINAL], others)
                read.setdefault(line["audit"], []).append(found)
    return drawn_map(layer_map(read), {k: one["mean"] for k, one in row["left"].items()})


def drawn_map(found: LayerMap, whole: Mapping[str, float]) -> dict[str, Any]:
    """A map as squares, with a row more for what each audit as a whole found.

    Args:
        found: shares by layer.
        whole: sentence of an audit -> share that it found.
    """
    rows = [
        (layer, [square(one) for one in each])
        for layer, each in zip(found.layers, found.shares, strict=True)
    ]
    return {"audits": found.audits, "rows": [*rows, ("the audit", _squares(whole, found.audits))]}


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
    return VerdictCard(*said, control, lines, _card_layers(found), found.margin, found.seed)


def page(told: VerdictCard) -> str:
    """The card as one self-contained HTML page: no script, no request, all text escaped."""
    whole = {line.audit: line.share for line in told.lines if line.share is not None}
    layers = drawn_map(told.layers, whole)
    return filled("audit.html", {"card": told, "layers": layers, "layers_said": LAYERS})


def _card_layers(found: AuditReport) -> LayerMap:
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
