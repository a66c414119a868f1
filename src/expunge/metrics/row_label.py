"""The label of a row in the report, made from its numbers alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from expunge.metrics.score import Score, Unscored, lost_half

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
