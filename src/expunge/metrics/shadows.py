"""What attacks with shadow models share: the check of their arrays, and fits without the target.

A shadow attack asks of each (model, example): was the example in (`inside`) or was it never seen
(`outside`)? Each model is attacked in turn with all the others, so it has to be left out of every
fit that judges it, else it recognises itself. A row that is neither inside nor outside belongs to
no fit: put a target model that is not a shadow there, and it is scored with all of the shadows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from expunge.errors import BadEvidence

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
