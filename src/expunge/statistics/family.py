"""Several tests at once: Holm's correction over a family of named tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from expunge.errors import BadEvidence
from expunge.statistics.checks import Floats, inside, values


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
    found = values("p-values", p)
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
        inside("alpha", alpha)
        return tuple(name for name, p in self.adjusted.items() if p <= alpha)
