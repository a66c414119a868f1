"""How much of what the original knows is left: a ratio of differences, by linear contrasts.

With s, o, g the means of unlearned, retrained and original models, recovered = (s - o) / (g - o).
A ratio has no standard error of its own where its denominator is noisy, so every question about it
is asked of s - (1 - r) o - r g, which is 0 where recovered is r.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtrit
from scipy.stats import t as student

from expunge.errors import BadEvidence
from expunge.statistics.power import detectable_mean, excludable_mean
from expunge.statistics.result import Effect, Interval, check_fraction, check_positive, finite_array

FARTHEST = 1e9

ROUNDING = 1e-12


class Contrasts(Protocol):
    """What can be asked for weighted sums of three means: `Groups` of models, or `Facts`."""

    @property
    def units(self) -> tuple[int, ...]:
        """How many independent units there are, of each kind."""
        ...

    def contrast(self, weights: tuple[float, float, float]) -> tuple[float, float, float]:
        """A weighted sum of the means (subject, oracle, original): value, error, freedom."""
        ...


@dataclass(frozen=True)
class Groups:
    """Values of unlearned, retrained and original models, one a model.

    A group of one takes the spread of the retrained models: what one model alone cannot tell.

    Args:
        subject, oracle, original: float [model]; at least two oracles.
        grain: what values are rounded to, such as one step or one example of a share; a spread
            below that of rounding is counted as rounding's. 0 where they are not rounded.

    Raises:
        BadEvidence: an empty group, one oracle only, values that are not finite, or values that
            are all the same where nothing is rounded.
    """

    subject: tuple[float, ...]
    oracle: tuple[float, ...]
    original: tuple[float, ...]
    grain: float = 0.0

    def __post_init__(self) -> None:
        for name, least in (("subject", 1), ("oracle", 2), ("original", 1)):
            finite_array(f"values of {name} models", getattr(self, name), least=least)
        largest = max(map(abs, self.subject + self.oracle + self.original))
        if self._variance(self.oracle) <= (ROUNDING * largest) ** 2:
            raise BadEvidence(
                f"All {len(self.oracle)} retrained models score {self.oracle[0]:g}, so that "
                "their spread is not known; expected models that differ."
            )

    def _variance(self, group: tuple[float, ...]) -> float:
        """Variance over models, at least that of rounding."""
        spread = float(np.var(group, ddof=1)) if len(group) > 1 else 0.0
        return max(spread, self.grain**2 / 12)

    @cached_property
    def _moments(self) -> tuple[tuple[float, float, int], ...]:
        """Mean, variance and number of the models of each group."""
        groups = (self.subject, self.oracle, self.original)
        return tuple((float(np.mean(one)), self._variance(one), len(one)) for one in groups)

    @property
    def units(self) -> tuple[int, ...]:
        """How many models of each group."""
        return len(self.subject), len(self.oracle), len(self.original)

    def contrast(self, weights: tuple[float, float, float]) -> tuple[float, float, float]:
        """A weighted sum of the means (subject, oracle, original): value, error, freedom."""
        value, parts = 0.0, [0.0, 0.0, 0.0]
        for place, (weight, (mean, spread, n)) in enumerate(
            zip(weights, self._moments, strict=True)
        ):
            value += weight * mean
            own = 1 if n == 1 else place
            parts[own] += weight**2 / n * (self._moments[1][1] if n == 1 else spread)
        lost = sum(
            part**2 / max(n - 1, 1) for part, (_, _, n) in zip(parts, self._moments, strict=True)
        )
        return value, math.sqrt(sum(parts)), sum(parts) ** 2 / lost


def gap_p_value(groups: Contrasts) -> float:
    """Return the p-value of the test that originals score as retrained models, two-sided.

    Source: Welch (1947).
    """
    gap, error, freedom = groups.contrast((0.0, -1.0, 1.0))
    return 2 * float(student.sf(abs(gap) / error, freedom))


def compare_recovered(
    groups: Contrasts, *, margin: float, alpha: float = 0.05, name: str = "recovered"
) -> tuple[Interval, Effect]:
    """Return the share of the original's knowledge that is left, and the effect that judges it.

    Where originals and retrained models do not differ at alpha, the share means nothing and
    its interval has no end.

    Args:
        groups: the values.
        margin: the smallest share that matters, above 0.
        alpha: level of each test, and of the interval.
        name: of the audit.

    Returns:
        The interval of level 1 - alpha, and the effect in shares of the gap between original and
        retrained.

    Raises:
        BadEvidence: originals that score exactly as retrained models.
        ExpungeError: alpha outside (0, 0.5), a margin that is not above 0.

    Source: Fieller (1954); Welch (1947); Sasabuchi (1988) for the equivalence test of a ratio.
    """
    check_positive("margin", margin)
    check_fraction("2 alpha", 2 * alpha)
    gap = groups.contrast((0.0, -1.0, 1.0))[0]
    if gap == 0:
        raise BadEvidence("Originals score exactly as retrained models: there is no lead to share.")
    apart, error, freedom = groups.contrast((1.0, -1.0, 0.0))
    place, first = apart / gap, error / abs(gap)

    def z(truth: float) -> tuple[float, float]:
        _, error, freedom = groups.contrast((1.0, truth - 1.0, -truth))
        return (place - truth) * abs(gap) / error, freedom

    def ends(level: float) -> tuple[float, float]:
        def beyond(truth: float) -> float:
            found, freedom = z(truth)
            return abs(found) + float(stdtrit(freedom, level))  # the quantile is below 0

        return _reach(beyond, place, -first), _reach(beyond, place, first)

    n = groups.units
    above, below = float(student.cdf(*z(margin))), float(student.sf(*z(-margin)))
    effect = Effect(
        name, "of the original's lead", place, *ends(alpha),
        2 * float(student.sf(abs(z(0.0)[0]), freedom)), max(above, below), margin, alpha, n,
        detectable_mean(error / abs(gap), freedom, alpha),
        excludable_mean(error / abs(gap), freedom, alpha),
    )  # fmt: skip
    return Interval(place, *ends(alpha / 2), alpha, n[0]), effect


def excludable_recovered(groups: Groups, *, alpha: float = 0.05) -> float:
    """Return the share of the gap that would be excluded if the subjects were retrained models.

    It is known before a subject is looked at, so that leaving out a test without power by it does
    not depend on what the test would have said.
    """
    subjects, oracles, _ = groups.units
    gap = groups.contrast((0.0, -1.0, 1.0))[0]
    spread = groups.contrast((0.0, 1.0, 0.0))[1] * math.sqrt(1 + oracles / subjects)
    return excludable_mean(spread / abs(gap), oracles - 1, alpha) if gap else math.inf


def compare_groups(
    groups: Groups, *, margin: float, alpha: float = 0.05, unit: str = "mean", name: str = "apart"
) -> Effect:
    """Return the difference of unlearned and retrained models in their own unit.

    As `compare_means`, but with the least spread that rounding gives, and for one model too.

    Args, Raises, Source: as for `compare_recovered`.
    """
    check_positive("margin", margin)
    check_fraction("2 alpha", 2 * alpha)
    gap, error, freedom = groups.contrast((1.0, -1.0, 0.0))
    half = float(student.isf(alpha, freedom)) * error
    below = float(student.sf((gap + margin) / error, freedom))
    above = float(student.cdf((gap - margin) / error, freedom))
    return Effect(
        name, unit, gap, gap - half, gap + half, 2 * float(student.sf(abs(gap) / error, freedom)),
        max(below, above), margin, alpha, (len(groups.subject), len(groups.oracle)),
        detectable_mean(error, freedom, alpha), excludable_mean(error, freedom, alpha),
    )  # fmt: skip


def _reach(beyond: Callable[[float], float], start: float, step: float) -> float:
    """Where a function that is below 0 at the start first is 0 on one side, or infinity."""
    inner, outer = start, start + step
    while beyond(outer) < 0:
        if abs(outer - start) > FARTHEST:
            return math.copysign(math.inf, step)
        inner, outer = outer, start + 2 * (outer - start)
    return float(brentq(beyond, inner, outer, xtol=1e-12))
