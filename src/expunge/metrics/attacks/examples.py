"""What averages hide: the examples that give most away, and those that unlearning made worse."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control, norm

from expunge.errors import BadEvidence
from expunge.metrics.attacks.exposure import Exposure, exposure, u_lira_exposure, worse_off
from expunge.metrics.attacks.games import Readings, Scores
from expunge.metrics.attacks.roc import Roc, interval, roc

Floats = NDArray[np.float64]

Flags = NDArray[np.bool_]

SHOWN = 8

RATE = 0.05

LOW_RATES = (0.01, 0.001)


@dataclass(frozen=True)
class ExposedExample:
    """One example, and how well an attacker of its own tells its unlearned from retrained models.

    Args:
        example: place in its set.
        auc, error: area under the ROC curve, and its standard error over models.
        advantage: TPR - FPR at even odds.
    """

    example: int
    auc: float
    error: float
    advantage: float


@dataclass(frozen=True)
class Examples:
    """All examples of a set, in a few numbers.

    Args:
        worst: the most exposed, by advantage.
        beyond_chance: share that is exposed beyond chance, at a false discovery rate of 5 %.
        mean_auc: over examples; 0.5 where there is nothing.
        count: examples.
    """

    worst: tuple[ExposedExample, ...]
    beyond_chance: float
    mean_auc: float
    count: int


@dataclass(frozen=True)
class MoreExposed:
    """Examples whose answers lie further from retrained models' than the original's did.

    Args:
        worst: place in the set and rise of the area, the largest rise first.
        share: of all examples that are named, at a false discovery rate of 5 %.
        count: examples.
    """

    worst: tuple[tuple[int, float], ...]
    share: float
    count: int


@dataclass(frozen=True)
class Rate:
    """True positive rate at a false positive rate, over trials of a judged model and an example.

    Args:
        fpr: the false positive rate.
        value, low, high: the true positive rate with its 95 % interval over models.
        reason: why there is none; then the numbers are 0 and mean nothing.
    """

    fpr: float
    value: float
    low: float
    high: float
    reason: str = ""


def most_exposed(subject: Floats, oracle: Floats, rng: np.random.Generator) -> Examples:
    """Return which examples tell unlearned from retrained models, by U-LiRA with pairs left out.

    Args:
        subject, oracle: log odds, float64 [model, example].
        rng: shuffles, for what chance alone gives.

    Raises:
        BadEvidence: fewer than 3 models a group, or signals that cannot be read.
    """
    signal, inside = _stacked(subject, oracle)
    return summarise_exposure(u_lira_exposure(signal, inside, ~inside, rng))


def summarise_exposure(table: Exposure) -> Examples:
    """Return a table of exposures in a few numbers."""
    order = np.argsort(-table.advantage, kind="stable")[:SHOWN]
    worst = tuple(
        ExposedExample(
            int(at), float(table.auc[at]), float(table.error[at]), float(table.advantage[at])
        )
        for at in order
    )
    chance = norm.sf((table.auc - 0.5) / table.error)
    beyond = false_discovery_control(chance) <= RATE
    return Examples(worst, float(beyond.mean()), float(table.auc.mean()), len(table.auc))


def more_exposed(subject: Floats, original: Floats, oracle: Floats) -> MoreExposed:
    """Return the examples that an attacker who looks at log odds alone tells better than before.

    Higher and lower than retrained models both tell, so an area below 0.5 counts as its mirror
    image. One original is one draw: its area has a wide error, and few examples are named.

    Args:
        subject, original, oracle: log odds, float64 [model, example].

    Raises:
        BadEvidence: arrays that cannot be read.
    """
    after, before = (
        replace(table, auc=np.maximum(table.auc, 1 - table.auc))
        for table in (_distance(group, oracle) for group in (subject, original))
    )
    found = worse_off(after, before, rate=RATE)
    worst = tuple((int(at), float(found.change[at])) for at in found.index[:SHOWN])
    return MoreExposed(worst, float(found.share), len(found.change))


def low_rates(scores: Scores, rng: np.random.Generator) -> tuple[Rate, ...]:
    """Return true positive rates at low false positive rates, pooled; refused where unresolved.

    Args:
        scores: of judged unlearned and judged retrained models, float64 [model, example].
        rng: draws models, for the intervals.
    """
    signal, inside = _stacked(*scores)
    curve = roc(signal, inside, ~inside)
    return tuple(_rate(curve, fpr, rng) for fpr in LOW_RATES)


def _rate(curve: Roc, fpr: float, rng: np.random.Generator) -> Rate:
    try:
        found = interval(
            lambda each: each.tpr_at(fpr), curve, rng, over="models", unit="TPR", resamples=100
        )
    except BadEvidence as fault:
        return Rate(fpr, 0.0, 0.0, 0.0, str(fault))
    return Rate(fpr, found.value, found.low, found.high)


def _stacked(first: Floats, second: Floats) -> tuple[Floats, Flags]:
    """Both groups, and which rows are of the first."""
    signal = np.concatenate([first, second])
    inside = np.zeros(signal.shape, dtype=np.bool_)
    inside[: len(first)] = True
    return signal, inside


def _distance(group: Floats, oracle: Floats) -> Exposure:
    signal, inside = _stacked(group, oracle)
    middle = float(np.median(oracle))
    return exposure(signal, inside, ~inside, threshold=middle)


def sets_of(answers: Readings) -> tuple[str, ...]:
    """The trained-on sets whose examples may have got worse."""
    return tuple(name for name in ("forget", "retain") if name in answers.phi)
