"""The label and the warnings of a row of a language experiment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from expunge.metrics.row_label import LARGEST_COST

# So many more broken generations than held-out retrained models write are worth a warning.
NEAR = 0.05

# A model that refuses half of the questions to be forgotten has learned to refuse.
MOST_REFUSED = 0.5


def language_row_label(
    name: str, row: Mapping[str, Any], ceiling: Mapping[str, Any], floor: Mapping[str, Any]
) -> str:
    """Return a few words on how near a row is to retraining, and on which side it fails.

    Args:
        name: of the row.
        row: its numbers.
        ceiling, floor: the distances of held-out retrained models and of the original.
    """
    mine = row["distance"]
    if name == "filter":
        return "refuses; every probability is the original's"
    if name == "nothing":
        return "the original"
    if any(side["collapsed"] for side in row["collapse"].values()):
        return "collapsed: it writes what no retrained model writes"
    if mine["low"] <= ceiling["high"]:
        return "as near as retraining, with so few models" if mine["n"] < 16 else "as retraining"
    if mine["value"] >= floor["value"]:
        return "no nearer than the original"
    if mine["retain"] > mine["forget"]:
        return "loses what was to be kept"
    if row["collapse"].get("forget", {}).get("refused", 0.0) > MOST_REFUSED:
        return "refuses where a retrained model guesses"
    left = remaining(row)
    if abs(left) < mine["forget"] / 2:
        return "unlike retrained on what was to go: some left, some overshot"
    return "still remembers" if left > 0 else "overshoots: knows less than retrained"


def remaining(row: Mapping[str, Any]) -> float:
    """Return the mean over metrics of the forget side: above 0 remembers, below overshoots."""
    told = [
        score["remaining"]
        for score in row["scores"].values()
        if score["side"] == "forget" and score["remaining"] is not None
    ]
    return sum(told) / len(told) if told else 0.0


def flags(name: str, row: Mapping[str, Any], usual: Mapping[str, Any]) -> Iterator[str]:
    """Yield warnings in sentences.

    Args:
        name: of the row.
        row: its numbers.
        usual: the collapse of held-out retrained models, by side: the limits were set by others.
    """
    if row["cost"]["time_share"] > LARGEST_COST and name not in ("retrain", "nothing", "filter"):
        yield f"costs {row['cost']['time_share']:.0%} of retraining"
    for side, told in row["collapse"].items():
        if told["share"] > usual[side]["share"] + NEAR and not told["collapsed"]:
            yield f"{told['share']:.0%} of the generations on the {side} side are broken"
    gap = row.get("membership", {}).get("loss", {}).get("gap")
    if gap and gap["low"] > 0:
        yield "forget examples can still be distinguished from those that no model saw"
    if gap and gap["high"] < 0:
        yield "forget examples stand out by being too unlikely"
