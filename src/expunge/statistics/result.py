"""What every test returns, and the counts, shares and values that all tests refuse."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from expunge.errors import BadEvidence, ExpungeError


@dataclass(frozen=True)
class Interval:
    """A value with its interval.

    Args:
        value: the estimate.
        low, high: the ends; the truth lies outside in at most alpha of repeated experiments.
        alpha: the share of misses that is allowed, both ends together.
        n: how many independent units it rests on.
    """

    value: float
    low: float
    high: float
    alpha: float
    n: int

    def __contains__(self, truth: float) -> bool:
        return self.low <= truth <= self.high


@dataclass(frozen=True)
class Effect:
    """A difference of two groups, and what its sample can and cannot show.

    Args:
        name: of the attack or measure.
        unit: what the value counts.
        value: the estimate; 0 says no difference.
        low, high: the interval of level 1 - 2 alpha, which decides the equivalence test.
        p: of the test that there is no difference, two-sided.
        p_equivalent: of the test that the difference is as large as the margin, or larger.
        margin: the smallest difference that matters, stated before looking.
        alpha: level of both tests.
        n: units in each group.
        detectable: the smallest difference that `p` finds in 80 % of experiments.
        excludable: the smallest margin that 80 % of experiments without a difference exclude.
    """

    name: str
    unit: str
    value: float
    low: float
    high: float
    p: float
    p_equivalent: float
    margin: float
    alpha: float
    n: tuple[int, ...]
    detectable: float
    excludable: float

    @property
    def excluded(self) -> bool:
        """Whether a difference of the margin is excluded: the interval lies within it."""
        return -self.margin < self.low and self.high < self.margin

    @property
    def power(self) -> str:
        """What this sample could have shown, in one sentence."""
        units = " and ".join(map(str, self.n))
        return (
            f"With n = {units} this test finds a difference of {self.detectable:.3g} {self.unit} "
            f"in 80 % of experiments, and excludes one of {self.excludable:.3g} where there is "
            f"none{self._more()}."
        )

    def _more(self) -> str:
        """What n would exclude the margin: errors shrink with the root of n."""
        if self.excludable <= self.margin:
            return ""
        times = (self.excludable / self.margin) ** 2
        return f"; to exclude {self.margin:.3g} takes about {times:.1f} times as many"


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
