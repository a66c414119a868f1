"""The plain words that end a row of a table, for classifiers and for language models."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from expunge.metrics.agreement import Score, Unscored, lost_half

FEWEST_MODELS = 16


LARGEST_COST = 0.2


NORMAL_95 = 1.96


# Half a point of accuracy: what a table of whole points would not show.
RESOLUTION = 0.005


# The spacing of float32 near 1: a smaller change is rounding, not unlearning.
SMALLEST_CHANGE = 2.0**-23


SETS = ("retain", "forget", "test")


@dataclass(frozen=True)
class Spread:
    """Accuracy of several models on one set: mean, and standard deviation over models."""

    mean: float
    sd: float


@dataclass(frozen=True)
class ScoredRow:
    """What a label is made from.

    Args:
        quality: forgetting quality of the method.
        ceiling: the same of held-out retrained models, against the other retrained models.
        floor: the same of the untouched original.
        finetune: the same of plain fine-tuning; None where this row is the fine-tuning itself.
        subject, oracle, original: accuracies on "retain", "forget" and, where there is one, "test".
        classes: number of classes, for the accuracy of guessing.
        largest_change: largest absolute change of any weight or buffer from the original.
        cost: time as a share of retraining's.
    """

    quality: Score
    ceiling: Score
    floor: Score
    finetune: Score | None
    subject: Mapping[str, Spread]
    oracle: Mapping[str, Spread]
    original: Mapping[str, Spread]
    classes: int
    largest_change: float
    cost: float


def row_label(row: ScoredRow) -> str:
    """Return the label of a row: the first of these that fits, in this order.

    | words | rule |
    |---|---|
    | changed nothing | no weight moved by more than float32 rounding (2^-23) |
    | collapsed | retain or test accuracy lost half of the oracle's gap over guessing |
    | too few models to say | fewer than 16 models, or the ceiling is not above the floor |
    | forget accuracy rose | forget accuracy above the original's |
    | as retrained within noise | quality not below the ceiling, no accuracy off the oracle's |
    | over-forgotten | quality below the ceiling, forget accuracy below the oracle's |
    | not forgotten | quality not above the floor |
    | no better than finetune | quality not above that of plain fine-tuning |
    | partly forgotten (x of the way) | the rest; x = `gap_closed`, floor 0, ceiling 1 |

    "Above", "below" and "off" mean by more than noise. For qualities noise is the root of the
    summed squares of both 95 % half-widths. For accuracies it is 1.96 times the standard deviation
    of single reference models, with the standard error of the mean judged added in squares, and at
    least half a point. `flags` says which accuracies are off.
    """
    too_few = min(row.quality.n, row.ceiling.n) < FEWEST_MODELS or not _above(
        row.ceiling, row.floor
    )
    off = any(_gap(row, name) != 0 for name in measured(row))
    for words, fits in (
        ("changed nothing", row.largest_change <= SMALLEST_CHANGE),
        ("collapsed", _collapsed(row)),
        ("too few models to say", too_few),
        ("forget accuracy rose", _gap(row, "forget", row.original) > 0),
        ("as retrained within noise", not _above(row.ceiling, row.quality) and not off),
        ("over-forgotten", _above(row.ceiling, row.quality) and _gap(row, "forget") < 0),
        ("not forgotten", not _above(row.quality, row.floor)),
        ("no better than finetune", row.finetune and not _above(row.quality, row.finetune)),
    ):
        if fits:
            return words
    return (
        f"partly forgotten ({gap_closed(row.quality.value, row.floor, row.ceiling):.2f} of the way)"
    )


def flags(row: ScoredRow) -> tuple[str, ...]:
    """Return what a reader must know besides: a cost above 20 %, accuracies off the oracle's."""
    found = [
        f"{name} accuracy {abs(gap) * 100:.1f} points {'above' if gap > 0 else 'below'} retrained"
        for name in measured(row)
        if (gap := _gap(row, name)) != 0
    ]
    if row.cost > LARGEST_COST:
        found.append("above 20 % of retraining's cost")
    return tuple(found)


def gap_closed(value: float, floor: Score, ceiling: Score) -> float | Unscored:
    """Return (value - floor) / (ceiling - floor): 0 as the original, 1 as retrained models.

    Args:
        value: of the method.
        floor, ceiling: of the original and of held-out retrained models, with their intervals.

    Returns:
        The share of the gap that is closed, which may lie outside 0 and 1, or Unscored where the
        ceiling is not above the floor by more than noise.
    """
    if not _above(ceiling, floor):
        return Unscored(
            f"held-out retrained models score {ceiling.value:.3g}, the original "
            f"{floor.value:.3g}: no difference beyond noise to measure on"
        )
    return (value - floor.value) / (ceiling.value - floor.value)


def measured(row: ScoredRow) -> tuple[str, ...]:
    """The sets that there are accuracies of: a problem may have no test set."""
    return tuple(name for name in SETS if name in row.subject)


def _half(score: Score) -> float:
    """The wider half of an interval; the other may be cut at the end of the scale."""
    return max(score.high - score.value, score.value - score.low)


def _above(one: Score, other: Score) -> bool:
    """Whether one score is above another by more than the noise of both."""
    return one.value - other.value > math.hypot(_half(one), _half(other))


def _gap(row: ScoredRow, name: str, reference: Mapping[str, Spread] | None = None) -> float:
    """Accuracy of the subject less that of the oracle (or another), 0 where within noise."""
    mine, theirs = row.subject[name], (reference or row.oracle)[name]
    noise = NORMAL_95 * math.hypot(theirs.sd, mine.sd / math.sqrt(row.quality.n))
    gap = mine.mean - theirs.mean
    return gap if abs(gap) > max(noise, RESOLUTION) else 0.0


def _collapsed(row: ScoredRow) -> bool:
    """Whether half of the gap over guessing is lost where nothing should be."""
    chance = 1 / row.classes
    return any(
        lost_half(row.subject[name].mean, row.oracle[name].mean, chance)
        for name in measured(row)
        if name != "forget"
    )


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


def language_flags(name: str, row: Mapping[str, Any], usual: Mapping[str, Any]) -> Iterator[str]:
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
