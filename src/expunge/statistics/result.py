"""What the tests of this room return: an interval, and an effect with all that judges it."""

from __future__ import annotations

from dataclasses import dataclass


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
