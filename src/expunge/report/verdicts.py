"""The page of an audited experiment: table, heat maps, a card a method; no script, no request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from expunge.audits.runner import ORACLE, ORIGINAL
from expunge.audits.text.lens import LayerMap, layer_map, shares
from expunge.report import audit_table as table
from expunge.report.audit_table import families
from expunge.report.templates import filled, visible

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
