"""Evidence: what many models answer on fixed examples, as arrays, so that metrics need no model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from expunge.errors import BadEvidence, did_you_mean


@dataclass(frozen=True, eq=False)
class Evidence:
    """Answers of `model` models on `example` examples that are sorted by set.

    Args:
        logits: float32 [model, example, class], before the softmax.
        targets: int64 [example], the right class of each example.
        sets: name of a set -> its rows on the example axis ("retain", "forget", "test" ...).

    Raises:
        BadEvidence: shapes that do not match, a target out of range, a logit that is not finite.
    """

    logits: np.ndarray
    targets: np.ndarray
    sets: Mapping[str, slice]

    def __post_init__(self) -> None:
        if self.logits.ndim != 3 or self.targets.shape != (self.logits.shape[1],):
            raise BadEvidence(
                f"Got logits {self.logits.shape} and targets {self.targets.shape}; "
                "expected [model, example, class] and [example]."
            )
        classes = self.logits.shape[2]
        if self.targets.size and not 0 <= self.targets.min() <= self.targets.max() < classes:
            raise BadEvidence(f"Targets must lie between 0 and {classes - 1}.")
        if not np.isfinite(self.logits).all():
            bad = int((~np.isfinite(self.logits)).any(axis=(1, 2)).sum())
            raise BadEvidence(f"{bad} of {len(self)} models answer with NaN or infinite logits.")

    def __len__(self) -> int:
        return self.logits.shape[0]

    def on(self, name: str) -> Evidence:
        """Return what the same models answer on one set alone.

        Raises:
            BadEvidence: there is no set of this name.
        """
        if name not in self.sets:
            raise BadEvidence(f"No set {name!r} here.{did_you_mean(name, self.sets)}")
        rows = self.sets[name]
        targets = self.targets[rows]
        return Evidence(self.logits[:, rows], targets, {name: slice(0, len(targets))})

    def models(self, index: np.ndarray | slice) -> Evidence:
        """Return what some of the models answer, on the same examples."""
        return Evidence(self.logits[index], self.targets, self.sets)
