"""Cross-entropy with a weight for each class."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from expunge.batch import all_targets
from expunge.errors import BadSentence
from expunge.terms.term import Term
from expunge.view import View
from expunge.words import word

if TYPE_CHECKING:
    from expunge.unlearn import Run


@word
class WeightedCE(Term):
    """Cross-entropy with a weight for each class, over the sum of the weights, nats.

    Args:
        set: the set whose true classes it wants.
        weights: of class 0, 1 and so on; the last holds for all further classes.

    Source: third prize of the NeurIPS 2023 challenge (Seif): 1 for class 0, the youngest and by far
    the largest, 0.05 for the others.
    """

    set: str
    weights: tuple[float, ...] = (1.0, 0.05)

    def check(self) -> None:
        if not self.weights or min(self.weights) <= 0:
            raise BadSentence(
                f"WeightedCE: expected weights above 0, one for each class (the last for all "
                f"further ones), got {self.weights}."
            )

    def __call__(self, view: View) -> Tensor:
        classes = view.logits(self.set).shape[-1]
        last = len(self.weights) - 1
        return weighted(view, self.set, [self.weights[min(c, last)] for c in range(classes)])


@word
class BalancedCE(Term):
    """Cross-entropy with class weights count^power, over the sum of the weights, nats.

    Args:
        set: the set whose true classes it wants, and whose classes are counted.
        power: -1 gives every class the same weight in all, 0 every example.

    Source: fourth prize of the NeurIPS 2023 challenge (Sebastian Oleszko), power -0.1.
    """

    reads_whole_sets: ClassVar[bool] = True
    set: str
    power: float = -0.1

    def facts(self, run: Run) -> dict[str, Tensor]:
        # the targets alone are read, no input: nothing for the ledger
        classes = run.problem.class_count
        return {"counts": torch.bincount(all_targets(run.data(self.set)), minlength=classes)}

    def __call__(self, view: View) -> Tensor:
        counts, classes = view.facts(self)["counts"], view.logits(self.set).shape[-1]
        padded = F.pad(counts, (0, max(0, classes - counts.shape[-1])))[:classes]
        # a class without examples has no target, so that any weight will do
        return weighted(view, self.set, padded.clamp_min(1).double() ** self.power)


def weighted(view: View, name: str, weights: Tensor | list[float]) -> Tensor:
    """Cross-entropy on one set with class weights [k]: sum of w loss, over sum of w."""
    logits, targets = view.logits(name), view.batch(name).targets
    each = torch.as_tensor(weights, dtype=logits.dtype, device=logits.device)
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten(), weight=each)
