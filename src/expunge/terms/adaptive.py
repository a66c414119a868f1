"""Terms that weigh examples by what the model makes of them now."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from expunge.errors import BadSentence
from expunge.terms.targets import images_only
from expunge.terms.term import Term
from expunge.view import View
from expunge.words import word


@word
class AdaptiveCE(Term):
    """Cross-entropy, each example weighed by 1 / loss^power, the weights summing to 1, nats.

    No slope passes through the weights. With a minus sign, forgetting dwells on what is still
    remembered, and leaves alone what is forgotten already.

    Source: Huang et al., SFR-on, arXiv 2409.19732 (lambda, 0.5);
    K1nght/Unified-Unlearning-w-Remain-Geometry@1837bf6, sfron.py, AdaptiveLoss.
    """

    set: str
    power: float = 0.5

    def check(self) -> None:
        if self.power < 0:
            raise BadSentence(f"AdaptiveCE: power must be 0 or more, got {self.power}.")

    def __call__(self, view: View) -> Tensor:
        logits = images_only(self, view)
        losses = F.cross_entropy(logits, view.batch(self.set).targets, reduction="none")
        shares = torch.softmax(-self.power * losses.detach().clamp_min(1e-15).log(), 0)
        return (shares * losses).sum()
