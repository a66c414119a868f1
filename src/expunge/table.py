"""The verdict table, for a terminal or a text file."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from expunge.metrics.verdict import LARGEST_COST

COLUMNS = (
    "method",
    "quality F",
    "of the way",
    "retain",
    "forget",
    "test",
    "ToW",
    "attacks",
    "cost",
    "verdict",
)


def plain(summary: Mapping[str, Any], width: int = 160) -> str:
    """The table as text."""
    text = io.StringIO()
    draw(summary, Console(file=text, width=width, color_system=None, legacy_windows=False))
    return text.getvalue()


def draw(summary: Mapping[str, Any], console: Console) -> None:
    """Print the table and what must be known to read it."""
    experiment = summary["experiment"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in ("method", "verdict") else "right")
    for row in summary["rows"]:
        table.add_row(*(Text(cell) for cell in cells(row)))
    console.print(table)
    for name, doubts in summary.get("doubts", {}).items():  # summaries of older versions lack it
        for doubt in doubts:
            console.print(Text(f"Doubt about {name}: {doubt}"))
    hardware = summary["hardware"]
    console.print(Text(legend(experiment)))
    console.print(Text(alarms(summary)))
    console.print(Text(f"Measured on {hardware['processor']}, {hardware['cores']} cores."))


def legend(experiment: Mapping[str, Any]) -> str:
    """How to read the table."""
    return (
        f"n = {experiment['members']} models a row, protocol {experiment['protocol']}, rule "
        f"{experiment['rule']}, forget set {experiment['forget']}. F with a 95 % interval over "
        "models (half-sample bootstrap); of the way: 0 = the original, 1 = held-out retrained "
        "models; accuracies in %, with the gap to retrained; attacks: are unlearned models told "
        "from retrained ones (found), not by the margin (excluded), or is n too small "
        "(inconclusive); cost: share of retraining's processor time, ! above 20 %."
    )


def alarms(summary: Mapping[str, Any]) -> str:
    """How often the attacks find something where there is nothing."""
    found = summary.get("false_alarms", {"reason": "an older version made this summary."})
    if "reason" in found:
        return f"False alarms of the attacks are not known: {found['reason']}"
    rate = found["rate"]
    return (
        f"False alarms: between random halves of the retrained models ({found['models']} a side) "
        f"the attacks found something in {round(rate['value'] * rate['n'])} of {rate['n']} "
        "repetitions; 5 % are allowed."
    )


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """One row as text."""
    name = row["name"] + (" (control)" if row["control"] else "")
    if "unscored" in row:
        return (name, *("-" for _ in COLUMNS[2:]), f"unscored: {row['unscored']}")
    scores = row["scores"]
    quality = scores["quality"]
    share = row["normalised"]
    cost = row["cost"]["time_share"]
    dear = cost > LARGEST_COST and not row["control"]
    return (
        name,
        f"{quality['value']:.4f} [{quality['low']:.4f}, {quality['high']:.4f}]",
        f"{share:.2f}" if isinstance(share, float) else "unscored",
        *(_accuracy(scores, name) for name in ("retain", "forget", "test")),
        f"{scores['tow']['value']:.3f}" if "tow" in scores else "-",
        row["attacks"]["verdict"]["word"] if "attacks" in row else "-",
        f"{cost:.0%}{' !' if dear else ''}",
        row["verdict"],
    )


def _accuracy(scores: Mapping[str, Any], name: str) -> str:
    found = scores.get(f"accuracy_{name}")
    if found is None:
        return "-"
    gap = found["value"] - found["oracle"]
    return f"{100 * found['value']:.1f} ({100 * gap:+.1f})"
