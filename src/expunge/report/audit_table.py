"""The verdicts on all methods of an experiment, as a table for a terminal and for a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from expunge.audits.finding import Record

if TYPE_CHECKING:
    from rich.console import Console


HEADS = ("method", "verdict", "strongest audit", "gap left", "cost", "direct questions", "family")


def draw(found: Record, console: Console) -> None:
    """Print the table, and below it the reason of each verdict; no text is read as markup."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=None)
    for head in HEADS:
        table.add_column(head, overflow="fold")
    for row in found["rows"]:
        table.add_row(*(Text(cell) for cell in cells(row)))
    console.print(table)
    for row in found["rows"]:
        console.print(Text(f"{row['name']}: {row['members'][0]['reason']}"))
    for name, why in found["absent"].items():
        console.print(Text(f"{name} was not audited: {why}"))
    console.print(Text(legend(found)))


def markdown(found: Record) -> str:
    """The same table in Markdown."""
    lines = [HEADS, ["---"] * len(HEADS), *map(cells, found["rows"])]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def legend(found: Record) -> str:
    """What the numbers are, and how many they rest on."""
    level = 1 - 2 * found["alpha"]
    if "pictures" in found:
        what = f"{found['pictures']} images to be forgotten"
        who = f"at most {found['models']} models of a method, judged together"
        several = f"with its interval over models, of level {level:g}"
    else:
        what = f"{found['facts']} facts about {found['subjects']} subjects"
        who = f"members {', '.join(map(str, found['seeds']))}"
        several = (
            "the mean over members, with the least and the most"
            if len(found["seeds"]) > 1
            else f"with its interval over subjects and retrained models, of level {level:g}"
        )
    return (
        f"{found['experiment']}: {what}; {found['oracles']} retrained models, one more to compare; "
        f"{who}. Gap left: 0 = retrained, 1 = the original; {several}. "
        f"Margin: {found['margin']:g}. Strongest audit: the decisive one with power that finds "
        "most, or else the one that the verdict names; direct questions are left out."
    )


def cells(row: Record) -> list[str]:
    """One method: verdict, the strongest audit and its cost, direct questions, worst family."""
    first, several = row["members"][0]["lines"], len(row["members"]) > 1
    best = strongest(first, row["left"], row["members"][0].get("attack", ""))
    plain = next((one for one in first if one["plain"]), None)
    worst = max(families(row["members"]).items(), key=lambda one: one[1], default=None)
    name = f"{row['name']} (control)" if row["control"] else row["name"]
    return [
        name,
        verdict(row["words"]),
        best["audit"] if best else "-",
        _left(best, row["left"], several),
        best["cost"] or "-" if best else "-",
        _left(plain, row["left"], several),
        f"{worst[0]} {worst[1]:z.2f}" if worst else "-",
    ]


def families(members: Sequence[Record]) -> dict[str, float]:
    """Family -> the most of the gap that any decisive audit of it found, mean over members."""
    found: dict[str, list[float]] = {}
    for member in members:
        most: dict[str, float] = {}
        for line in counted(member["lines"], member.get("attack", "")):
            value = line["left"]["value"]
            most[line["family"]] = max(value, most.get(line["family"], value))
        for family, value in most.items():
            found.setdefault(family, []).append(value)
    return {family: float(np.mean(values)) for family, values in found.items()}


def counted(lines: Sequence[Record], attack: str = "") -> list[Record]:
    """The decisive audits with power; where none of them shows the margin, the one named too.

    An audit without power can convict, and then a table must not say that nothing was found.
    """
    decisive = [one for one in lines if "left" in one and one["decisive"]]
    able = [one for one in decisive if one["powered"]]
    named = [one for one in decisive if one["audit"] == attack and not one["powered"]]
    shown = any(one["left"]["value"] >= one["left"].get("margin", 0.0) for one in able)
    return able if shown else [*able, *named]


def verdict(words: Mapping[str, int]) -> str:
    """The words of all members, with their counts where there are several."""
    total = sum(words.values())
    ordered = sorted(words.items(), key=lambda one: -one[1])
    if total == 1:
        return ordered[0][0]
    return ", ".join(f"{word} {count} of {total}" for word, count in ordered)


def strongest(lines: Sequence[Record], left: Record, attack: str = "") -> Record | None:
    """The decisive audit with power that found most, direct questions left out.

    Args:
        lines: of one member.
        left: an audit's sentence -> {"mean": over members}.
        attack: the audit that the verdict on this member names; it is taken where those with power
            show nothing.
    """
    there = [one for one in counted(lines, attack) if not one["plain"]]
    return max(there, key=lambda one: float(left[one["audit"]]["mean"]), default=None)


def _left(line: Record | None, left: Record, several: bool) -> str:
    """The gap that is left: over members with its range, of one with its interval."""
    if line is None or line["audit"] not in left:
        return "-"
    return interval(line) if not several else _range(left[line["audit"]])


def _range(over: Record) -> str:
    return f"{over['mean']:z.2f} ({over['least']:z.2f} to {over['most']:z.2f})"


def interval(line: Record) -> str:
    """The gap that is left in one member, with its interval."""
    left = line["left"]
    return f"{left['value']:z.2f} ({left['low']:z.2f} to {left['high']:z.2f})"
