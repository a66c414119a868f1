"""The table of an experiment on texts, for a terminal or a text file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from expunge.metrics.row_label import LARGEST_COST

COLUMNS = (
    "method", "distance", "forget", "retain", "p", "ROUGE", "FQ D", "utility", "AUC", "broken",
    "cost", "verdict",
)  # fmt: skip


def draw(summary: Mapping[str, Any], console: Console) -> None:
    """Print the table and what must be known to read it."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in ("method", "verdict") else "right")
    for row in summary["rows"]:
        table.add_row(*(Text(cell) for cell in cells(row)))
    console.print(table)
    for name, doubts in summary["doubts"].items():
        for doubt in doubts:
            console.print(Text(f"Doubt about {name}: {doubt}"))
    console.print(Text(legend(summary)))
    hardware = summary["hardware"]
    console.print(Text(f"Measured on {hardware['processor']}, {hardware['cores']} cores."))


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """One row as text."""
    name = row["name"] + (" (control)" if row["control"] else "")
    if "unscored" in row:
        return (name, *("-" for _ in COLUMNS[2:]), f"unscored: {row['unscored']}")
    mine, cost = row["distance"], row["cost"]["time_share"]
    dear = cost > LARGEST_COST and not row["control"]
    return (
        name,
        f"{mine['value']:.2f} [{mine['low']:.2f}, {mine['high']:.2f}]",
        f"{mine['forget']:.2f}",
        f"{mine['retain']:.2f}",
        _anchored(row, "probability, forget"),
        _anchored(row, "rouge recall, forget"),
        f"{row['forget_quality']['d']:.2f}" if "forget_quality" in row else "-",
        f"{row['utility']['value']:.2f} ({row['utility']['gap']:+.2f})",
        _area(row),
        f"{max(side['share'] for side in row['collapse'].values()):.0%}"
        if row["collapse"]
        else "-",
        f"{cost:.0%}{' !' if dear else ''}",
        row["verdict"],
    )


def markdown(summary: Mapping[str, Any]) -> str:
    """The rows as a table for a README: rank, both sides of the distance, and the words."""
    heads = ("rank", "method", "distance", "forget", "retain", "forget quality D", "broken", "cost")
    lines = [f"| {' | '.join((*heads, 'verdict'))} |", "|" + "---|" * (len(heads) + 1)]
    for row in summary["rows"]:
        if "unscored" in row:
            continue
        told = dict(zip(COLUMNS, cells(row), strict=True))
        names = ("method", "distance", "forget", "retain", "FQ D", "broken", "cost", "verdict")
        lines.append(f"| {row['rank']} | {' | '.join(told[name] for name in names)} |")
    return "\n".join(lines) + "\n"


def _anchored(row: Mapping[str, Any], gauge: str) -> str:
    if gauge not in row["scores"]:
        return "-"
    told = row["scores"][gauge]
    return f"{told['value']:.2f} ({told['gap']['value']:+.2f})"


def _area(row: Mapping[str, Any]) -> str:
    told = row.get("membership", {}).get("loss")
    return f"{told['value']:.2f} ({told['gap']['value']:+.2f})" if told else "-"


def legend(summary: Mapping[str, Any]) -> str:
    """How to read the table."""
    experiment = summary["experiment"]
    return (
        f"n = {experiment['members']} models a row, protocol {experiment['protocol']}, forget set "
        f"{experiment['forget']}. distance: 0 = as retrained, 1 = the original, with a 95 % "
        "interval over models and subjects (bootstrap); forget and retain: its two sides; p and "
        "ROUGE: of the true answers to be forgotten, with the gap to retrained; FQ D: largest gap "
        "between truth ratios and the oracle's, 0 best; utility: harmonic mean on what is kept; "
        "AUC: loss attack, forget against holdout; broken: generations such as retrained models "
        "do not write; cost: share of retraining's processor time, ! above 20 %."
    )
