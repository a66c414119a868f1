"""Which examples are exposed: one attacker for each example, and who got worse by unlearning.

Averages hide this. Methods that lower the mean exposure raise that of single examples, retained
ones too (Hayes et al., 2403.01218).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control, norm

from expunge.errors import BadEvidence, ExpungeError
from expunge.metrics.attacks.lira import FLOOR, Variance, check_mask, gaussians
from expunge.statistics.roc_area import rank_scores

Floats = NDArray[np.float64]

Flags = NDArray[np.bool_]

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Exposure:
    """What an attacker of its own does to each example; all arrays are [example].

    Args:
        auc: chance that a model that is inside scores above one that is outside, ties half.
        error: standard error of `auc` over models: DeLong's, but never 0 (a perfect attack counts
            as if one trial more had gone each way), and where the attack is fitted at least what
            chance gives above 0.5.
        advantage: TPR - FPR of a fixed threshold, so that chance gives 0; may be negative.
        members, others: int64, models inside and outside.
    """

    auc: Floats
    error: Floats
    advantage: Floats
    members: Ints
    others: Ints


@dataclass(frozen=True, eq=False)
class WorseOff:
    """Examples that unlearning left more exposed than they were under the original.

    Args:
        index: int64, the examples, the worst first.
        change: float64 [example], AUC after less AUC before, of all examples; an AUC below 0.5
            counts as 0.5, for who does worse than a guess can guess.
        share: of all examples that are named.
    """

    index: Ints
    change: Floats
    share: float


def exposure(scores: Floats, inside: Flags, outside: Flags, *, threshold: float = 0.0) -> Exposure:
    """Return the exposure of each example from scores, over models.

    For attacks that fit nothing over models (`population`), and for targets that are not shadows.
    Scores of a model left out of its own fit alone are biased here (AUC 0.42 for 0.5 with 16 models
    a group): for U-LiRA take `u_lira_exposure`.

    Args:
        scores: float64 [model, example], higher = member.
        inside, outside: bool [model, example]; entries in neither are left out.
        threshold: of the advantage; 0 is even odds for likelihood ratios.

    Raises:
        BadEvidence: shapes that do not match, scores that are NaN, an example without a model
            inside or without one outside.

    Source: Hanley and McNeil (1982) for the area; DeLong et al. (1988) for its error.
    """
    scores = np.asarray(scores, dtype=np.float64)
    members, others = _counts(scores, inside, outside)
    if np.isnan(scores).any():
        raise BadEvidence(f"{np.isnan(scores).sum()} scores are NaN; leave those models out.")
    ranked = rank_scores(scores, inside, outside)
    hit = scores > threshold
    advantage = (hit & inside).sum(axis=0) / members - (hit & outside).sum(axis=0) / others
    return _table(ranked.placements(), (ranked.positives, ranked.negatives), advantage)


def u_lira_exposure(
    signal: Floats,
    unlearned: Flags,
    unseen: Flags,
    rng: np.random.Generator,
    *,
    variance: Variance = "example",
    floor: float = FLOOR,
) -> Exposure:
    """Return the exposure of each example to U-LiRA, or to LiRA, with a pair of models left out.

    Each model inside is compared with each outside by Gaussians that hold neither of them, so that
    identical groups give an AUC of 0.5 and an advantage of 0 on average over examples. In closed
    form: 256 models and 5,000 examples are 82 million pairs and take seconds.

    Where nothing differs the rule is fitted to noise, and the AUC spreads 1.4 to 2.6 times as
    widely as that of a rule that is given, which is all that DeLong's error knows. So the attack
    is run once more with inside and outside shuffled within each example, and the root mean square
    of what that gives above 0.5 is the least error.

    Args:
        signal, unlearned, unseen, variance, floor: as for `lira.u_lira`; for LiRA give the
            members and the others.
        rng: shuffles.

    Raises:
        BadEvidence, ExpungeError: as for `lira.u_lira`.

    Source: Hayes et al. (2403.01218), per-example U-MIA; Airola et al. (2011) on why pairs.
    """
    inside, outside = np.asarray(unlearned), np.asarray(unseen)
    found = _pairs(signal, inside, outside, variance, floor)
    inside, outside = _shuffled(inside, outside, rng)
    chance = np.maximum(_pairs(signal, inside, outside, variance, floor).auc - 0.5, 0.0)
    return replace(found, error=np.maximum(found.error, np.sqrt(np.mean(chance**2))))


def worse_off(after: Exposure, before: Exposure, *, rate: float = 0.05) -> WorseOff:
    """Return the examples that are more exposed after unlearning than under the original.

    Give the forget set, or the retain set with its own members and non-members. Each rise of the
    AUC is held against its standard error, and of the examples named at most a share of `rate` is
    expected to be named by chance. The two tables are taken as independent; the same models before
    and after make that cautious. Measured where nothing changed (1,000 examples, 16 to 128 models a
    group): with normal margins somebody was named in at most one run of ten, with Student's t (3
    degrees of freedom) in two of three, never more than 0.2 % of the examples.

    Args:
        after, before: of the same examples, from unlearned and from original models.
        rate: false discovery rate.

    Raises:
        BadEvidence: different numbers of examples.
        ExpungeError: a rate that is not between 0 and 1.

    Source: Hayes et al. (2403.01218); Benjamini and Hochberg (1995).
    """
    if not 0 < rate < 1:
        raise ExpungeError(f"Got rate={rate!r}; expected a number between 0 and 1.")
    if after.auc.shape != before.auc.shape or after.auc.size == 0:
        raise BadEvidence(
            f"Got {after.auc.size} examples after and {before.auc.size} before; expected the same, "
            "and at least one."
        )
    change = np.maximum(after.auc, 0.5) - np.maximum(before.auc, 0.5)
    chance = norm.sf(change / np.hypot(after.error, before.error))
    named = np.flatnonzero(false_discovery_control(chance) <= rate)
    index = named[np.argsort(-change[named], kind="stable")]
    return WorseOff(index, change, len(index) / len(change))


def _pairs(
    signal: Floats, inside: Flags, outside: Flags, variance: Variance, floor: float
) -> Exposure:
    """Each model inside against each outside, by fits without the two.

    The fit of either group leaves out only its own model of the pair, so that half of all densities
    do not depend on the pair. One model inside at a time, against all that are outside.
    """
    fits = gaussians(signal, inside, outside, variance=variance, floor=floor)
    members, others = _counts(np.asarray(signal), inside, outside)
    first = _Side.of(signal, fits.inside, inside)
    second = _Side.of(signal, fits.outside, outside)
    own, rivals_own = first.log_density(first.signal), second.log_density(second.signal)
    wins = np.zeros(own.shape), np.zeros(rivals_own.shape)
    advantage = np.zeros(len(members))
    for row in range(len(own)):
        score = own[row] - second.log_density(first.signal[row])
        rival = first.log_density(second.signal, row) - rivals_own
        weight = second.held * first.held[row]
        won = ((score > rival) + 0.5 * (score == rival)) * weight
        wins[0][row] = won.sum(axis=0) / others
        wins[1][:] += won / members
        advantage += (((score > 0) * 1.0 - (rival > 0)) * weight).sum(axis=0)
    return _table(wins, (first.held, second.held), advantage / (members * others))


@dataclass(frozen=True, eq=False)
class _Side:
    """One group of models, moved up so that no rows are spent on others: [row, example].

    Log densities are constant - weight (x - mean)^2, less what all share.
    """

    signal: Floats
    held: Floats
    mean: Floats
    weight: Floats
    constant: Floats

    @classmethod
    def of(cls, signal: Floats, fit: tuple[Floats, Floats], group: Flags) -> _Side:
        """The models of a group, each example's first; `held` is 0 where it has fewer than most."""
        rows = np.argsort(~group, axis=0, kind="stable")[: group.sum(axis=0).max()]

        def taken(of: Floats) -> Floats:
            whole = np.broadcast_to(np.asarray(of, dtype=np.float64), group.shape)
            return np.take_along_axis(whole, rows, axis=0)

        mean, variance = (taken(one) for one in fit)
        weight, constant = 0.5 / variance, -0.5 * np.log(variance)
        return cls(taken(signal), taken(group.astype(np.float64)), mean, weight, constant)

    def log_density(self, x: Floats, row: int | slice = slice(None)) -> Floats:
        """At x, by the fits of one row or of all."""
        away = x - self.mean[row]
        away *= away
        away *= self.weight[row]
        return self.constant[row] - away


def _shuffled(inside: Flags, outside: Flags, rng: np.random.Generator) -> tuple[Flags, Flags]:
    """As many models inside and outside of each example, drawn from the same ones."""
    taken = inside | outside
    keys = np.where(taken, rng.random(inside.shape), 2.0)
    rank = keys.argsort(axis=0).argsort(axis=0)
    drawn = rank < inside.sum(axis=0)
    return drawn, taken & ~drawn


def _counts(scores: Floats, inside: Flags, outside: Flags) -> tuple[Ints, Ints]:
    """Models inside and outside of each example, or a refusal."""
    for mask in (inside, outside):
        check_mask(mask, scores.shape)
    members, others = inside.sum(axis=0), outside.sum(axis=0)
    if scores.ndim != 2 or scores.size == 0 or min(members.min(), others.min()) < 1:
        raise BadEvidence(
            f"Got scores {scores.shape}; expected [model, example], and for every example at least "
            "1 model inside and 1 outside."
        )
    return members, others


def _table(
    wins: tuple[Floats, Floats], weights: tuple[Floats, Floats], advantage: Floats
) -> Exposure:
    """The table from the share of pairs that each model wins, inside and outside."""
    members, others = (weight.sum(axis=0) for weight in weights)
    auc = (wins[0] * weights[0]).sum(axis=0) / members
    parts = [
        ((share - auc) ** 2 * weight).sum(axis=0) / np.maximum(count - 1, 1) / count
        for share, weight, count in zip(wins, weights, (members, others), strict=True)
    ]
    fewer = np.minimum(members, others)
    shrunk = (fewer * auc + 1) / (fewer + 2)
    error = np.sqrt(np.maximum(sum(parts), shrunk * (1 - shrunk) / (members + others)))
    return Exposure(auc, error, advantage, members.astype(np.int64), others.astype(np.int64))
