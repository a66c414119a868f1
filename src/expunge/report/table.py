"""The verdict table, for a terminal or a text file."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from expunge.metrics.row_label import LARGEST_COST

COLUMNS = (
    "method",
    "quality F",
    "of the way",
    "retain",
    "forget",
    "test",
    "ToW",
    "attacks",
    "audits",
    "cost",
    "verdict",
)


def plain(summary: Mapping[str, Any], width: int = 176) -> str:
    """The table as text."""
    text = io.StringIO()
    draw(summary, Console(file=text, width=width, color_system=None, legacy_windows=False))
    return text.getvalue()


def draw(summary: Mapping[str, Any], console: Console) -> None:
    """Print the table and what must be known to read it."""
    experiment = summary["experiment"]
    beneath = any("audits" in row for row in summary["rows"])
    columns = [name for name in COLUMNS if beneath or name != "audits"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, justify="left" if name in ("method", "verdict") else "right")
    for row in summary["rows"]:
        by_name = dict(zip(COLUMNS, cells(row), strict=True))
        table.add_row(*(Text(by_name[name]) for name in columns))
    console.print(table)
    for name, doubts in summary.get("doubts", {}).items():  # summaries of older versions lack it
        for doubt in doubts:
            console.print(Text(f"Doubt about {name}: {doubt}"))
    hardware = summary["hardware"]
    for said in [*summary.get("chosen", {}).get("said", []), *retrain_free(summary)]:
        console.print(Text(said))
    console.print(Text(legend(experiment)))
    console.print(Text(alarms(summary)))
    for said in audit_lines(summary):
        console.print(Text(said))
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


def audited(found: Mapping[str, Any] | None) -> str:
    """What the audits found in a row, in few signs: "found 3 of 12"."""
    if found is None:
        return "-"
    word = found["verdict"]["word"]
    return f"{word} {len(found['shown'])} of {found['scored']}" if word == "found" else word


def audit_lines(summary: Mapping[str, Any]) -> list[str]:
    """How to read the column of the audits, and their false alarms; nothing without audits."""
    found = summary.get("audit_alarms")
    if not found:
        return []
    models = summary["rows"][0]["audits"]["models"]
    told = (
        f"Audits of the weights of {models} models a row: found k of n, where k of the n that tell "
        "originals from retrained models here find a difference after Holm."
    )
    if "reason" in found:
        return [told, f"False alarms of the audits are not known: {found['reason']}"]
    rate = found["rate"]
    return [
        told,
        f"False alarms of the audits: between random halves of the retrained models "
        f"({found['models']} a side) they found something in "
        f"{round(rate['value'] * rate['n'])} of {rate['n']} repetitions; 5 % are allowed.",
    ]


def retrain_free(summary: Mapping[str, Any]) -> list[str]:
    """How signals that need no retrained model rank these methods, beside what the oracles say."""
    return [
        f"Retrain-free {each['signal']}, ranks against {each['against']}: {correlation(each)}"
        for each in summary.get("retrain_free", [])
        if "reason" not in each
    ]


def correlation(found: Mapping[str, Any]) -> str:
    """A rank correlation with its interval, p-value and number of methods."""
    rho = found["spearman"]
    return (
        f"Spearman {rho['value']:.2f} [{rho['low']:.2f}, {rho['high']:.2f}], "
        f"p {found['spearman_p']:.2g}, n = {found['methods']} methods."
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
        audited(row.get("audits")),
        f"{cost:.0%}{' !' if dear else ''}",
        row["verdict"],
    )


def _accuracy(scores: Mapping[str, Any], name: str) -> str:
    found = scores.get(f"accuracy_{name}")
    if found is None:
        return "-"
    gap = found["value"] - found["oracle"]
    return f"{100 * found['value']:.1f} ({100 * gap:+.1f})"
