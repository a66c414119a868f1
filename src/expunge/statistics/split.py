"""Epsilon of scores: thresholds chosen on one half of the models, errors counted on the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from expunge.errors import BadEvidence
from expunge.statistics.checks import Floats, a_delta, inside, positive, values
from expunge.statistics.distance import half_width
from expunge.statistics.epsilon import (
    Errors,
    best_threshold,
    detectable_epsilon,
    epsilon_excluded_p,
    epsilon_lower,
    epsilon_of,
    epsilon_p,
    epsilon_upper,
    errors_at,
    excludable_epsilon,
    most_provable,
)
from expunge.statistics.result import Effect


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
    at, so `epsilon_lower` holds as it stands.

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
    ones = values("positives", positives, least=4)
    zeros = values("negatives", negatives, least=4)
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
    a_delta(delta)
    inside("alpha", alpha)
    ones = values("positives", positives, least=4, axes=(2,))
    zeros = values("negatives", negatives, least=4, axes=(2,))
    if ones.shape[1] != zeros.shape[1]:
        raise BadEvidence(f"Got {ones.shape[1]} and {zeros.shape[1]} examples; expected the same.")
    (chosen_on, counted_on), (against, counted_against) = _halves(ones, rng), _halves(zeros, rng)
    sign = _direction(chosen_on, against)
    cuts = best_threshold(sign * chosen_on, sign * against, delta, alpha)
    return [
        _bound(counted_on[:, at], counted_against[:, at], float(cut), float(sign[at]), delta, alpha)
        for at, cut in enumerate(cuts)
    ]


def threshold_epsilon(
    positives: ArrayLike, negatives: ArrayLike, thresholds: Sequence[float], *, delta: float = 0.0,
    alpha: float = 0.05,
) -> EpsilonBound:  # fmt: skip
    """Bound epsilon over thresholds that were fixed before the scores were seen.

    The lower bound is the best over the thresholds, each at alpha / thresholds. The upper bound
    needs no such price: it can only fail where it fails at the threshold that truly shows most.

    Args:
        positives, negatives: float [unit]; at or above a threshold says positive.
        thresholds: a grid that owes nothing to these scores.
        delta, alpha: as for `split_epsilon`.

    Raises:
        BadEvidence: no thresholds, no scores, values that are not finite.
        ExpungeError: delta outside [0, 1), alpha outside (0, 1).

    Source: Bonferroni over the thresholds; as for `split_epsilon`.
    """
    cuts = values("thresholds", thresholds)
    tried = [errors_at(positives, negatives, float(cut)) for cut in cuts]
    lows = [epsilon_lower(one, delta=delta, alpha=alpha / len(cuts)) for one in tried]
    upper = max(epsilon_upper(one, delta=delta, alpha=alpha) for one in tried)
    best = int(np.argmax(lows))
    most = most_provable(*tried[0].n, delta=delta, alpha=alpha / len(cuts))
    return EpsilonBound(lows[best], upper, most, tried[best], float(cuts[best]), 1.0, delta, alpha)


def band_epsilon(
    positives: ArrayLike, negatives: ArrayLike, *, delta: float = 0.0, alpha: float = 0.05
) -> EpsilonBound:
    """Bound epsilon over every threshold at once, by a band around both error curves.

    Nothing is set aside, but the band is as wide at small rates as at large ones, so large
    epsilons need many units: prefer `split_epsilon` there. No upper bound: beyond the largest
    score anything is possible.

    Args:
        positives, negatives: float [unit]; high says positive.
        delta, alpha: as for `split_epsilon`.

    Raises:
        BadEvidence: no scores, or scores that are not finite.
        ExpungeError: delta outside [0, 1), alpha outside (0, 1).

    Source: Massart (1990), one side of each band at alpha / 2.
    """
    inside("alpha", alpha)
    ones, zeros = np.sort(values("positives", positives)), np.sort(values("negatives", negatives))
    # One side of a band at alpha / 2 is as wide as both sides at alpha.
    first, second = half_width(len(zeros), alpha), half_width(len(ones), alpha)
    cuts = np.concatenate([ones, zeros])
    fpr = 1 - np.searchsorted(zeros, cuts, "left") / len(zeros)
    fnr = np.searchsorted(ones, cuts, "left") / len(ones)
    shown = epsilon_of(np.minimum(fpr + first, 1), np.minimum(fnr + second, 1), delta)
    best = int(shown.argmax())
    errors = errors_at(ones, zeros, float(cuts[best]))
    most = float(epsilon_of(min(first, 1), min(second, 1), delta))
    low, cut = float(shown[best]), float(cuts[best])
    return EpsilonBound(low, math.inf, most, errors, cut, 1.0, delta, alpha)


def epsilon_effect(bound: EpsilonBound, *, margin: float, name: str = "epsilon") -> Effect:
    """Return a bound from one fixed or split threshold as an effect to decide on.

    Args:
        bound: of `split_epsilon`, or of any one attack that was fixed beforehand.
        margin: the smallest epsilon of this attack that matters.
        name: of the attack.

    Raises:
        BadEvidence: a bound that is the best of several, whose errors say more than is true.
        ExpungeError: a margin that is not above 0.
    """
    positive("margin", margin)
    errors, delta, alpha = bound.errors, bound.delta, bound.alpha
    low = epsilon_lower(errors, delta=delta, alpha=alpha)
    high = epsilon_upper(errors, delta=delta, alpha=alpha)
    if (low, high) != (bound.lower, bound.upper):
        raise BadEvidence(
            f"Got a bound of {bound.lower:.3g} whose errors alone give {low:.3g}: it was chosen "
            "among several thresholds. Expected one of `split_epsilon`."
        )
    found = epsilon_of(
        errors.false_positives / errors.negatives, errors.false_negatives / errors.positives, delta
    )
    return Effect(
        name, "epsilon", float(found), low, high, epsilon_p(errors, delta=delta),
        epsilon_excluded_p(errors, margin, delta=delta), margin, alpha, errors.n,
        detectable_epsilon(*errors.n, delta=delta, alpha=alpha),
        excludable_epsilon(errors, delta=delta, alpha=alpha),
    )  # fmt: skip


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
