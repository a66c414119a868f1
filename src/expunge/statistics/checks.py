"""Checks of what a test is given: fractions, counts and arrays that make no sense are refused."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from expunge.errors import BadEvidence, ExpungeError

Floats = NDArray[np.float64]


def check_fraction(name: str, share: float) -> None:
    """Refuse a number that is not above 0 and below 1, such as an alpha of 0 or NaN.

    Raises:
        ExpungeError: with the name and the number.
    """
    if not 0 < share < 1:
        raise ExpungeError(f"Got {name}={share!r}; expected a number above 0 and below 1.")


def check_positive(name: str, number: float) -> None:
    """Refuse a margin or an effect that is not a finite number above 0.

    Raises:
        ExpungeError: with the name and the number.
    """
    if not 0 < number < math.inf:
        raise ExpungeError(f"Got {name}={number!r}; expected a finite number above 0.")


def check_delta(delta: float) -> None:
    """Refuse a delta outside [0, 1).

    Raises:
        ExpungeError: with the number.
    """
    if not 0 <= delta < 1:
        raise ExpungeError(f"Got delta={delta!r}; expected at least 0 and less than 1.")


def checked_counts(hits: ArrayLike, trials: ArrayLike) -> tuple[Floats, Floats]:
    """Return hits and trials as float64, broadcast together.

    Raises:
        BadEvidence: counts that no experiment gives: fractions, fewer than 0 hits or 1 trial, more
            hits than trials, NaN or infinity.
    """
    first, second = np.broadcast_arrays(np.asarray(hits, float), np.asarray(trials, float))
    whole = np.all((first == np.floor(first)) & (second == np.floor(second)))
    # NaN and infinity are not equal to themselves or exceed every count, so they fail here too.
    if not (whole and np.all((first >= 0) & (first <= second) & (second >= 1))):
        raise BadEvidence(
            f"Got {hits!r} of {trials!r}; expected whole numbers, at least 1 trial, "
            "and from 0 to as many hits as trials."
        )
    if not np.isfinite(second).all():
        raise BadEvidence(f"Got {trials!r} trials; expected a finite number.")
    return first, second


def finite_array(
    name: str, array: ArrayLike, *, least: int = 1, axes: tuple[int, ...] = (1,)
) -> Floats:
    """Return an array as float64.

    Args:
        name: what it holds, for the error.
        array: of numbers.
        least: the fewest entries on the first axis.
        axes: the numbers of axes that it may have.

    Raises:
        BadEvidence: other axes, too few entries, an empty axis, NaN or infinity.
    """
    found = np.asarray(array, dtype=np.float64)
    if found.ndim not in axes or found.size == 0 or len(found) < least:
        raise BadEvidence(
            f"Got {name} of shape {found.shape}; expected {' or '.join(map(str, axes))} axes "
            f"and at least {least} values on the first, none of them empty."
        )
    if not np.isfinite(found).all():
        raise BadEvidence(f"Some {name} are NaN or infinite; leave models that diverged out.")
    return found
