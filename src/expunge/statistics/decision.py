"""Several tests at once: Holm's correction over a family of named tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from expunge.errors import BadEvidence
from expunge.statistics.power import larger_family
from expunge.statistics.result import Effect, Floats, check_fraction, finite_array


def holm(p: ArrayLike) -> Floats:
    """Return p-values that may each be held against alpha, whatever the tests share.

    With m tests sorted by p, the i-th becomes the largest of (m - j + 1) p_j over j <= i, at most
    1. The chance that any true null hypothesis falls is then at most alpha.

    Args:
        p: float [test], each from 0 to 1.

    Raises:
        BadEvidence: no p-values, or some outside [0, 1].

    Source: Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    found = finite_array("p-values", p)
    if not ((found >= 0) & (found <= 1)).all():
        raise BadEvidence(f"Got p-values {found}; expected numbers from 0 to 1.")
    order = np.argsort(found, kind="stable")
    stepped = np.maximum.accumulate(found[order] * np.arange(len(found), 0, -1))
    adjusted = np.empty_like(found)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


@dataclass(frozen=True)
class Family:
    """Tests that are read together, by name.

    Args:
        names: of the tests, no two alike.
        p: their p-values, in the same order.

    Raises:
        BadEvidence: names that repeat or do not match, p-values outside [0, 1].
    """

    names: tuple[str, ...]
    p: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names) or len(self.names) != len(self.p):
            raise BadEvidence(
                f"Got tests {self.names} and {len(self.p)} p-values; expected one p-value for "
                "each name, and no name twice."
            )
        holm(self.p)

    @property
    def adjusted(self) -> dict[str, float]:
        """P-values after Holm, by name."""
        return dict(zip(self.names, map(float, holm(self.p)), strict=True))

    def found(self, alpha: float = 0.05) -> tuple[str, ...]:
        """Names of the tests that reject, with a family-wise error of at most alpha."""
        check_fraction("alpha", alpha)
        return tuple(name for name, p in self.adjusted.items() if p <= alpha)


Word = Literal["excluded", "found", "inconclusive"]


@dataclass(frozen=True)
class Decision:
    """A word, why, and what the sample could have shown.

    Args:
        word: "excluded", "found" or "inconclusive".
        reason: one sentence with the numbers that decided.
        power: what this many units find or exclude, and how many more would decide.
    """

    word: Word
    reason: str
    power: str


def decide(effects: Sequence[Effect], *, alpha: float = 0.05) -> Decision:
    """Return the verdict on effects that are read together.

    - *excluded*: every effect is shown to be smaller than its margin. Each test is at alpha: all
      must agree, so many tests make this harder, never easier.
    - *found*: some effect is shown after Holm's correction over all of them.
    - *inconclusive*: neither. Too little was seen to say that there is nothing.

    An effect that is there but smaller than its margin counts as excluded, and the reason says so.

    Args:
        effects: one for each attack or measure, with margins stated before looking.
        alpha: the chance of a wrong *found*, and that of a wrong *excluded*.

    Raises:
        BadEvidence: no effects, names that repeat, effects made for another alpha.
        ExpungeError: alpha outside (0, 1).
    """
    check_fraction("alpha", alpha)
    if not effects or any(one.alpha != alpha for one in effects):
        raise BadEvidence(
            f"Got effects of alpha {[one.alpha for one in effects]}; expected at least one, and "
            f"each made with alpha={alpha}."
        )
    family = Family(tuple(one.name for one in effects), tuple(one.p for one in effects))
    kept = [one for one in effects if not one.excluded]
    shown = [one for one in kept if one.name in family.found(alpha)]
    if not kept:
        return Decision("excluded", _excluded(effects, family, alpha), _power(effects, alpha))
    if shown:
        return Decision("found", _found(shown, family, alpha), _power(shown, alpha, len(effects)))
    return Decision("inconclusive", _open(kept, family), _power(kept, alpha, len(effects)))


def _excluded(effects: Sequence[Effect], family: Family, alpha: float) -> str:
    """Why nothing of the margin's size is left."""
    nearest = max(effects, key=lambda one: one.p_equivalent)
    there = family.found(alpha)
    small = f" A smaller effect is there: {', '.join(there)}." if there else ""
    return (
        f"Effects as large as the margin are excluded in {_tests(len(effects))}; the nearest is "
        f"{_numbers(nearest)}, margin {nearest.margin:g}, p {nearest.p_equivalent:.2g}.{small}"
    )


def _found(shown: Sequence[Effect], family: Family, alpha: float) -> str:
    """Which effects are shown."""
    adjusted = family.adjusted
    told = "; ".join(
        f"{_numbers(one)}, p {adjusted[one.name]:.2g}"
        for one in sorted(shown, key=lambda one: adjusted[one.name])
    )
    return f"Shown at {alpha:g} after Holm over {_tests(len(family.names))}: {told}."


def _open(kept: Sequence[Effect], family: Family) -> str:
    """Why neither can be said."""
    widest = max(kept, key=lambda one: one.p_equivalent)
    return (
        f"No effect is shown (smallest p {min(family.adjusted.values()):.2g} after Holm over "
        f"{_tests(len(family.names))}), but one as large as the margin is not excluded either: "
        f"{_numbers(widest)}, margin {widest.margin:g}."
    )


def _numbers(effect: Effect) -> str:
    """An effect with its interval."""
    sure = 100 * (1 - 2 * effect.alpha)
    return (
        f"{effect.name} {effect.value:.3g} {effect.unit} "
        f"({sure:g} % interval {effect.low:.3g} to {effect.high:.3g})"
    )


def _power(effects: Sequence[Effect], alpha: float, tests: int = 1) -> str:
    """The power of the test that could show least, and what the correction costs."""
    weakest = max(effects, key=lambda one: one.excludable / one.margin)
    price = larger_family(alpha, tests)
    after = "" if tests < 2 else f" Holm over {tests} tests needs an effect {price:.2f} times that."
    return f"{weakest.name}: {weakest.power}{after}"


def _tests(number: int) -> str:
    """A count of tests in words."""
    return "1 test" if number == 1 else f"{number} tests"
