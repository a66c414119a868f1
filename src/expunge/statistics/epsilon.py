"""Epsilon from counted errors of an attack: lower and upper bounds that the sample supports."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from expunge.errors import BadEvidence
from expunge.statistics.counts import lower_limit, upper_limit
from expunge.statistics.result import (
    Floats,
    check_delta,
    check_fraction,
    checked_counts,
    finite_array,
)


@dataclass(frozen=True)
class Errors:
    """How often an attack was wrong, in independent trials whose answer is known.

    Args:
        false_positives, negatives: retrained models called unlearned, of how many.
        false_negatives, positives: unlearned models called retrained, of how many.

    Raises:
        BadEvidence: counts that cannot be.
    """

    false_positives: int
    negatives: int
    false_negatives: int
    positives: int

    def __post_init__(self) -> None:
        checked_counts(self.false_positives, self.negatives)
        checked_counts(self.false_negatives, self.positives)

    @property
    def n(self) -> tuple[int, int]:
        """Positives and negatives."""
        return self.positives, self.negatives


def epsilon_of(fpr: ArrayLike, fnr: ArrayLike, delta: float = 0.0) -> Floats:
    """Return the epsilon that an attack with these error rates shows, at least 0.

    If two groups are (epsilon, delta)-close, then for an attack and its complement
    1 - FNR <= e^epsilon FPR + delta and 1 - FPR <= e^epsilon FNR + delta.

    Args:
        fpr, fnr: true rates, of any shape that broadcasts.
        delta: of the definition.

    Returns:
        The larger of both, infinite where a rate of 0 faces a rate that delta does not cover.

    Raises:
        ExpungeError: a delta outside [0, 1).

    Source: Kairouz, Oh and Viswanath (2015), theorem 2.1.
    """
    check_delta(delta)
    first, second = np.asarray(fpr, float), np.asarray(fnr, float)
    return np.maximum(_ratio(1 - delta - second, first), _ratio(1 - delta - first, second))


def epsilon_lower(errors: Errors, *, delta: float = 0.0, alpha: float = 0.05) -> float:
    """Return an epsilon that is above the true one with probability at most alpha.

    Both rates take their exact upper limit at alpha / 2: fewer errors than there truly are would
    show more than there is. The attack must have been fixed before these trials were seen.

    Args:
        errors: counts of both kinds.
        delta: of the definition.
        alpha: the share of misses that is allowed.

    Raises:
        ExpungeError: delta outside [0, 1), alpha outside (0, 1).

    Source: Jagielski et al. (2020); Nasr et al. (2021).
    """
    check_fraction("alpha", alpha)
    first = upper_limit(errors.false_positives, errors.negatives, alpha / 2)
    second = upper_limit(errors.false_negatives, errors.positives, alpha / 2)
    return float(epsilon_of(first, second, delta))


def epsilon_upper(errors: Errors, *, delta: float = 0.0, alpha: float = 0.05) -> float:
    """Return an epsilon that is below that of this very attack with probability at most alpha.

    It bounds what this attack shows, turned round or not; another attack may show more. Infinite
    where no error of some kind was seen.

    Args, Raises: as for `epsilon_lower`.
    """
    check_fraction("alpha", alpha)
    wrong, missed = errors.false_positives, errors.false_negatives
    negatives, positives, half = errors.negatives, errors.positives, alpha / 2
    fpr, fnr = lower_limit(wrong, negatives, half), lower_limit(missed, positives, half)
    tnr = 1 - upper_limit(wrong, negatives, half)
    tpr = 1 - upper_limit(missed, positives, half)
    # The true rates are better than chance or worse: only one pair of limits can be the one
    # that fails, so alpha is not spent twice.
    return float(np.maximum(epsilon_of(fpr, fnr, delta), epsilon_of(tnr, tpr, delta)))


def most_provable(
    positives: int, negatives: int, *, delta: float = 0.0, alpha: float = 0.05
) -> float:
    """Return the largest lower bound that an attack without any error gives at this n.

    With 20 a side 1.60, with 1,000 a side 5.60 (delta 0, alpha 5 %).

    Args:
        positives, negatives: trials of each kind.
        delta, alpha: as for `epsilon_lower`.

    Raises:
        BadEvidence, ExpungeError: as for `epsilon_lower`; no trials.
    """
    return epsilon_lower(Errors(0, negatives, 0, positives), delta=delta, alpha=alpha)


def best_threshold(positives: Floats, negatives: Floats, delta: float, alpha: float) -> Floats:
    """Return for each column the threshold of the largest lower bound; scores at or above it count.

    Args:
        positives, negatives: float64 [unit, column]; high says positive.
        delta, alpha: as for `epsilon_lower`.
    """
    pooled = np.concatenate([positives, negatives])
    order = np.argsort(-pooled, axis=0, kind="stable")
    falling = np.take_along_axis(pooled, order, axis=0)
    caught = np.cumsum(order < len(positives), axis=0)
    wrong = np.arange(1, len(pooled) + 1)[:, None] - caught
    first = upper_limit(np.arange(len(negatives) + 1), len(negatives), alpha / 2)
    second = upper_limit(np.arange(len(positives) + 1), len(positives), alpha / 2)
    upper, missed = first[wrong], second[len(positives) - caught]
    shown = epsilon_of(upper, missed, delta)
    # Where no cut has a bound above 0, the one with the smallest sum of limits is the nearest.
    shown = np.where(shown > 0, shown, -upper - missed)
    # A cut between equal scores does not exist.
    shown[:-1][falling[:-1] == falling[1:]] = -np.inf
    best = shown.argmax(axis=0)
    chosen: Floats = np.take_along_axis(falling, best[None], axis=0)[0]
    return chosen


def errors_at(positives: ArrayLike, negatives: ArrayLike, threshold: float) -> Errors:
    """Return the errors of calling positive what scores at or above a threshold.

    Args:
        positives, negatives: float [unit].
        threshold: fixed before these scores were seen.

    Raises:
        BadEvidence: no scores, or scores that are not finite.
    """
    ones, zeros = finite_array("positives", positives), finite_array("negatives", negatives)
    if math.isnan(threshold):
        raise BadEvidence("Got a threshold of NaN; expected a number.")
    wrong, missed = int((zeros >= threshold).sum()), int((ones < threshold).sum())
    return Errors(wrong, len(zeros), missed, len(ones))


@dataclass(frozen=True)
class EpsilonBound:
    """What a sample shows of epsilon.

    Args:
        lower: the true epsilon of the two groups is below this with probability at most alpha.
        upper: the epsilon of the attacks that were tried is above this with at most alpha. It is
            no bound for attacks that were not.
        most: the largest lower bound that any attack could have given at this n.
        errors: of the attack that gave the lower bound, on the units that were counted.
        threshold: of that attack, on the scores times the direction; at or above it is positive.
        direction: 1 where high scores say positive, -1 where low ones do.
        delta, alpha: of the definition, and of each bound.
    """

    lower: float
    upper: float
    most: float
    errors: Errors
    threshold: float
    direction: float
    delta: float
    alpha: float

    def __str__(self) -> str:
        sure = 100 * (1 - self.alpha)
        return (
            f"epsilon at least {self.lower:.2f} ({sure:g} % sure, delta {self.delta:g}), at most "
            f"{self.upper:.2f} by the attacks tried; no attack could have shown more than "
            f"{self.most:.2f} with n = {self.errors.positives} and {self.errors.negatives}"
        )


def split_epsilon(
    positives: ArrayLike, negatives: ArrayLike, rng: np.random.Generator, *, delta: float = 0.0,
    alpha: float = 0.05,
) -> EpsilonBound:  # fmt: skip
    """Bound epsilon with a threshold and a direction chosen on a random half of each group.

    A threshold chosen on the scores that are then counted shows more than there is: the point
    estimate is above the truth in 90 % and more of runs. Here the other half has not been looked
    at, so `epsilon_lower` holds unchanged.

    Args:
        positives, negatives: float [unit], one score for each independent model.
        rng: draws the halves.
        delta: of the definition.
        alpha: the share of misses that is allowed, for each bound.

    Raises:
        BadEvidence: fewer than 4 units a group, scores that are not finite.
        ExpungeError: delta outside [0, 1), alpha outside (0, 1).

    Source: Jagielski et al. (2020); Triantafillou et al. (2406.09073) for what is compared.
    """
    ones = finite_array("positives", positives, least=4)
    zeros = finite_array("negatives", negatives, least=4)
    return split_epsilons(ones[:, None], zeros[:, None], rng, delta=delta, alpha=alpha)[0]


def split_epsilons(
    positives: ArrayLike, negatives: ArrayLike, rng: np.random.Generator, *, delta: float = 0.0,
    alpha: float = 0.05,
) -> list[EpsilonBound]:  # fmt: skip
    """Bound epsilon for each example by itself, as `split_epsilon`; the halves are shared.

    Each bound holds with 1 - alpha. All hold together at 1 - alpha if alpha is divided by the
    number of examples first; so must it be before the largest one is quoted.

    Args:
        positives, negatives: float [model, example].
        rng, delta, alpha: as for `split_epsilon`.

    Raises: as for `split_epsilon`; BadEvidence where the examples do not match.
    """
    check_delta(delta)
    check_fraction("alpha", alpha)
    ones = finite_array("positives", positives, least=4, axes=(2,))
    zeros = finite_array("negatives", negatives, least=4, axes=(2,))
    if ones.shape[1] != zeros.shape[1]:
        raise BadEvidence(f"Got {ones.shape[1]} and {zeros.shape[1]} examples; expected the same.")
    (chosen_on, counted_on), (against, counted_against) = _halves(ones, rng), _halves(zeros, rng)
    sign = _direction(chosen_on, against)
    cuts = best_threshold(sign * chosen_on, sign * against, delta, alpha)
    return [
        _bound(counted_on[:, at], counted_against[:, at], float(cut), float(sign[at]), delta, alpha)
        for at, cut in enumerate(cuts)
    ]


def _halves(scores: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Two random halves of the models, the second the larger where they cannot be equal."""
    order = rng.permutation(len(scores))
    return scores[order[: len(scores) // 2]], scores[order[len(scores) // 2 :]]


def _direction(ones: Floats, zeros: Floats) -> Floats:
    """1 for each example whose positives score higher by rank, else -1."""
    pooled = np.concatenate([ones, zeros])
    ranks = pooled.argsort(axis=0, kind="stable").argsort(axis=0, kind="stable")
    return np.where(ranks[: len(ones)].mean(axis=0) >= ranks.mean(axis=0), 1.0, -1.0)


def _bound(
    ones: Floats, zeros: Floats, cut: float, sign: float, delta: float, alpha: float
) -> EpsilonBound:
    """Both bounds of one fixed threshold."""
    errors = errors_at(sign * ones, sign * zeros, cut)
    return EpsilonBound(
        epsilon_lower(errors, delta=delta, alpha=alpha),
        epsilon_upper(errors, delta=delta, alpha=alpha),
        most_provable(*errors.n, delta=delta, alpha=alpha), errors, cut, sign, delta, alpha,
    )  # fmt: skip


def _ratio(top: Floats, bottom: Floats) -> Floats:
    """Log of top / bottom, at least 0; infinite where the bottom is 0 and the top above it."""
    with np.errstate(divide="ignore"):
        found = np.log(np.maximum(top, 0.0)) - np.log(np.maximum(bottom, 1e-320))
    return np.where(top <= bottom, 0.0, np.where(bottom <= 0, np.inf, found))
