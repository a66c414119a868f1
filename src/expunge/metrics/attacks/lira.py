"""LiRA and U-LiRA: one likelihood ratio of Gaussians for each example. *Strong*."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from expunge.errors import BadEvidence, ExpungeError

Floats = NDArray[np.float64]

Flags = NDArray[np.bool_]


def checked(signal: Floats, *masks: Flags) -> Floats:
    """Return the signal as float64, or refuse arrays that no attack can read.

    Args:
        signal: [model, example], any real type.
        masks: bool [model, example] each; no entry is in two of them.

    Raises:
        BadEvidence: other shapes or types, one model only, values that are not finite, masks that
            overlap, a signal that is one and the same number everywhere.
    """
    signal = np.asarray(signal, dtype=np.float64)
    if signal.ndim != 2 or signal.size == 0:
        raise BadEvidence(f"Got a signal of shape {signal.shape}; expected [model, example].")
    for mask in masks:
        check_mask(mask, signal.shape)
    if len(signal) < 2:
        raise BadEvidence("Got 1 model; an attack with shadow models needs at least 2.")
    if not np.isfinite(signal).all():
        raise BadEvidence("Some signals are NaN or infinite; leave the models that diverged out.")
    if np.sum(masks, axis=0).max() > 1:
        raise BadEvidence(
            "Some examples are both inside and outside of one model; a mask is wrong."
        )
    if signal.min() == signal.max():
        raise BadEvidence(
            f"All models answer {signal.flat[0]:g} on all examples: there is nothing to attack."
        )
    return signal


def check_mask(mask: Flags, shape: tuple[int, ...]) -> None:
    """Refuse a mask that is not bool or that does not match.

    Raises:
        BadEvidence: so.
    """
    mask = np.asarray(mask)
    if mask.dtype != np.bool_ or mask.shape != shape:
        raise BadEvidence(f"Got a mask {mask.dtype} {mask.shape}; expected bool {shape}.")


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Moments of one group of models for each example, each model left out of its own.

    Args:
        count: models that are left, float64 [model, example].
        mean: their mean.
        squares: their summed squared distance from it.
    """

    count: Floats
    mean: Floats
    squares: Floats


def left_out(signal: Floats, group: Flags, *, fewest: int, name: str) -> LeftOut:
    """Return the moments of the others of a group, in closed form: no refit for each model.

    Args:
        signal: float64 [model, example].
        group: bool [model, example].
        fewest: models that must be left.
        name: of the group, for the message.

    Raises:
        BadEvidence: an example with too few models in the group.
    """
    total = group.sum(axis=0)
    short = np.flatnonzero((total - group).min(axis=0) < fewest)
    if len(short):
        raise BadEvidence(
            f"Example {short[0]} is {name} {total[short[0]]} models; with the target left out at "
            f"least {fewest} must remain, so give {fewest + 1} or more ({len(short)} of "
            f"{len(total)} examples have too few)."
        )
    weight = group.astype(np.float64)
    count = total - weight
    centre = (signal * weight).sum(axis=0) / total
    away = (signal - centre) * weight
    # One value less moves the mean by d / (n - 1) and the sum of squares by d^2 n / (n - 1).
    squares = (away**2).sum(axis=0) - away**2 * total / count
    return LeftOut(count, centre - away / count, np.maximum(squares, 0.0))


Variance = Literal["example", "global"]

# A spread of 0.01 in log odds: two trainings of one network differ by more, so a smaller spread is
# an accident of few models or a model that answers by rote.
FLOOR = 1e-4


def lira(
    signal: Floats, member: Flags, *, variance: Variance = "example", floor: float = FLOOR
) -> Floats:
    """Return the likelihood ratio of member against non-member for every model and example.

    Each model is the target in turn, left out of the fits. Differs from the released code
    (carlini/privacy, mi_lira_2021) in that: mean for median, n - 1 for n, and a global variance
    *within* examples (there the variance of all the shadow's values pooled, which also holds how
    examples differ from each other).

    Args:
        signal: float64 [model, example], `signals.scaled_confidence` of trained models.
        member: bool [model, example]: was the example in the model's training set?
        variance: as for `u_lira`.
        floor: as for `u_lira`.

    Returns:
        float64 [model, example], as for `u_lira`.

    Raises:
        BadEvidence, ExpungeError: as for `u_lira`.

    Source: Carlini et al. (2112.03570), algorithm 1, online.
    """
    check_mask(member, np.shape(signal))
    return u_lira(signal, member, ~np.asarray(member), variance=variance, floor=floor)


def u_lira(
    signal: Floats,
    unlearned: Flags,
    unseen: Flags,
    *,
    variance: Variance = "example",
    floor: float = FLOOR,
) -> Floats:
    """Return the likelihood ratio of "trained on and unlearned" against "never seen".

    log N(phi; mean_in, var_in) - log N(phi; mean_out, var_out), both Gaussians of this example
    alone, over all models but the target. xcadet/deepunlearn (commit 6830ff6) fits 0/1 correctness
    and the target itself, so an example that is always right gives NaN; the sigmoid of this score
    is the probability printed there.

    Over all examples together, identical groups give an AUC of 0.5. Example by example they do
    not (0.42 with 16 models a group, 0.46 with 128: a fit without its own value leans away from
    it), so `exposure.u_lira_exposure` leaves out one model of each group there.

    A model that gives every example one margin defeats this attack without forgetting anything:
    read `guard.warnings` beside it.

    Args:
        signal: float64 [model, example], `signals.scaled_confidence` of *unlearned* models.
        unlearned: bool [model, example]: trained with the example, then asked to forget it.
        unseen: bool [model, example]: never saw it. Entries in neither are scored, not fitted.
        variance: "example" fits a variance to each example and needs 3 models a group; "global"
            shares one over examples, better below about 16 models a group.
        floor: the least variance, in squared log odds.

    Returns:
        float64 [model, example], nats; higher = more likely unlearned than never seen.

    Raises:
        BadEvidence: arrays that do not match, too few models, constant signals.
        ExpungeError: a variance that is not known, a floor that is not positive.

    Source: Hayes et al. (2403.01218), U-LiRA.
    """
    fits = gaussians(signal, unlearned, unseen, variance=variance, floor=floor)
    signal = np.asarray(signal, dtype=np.float64)
    return log_density(signal, *fits.inside) - log_density(signal, *fits.outside)


@dataclass(frozen=True, eq=False)
class Gaussians:
    """Means and variances of both groups, each model left out of its own group.

    Args:
        inside, outside: mean and variance, float64 [model, example] or [model, 1] each.
    """

    inside: tuple[Floats, Floats]
    outside: tuple[Floats, Floats]


def gaussians(
    signal: Floats, inside: Flags, outside: Flags, *, variance: Variance, floor: float
) -> Gaussians:
    """Return the fits behind `u_lira`.

    Args, Raises: as for `u_lira`.
    """
    if variance not in ("example", "global") or not floor > 0:
        raise ExpungeError(
            f"Got variance={variance!r} and floor={floor!r}; expected 'example' or 'global', and "
            "a floor above 0."
        )
    signal = checked(signal, inside, outside)
    fewest, spread = (2, _per_example) if variance == "example" else (1, _global)
    found = [
        left_out(signal, group, fewest=fewest, name=name)
        for group, name in ((inside, "inside of"), (outside, "outside of"))
    ]
    first, second = ((one.mean, np.maximum(spread(one), floor)) for one in found)
    return Gaussians(first, second)


def log_density(signal: Floats, mean: Floats, variance: Floats) -> Floats:
    """Return the log of Gaussian densities, less a constant that all of them share."""
    found: Floats = -0.5 * ((signal - mean) ** 2 / variance + np.log(variance))
    return found


def _per_example(fit: LeftOut) -> Floats:
    """Unbiased variance over models, [model, example]."""
    return fit.squares / (fit.count - 1)


def _global(fit: LeftOut) -> Floats:
    """Unbiased variance within examples, over all of them, [model, 1]."""
    freedom = (fit.count - 1).sum(axis=1, keepdims=True)
    if freedom.min() < 1:
        raise BadEvidence(
            "With the target left out no example keeps 2 models of a group, so there is no spread "
            "to share; give more models."
        )
    return fit.squares.sum(axis=1, keepdims=True) / freedom
