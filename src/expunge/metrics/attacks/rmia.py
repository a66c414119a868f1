"""RMIA: is an answer surprising compared with those on other points? *Strong*, with few models."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from expunge.errors import BadEvidence, ExpungeError
from expunge.metrics.attacks.lira import check_mask, checked, left_out

Floats = NDArray[np.float64]

Flags = NDArray[np.bool_]

A = 0.33

GAMMA = 2.0


def rmia(
    target: Floats,
    population: Floats,
    typical: Floats,
    population_typical: Floats,
    *,
    gamma: float = GAMMA,
) -> Floats:
    """Return the share of population points z with ratio(x) / ratio(z) > gamma.

    ratio(x) = p_target(x) / p(x), where p(x) is what a model of unknown membership gives. With
    `offline_typical` one reference model is enough; with many, `rmia_offline` attacks each of them
    in turn. Scores are multiples of 1 / (population points), so ties are common.

    Args:
        target: float64 [target, example], confidences in the right class, above 0.
        population: float64 [target, point], the same of points that are in no training set.
        typical: float64 [example] or [target, example], p(x).
        population_typical: float64 [point] or [target, point], p(z).
        gamma: how much more surprising x must be; the authors' 2 for unlearning, 1 in the
            released attack.

    Returns:
        float64 [target, example], between 0 and 1; higher = member.

    Raises:
        BadEvidence: shapes that do not match, confidences that are not finite and above 0, or one
            and the same everywhere.
        ExpungeError: a gamma that is not positive.

    Source: Zarifzadeh et al. (2312.03262); privacytrustlab/ml_privacy_meter,
    modules/mia/attacks/rmia.py (commit e384af8), gamma = 1 there.
    """
    if not gamma > 0:
        raise ExpungeError(f"Got gamma={gamma!r}; expected a number above 0.")
    above = [
        _positive(one, of) for one, of in ((target, "targets"), (population, "the population"))
    ]
    ratio = _ratio(above[0], _positive(typical, "typical models"))
    rival = _ratio(above[1], _positive(population_typical, "typical models on the population"))
    if len(ratio) != len(rival):
        raise BadEvidence(f"Got {len(ratio)} targets and {len(rival)} of them on the population.")
    if np.ptp(np.concatenate(above, axis=1)) == 0:
        raise BadEvidence(
            f"The targets answer {target.flat[0]:g} on all examples and points: there is nothing "
            "to attack."
        )
    # Sorted once, each example is placed by bisection: no table of examples times points.
    ranked = np.sort(rival, axis=1)
    found = [np.searchsorted(z, x / gamma, "left") for x, z in zip(ratio, ranked, strict=True)]
    return np.stack(found) / rival.shape[1]


def offline_typical(outside: Floats, *, a: float = A) -> Floats:
    """Return p(x) from models that never saw x: ((1 + a) p_out(x) + 1 - a) / 2.

    A model that saw x is taken to give a p_out(x) + 1 - a.

    Args:
        outside: float64, mean confidence of the reference models that never saw x.
        a: between 0 and 1; the authors' 0.33 on CIFAR-10, 0.6 on CIFAR-100.

    Raises:
        ExpungeError: an `a` out of range.
    """
    if not 0 <= a <= 1:
        raise ExpungeError(f"Got a={a!r}; expected a number from 0 to 1.")
    return ((1 + a) * outside + 1 - a) / 2


def online_typical(inside: Floats, outside: Floats) -> Floats:
    """Return p(x) = (p_in(x) + p_out(x)) / 2, of models that saw x and of models that did not."""
    return (inside + outside) / 2


def rmia_offline(
    confidence: Floats,
    unseen: Flags,
    population: Floats,
    *,
    a: float = A,
    gamma: float = GAMMA,
) -> Floats:
    """Return `rmia` of every model, with all other models that never saw x as references.

    Args:
        confidence: float64 [model, example], for instance `signals.taylor_soft_margin`.
        unseen: bool [model, example]: the model never saw the example.
        population: float64 [model, point], the same models on points that no model saw.
        a, gamma: as for `offline_typical` and `rmia`.

    Returns:
        float64 [model, example], between 0 and 1; higher = member.

    Raises:
        BadEvidence, ExpungeError: as for `rmia`; fewer than 2 models that never saw an example.

    Source: as for `rmia`. The released attack sorts the answers, with 0 for models that saw x, and
    averages the first `num_reference_models`: the same where exactly so many never saw x, else
    zeros are averaged in or only the largest answers are kept.
    """
    confidence = checked(confidence, unseen)
    outside = left_out(confidence, unseen, fewest=1, name="outside of").mean
    typical = offline_typical(outside, a=a)
    others = offline_typical(_others(population, len(confidence)), a=a)
    return rmia(confidence, population, typical, others, gamma=gamma)


def rmia_online(
    confidence: Floats,
    member: Flags,
    population: Floats,
    *,
    a: float = A,
    gamma: float = GAMMA,
) -> Floats:
    """Return `rmia` of every model, with all other models, in and out, as references.

    Points of the population are in no training set, so that their p(z) is `offline_typical`.

    Args:
        confidence: float64 [model, example].
        member: bool [model, example]: was the example in the model's training set?
        population, a, gamma: as for `rmia_offline`.

    Returns:
        float64 [model, example], between 0 and 1; higher = member.

    Raises:
        BadEvidence, ExpungeError: as for `rmia`; an example that fewer than 2 models saw or that
            fewer than 2 never saw.

    Source: as for `rmia`.
    """
    check_mask(member, np.shape(confidence))
    unseen = ~np.asarray(member)
    confidence = checked(confidence, member, unseen)
    inside = left_out(confidence, member, fewest=1, name="inside of").mean
    outside = left_out(confidence, unseen, fewest=1, name="outside of").mean
    others = offline_typical(_others(population, len(confidence)), a=a)
    return rmia(confidence, population, online_typical(inside, outside), others, gamma=gamma)


def _others(population: Floats, models: int) -> Floats:
    """Mean of the other models on each point, [model, point]."""
    population = np.asarray(population, dtype=np.float64)
    if population.ndim != 2 or len(population) != models or population.size == 0:
        raise BadEvidence(
            f"Got a population {population.shape}; expected [{models} models, at least 1 point]."
        )
    everyone = np.ones(population.shape, dtype=np.bool_)
    return left_out(population, everyone, fewest=1, name="outside of").mean


def _ratio(confidence: Floats, typical: Floats) -> Floats:
    """How much surer a target is than a model of unknown membership."""
    if confidence.ndim != 2 or typical.shape not in (confidence.shape, confidence.shape[1:]):
        raise BadEvidence(
            f"Got confidences {confidence.shape} and typical ones {typical.shape}; expected "
            "[target, example] and [example] or [target, example]."
        )
    return confidence / typical


def _positive(values: Floats, of: str) -> Floats:
    """Confidences as float64, or a refusal."""
    values = np.asarray(values, dtype=np.float64)
    if values.size == 0 or not np.isfinite(values).all() or not (values > 0).all():
        raise BadEvidence(f"The confidences of {of} must be finite and above 0, and there be some.")
    return values
