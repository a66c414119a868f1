"""Was this example in the training set? Single examples, attacked with shadow models.

Shadows are trained on random halves of the training set, in pairs with opposite halves. Attacks are
fitted to one half of the pairs; shadows of the other half that never saw an example are what a
model is held against, so that both are scored by a fit that holds neither. Both ways round, then
averaged. The retrained models are the yardstick: they saw more examples than a shadow, so that
even they need not be at 0.5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from expunge.errors import BadEvidence
from expunge.metrics.attacks.examples import RATE, SHOWN, Examples, MoreExposed, summarise_exposure
from expunge.metrics.attacks.exposure import Exposure, exposure, worse_off
from expunge.metrics.attacks.games import GAMMA, OWN_VARIANCE, Ints
from expunge.metrics.attacks.lira import u_lira
from expunge.metrics.attacks.rmia import offline_typical, online_typical, rmia
from expunge.metrics.attacks.roc import roc

Floats = NDArray[np.float64]

Flags = NDArray[np.bool_]

LOW_RATE = 0.01


@dataclass(frozen=True, eq=False)
class SingleSignals:
    """What some models answer on one set and on examples that no model has seen.

    Args:
        phi: log odds on the set, float64 [model, example].
        soft: RMIA's confidences on the set, the same shape.
        unseen: RMIA's confidences on unseen examples, float64 [model, point].
    """

    phi: Floats
    soft: Floats
    unseen: Floats

    def taken(self, rows: Ints | Flags) -> SingleSignals:
        """Some of the models."""
        return SingleSignals(self.phi[rows], self.soft[rows], self.unseen[rows])


@dataclass(frozen=True, eq=False)
class PairedShadows:
    """Shadow models in pairs with opposite halves of the training set.

    Args:
        signals: what they answer.
        member: bool [shadow, example], was it in the shadow's half?
        pair: int64 [shadow], the number of its pair.
    """

    signals: SingleSignals
    member: Flags
    pair: Ints


@dataclass(frozen=True)
class SingleMembership:
    """How well one attack tells that models have seen examples; over all examples of one set.

    Args:
        auc, low, high: mean over examples of the chance that a model scores above a shadow that
            never saw the example, with its 95 % interval over examples.
        tpr: true positive rate at 1 % false positives, over trials; None where unresolved.
        reason: why there is no `tpr`, or "".
        examples: the most exposed.
    """

    auc: float
    low: float
    high: float
    tpr: float | None
    reason: str
    examples: Examples


@dataclass(frozen=True)
class Singles:
    """One attack on one set.

    Args:
        groups: "original", "unlearned" and "retrained" -> what was found of them.
        worse: examples that unlearning made more recognisable than they were in the original.
    """

    groups: Mapping[str, SingleMembership]
    worse: MoreExposed


def singles(groups: Mapping[str, SingleSignals], shadows: PairedShadows) -> dict[str, Singles]:
    """Attack single examples of one set by LiRA and by RMIA.

    Args:
        groups: "original", "unlearned", "retrained" -> their answers; one original is enough.
        shadows: at least 8, 4 pairs.

    Returns:
        "LiRA" and "RMIA" -> what was found.

    Raises:
        BadEvidence: too few shadows, or arrays that do not match.

    Source: Carlini et al. (2112.03570); Zarifzadeh et al. (2312.03262), both online.
    """
    if len(np.unique(shadows.pair)) < 4:
        raise BadEvidence(
            f"Got {len(shadows.pair)} shadow models; expected at least 8, 2 pairs to fit to and 2 "
            "to judge."
        )
    return {name: _singles(by, groups, shadows) for name, by in ATTACKS.items()}


Fitted = Callable[[SingleSignals], Floats]


def _by_lira(fit: SingleSignals, member: Flags) -> Fitted:
    """Gaussians of the shadows that saw an example, and of those that did not."""
    enough = len(member) // 2 >= OWN_VARIANCE

    def scored(target: SingleSignals) -> Floats:
        none = np.zeros(target.phi.shape, dtype=np.bool_)
        return u_lira(
            np.concatenate([fit.phi, target.phi]),
            np.concatenate([member, none]),
            np.concatenate([~member, none]),
            variance="example" if enough else "global",
        )[len(member) :]

    return scored


def _by_rmia(fit: SingleSignals, member: Flags) -> Fitted:
    """The same shadows as references, in and out."""
    inside, outside = (
        (fit.soft * mask).sum(axis=0) / np.maximum(mask.sum(axis=0), 1)
        for mask in (member, ~member)
    )
    typical = online_typical(inside, outside), offline_typical(fit.unseen.mean(axis=0))
    return lambda target: rmia(target.soft, target.unseen, *typical, gamma=GAMMA)


ATTACKS: Mapping[str, Callable[[SingleSignals, Flags], Fitted]] = {
    "LiRA": _by_lira,
    "RMIA": _by_rmia,
}


def _singles(
    attack: Callable[[SingleSignals, Flags], Fitted],
    groups: Mapping[str, SingleSignals],
    shadows: PairedShadows,
) -> Singles:
    """Both ways round."""
    tables: dict[str, list[Exposure]] = {name: [] for name in groups}
    rates: dict[str, list[float | str]] = {name: [] for name in groups}
    for fold in (0, 1):
        fit, rest = shadows.pair % 2 == fold, shadows.pair % 2 != fold
        scored = attack(shadows.signals.taken(fit), shadows.member[fit])
        rivals, unseen = scored(shadows.signals.taken(rest)), ~shadows.member[rest]
        for name, group in groups.items():
            trials = _trials(scored(group), rivals, unseen)
            tables[name].append(exposure(*trials))
            rates[name].append(_rate(*trials))
    whole = {name: _averaged(both) for name, both in tables.items()}
    found = {name: _membership(whole[name], rates[name]) for name in groups}
    return Singles(found, _worse(whole["unlearned"], whole["original"]))


def _trials(scores: Floats, rivals: Floats, unseen: Flags) -> tuple[Floats, Flags, Flags]:
    """Models in question above, shadows that did not see the example below."""
    both = np.concatenate([scores, rivals])
    inside, outside = np.zeros(both.shape, dtype=np.bool_), np.zeros(both.shape, dtype=np.bool_)
    inside[: len(scores)], outside[len(scores) :] = True, unseen
    return both, inside, outside


def _rate(scores: Floats, inside: Flags, outside: Flags) -> float | str:
    try:
        return roc(scores, inside, outside).tpr_at(LOW_RATE)
    except BadEvidence as fault:
        return str(fault)


def _averaged(both: list[Exposure]) -> Exposure:
    """The mean of two tables; their errors are not taken as independent."""
    first, second = both
    return replace(
        first,
        auc=(first.auc + second.auc) / 2,
        error=(first.error + second.error) / 2,
        advantage=(first.advantage + second.advantage) / 2,
    )


def _membership(table: Exposure, rates: list[float | str]) -> SingleMembership:
    mean, count = float(table.auc.mean()), len(table.auc)
    spread = float(table.auc.std(ddof=1)) / count**0.5 if count > 1 else 0.5
    half = float(student.ppf(0.975, max(count - 1, 1))) * spread
    reasons = [rate for rate in rates if isinstance(rate, str)]
    values = [rate for rate in rates if isinstance(rate, float)]
    tpr = None if reasons else sum(values) / len(values)
    low, high = max(mean - half, 0.0), min(mean + half, 1.0)
    return SingleMembership(
        mean, low, high, tpr, reasons[0] if reasons else "", summarise_exposure(table)
    )


def _worse(after: Exposure, before: Exposure) -> MoreExposed:
    found = worse_off(after, before, rate=RATE)
    worst = tuple((int(at), float(found.change[at])) for at in found.index[:SHOWN])
    return MoreExposed(worst, float(found.share), len(found.change))
