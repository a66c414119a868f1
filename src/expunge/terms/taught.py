"""Terms that follow a teacher in one respect: how unsure it is, and where it errs."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from expunge.batch import UNSCORED
from expunge.errors import BadSentence
from expunge.terms.term import Term, check_teacher
from expunge.view import View
from expunge.words import word


@word
class EntropyMatch(Term):
    """Squared difference between the entropies of the model's and a teacher's answers, nats^2.

    Source: fourth prize of the NeurIPS 2023 challenge (Sebastian Oleszko), the regulariser beside
    the cross-entropy (kaggle.com/c/neurips-2023-machine-unlearning/discussion/459148).
    """

    mean_over: ClassVar[str] = "targets"
    reads_labels: ClassVar[tuple[str, ...]] = ()
    set: str
    teacher: str = "original"

    def check(self) -> None:
        check_teacher(self)

    def __call__(self, view: View) -> Tensor:
        ours, theirs = view.logits(self.set), view.teacher(self.teacher, self.set)
        return view.mean_square(self.set, entropies(ours), entropies(theirs))


def entropies(logits: Tensor) -> Tensor:
    """Entropy of each answer, nats: logits [..., k] -> [...]."""
    logp = logits.log_softmax(-1)
    return -(logp.exp() * logp).sum(-1)


@word
class Mistakes(Term):
    """Cross-entropy with a teacher's answer, over the examples that the teacher gets wrong, nats.

    With a teacher that never saw the set, these are pseudo-labels: what a retrained model would
    wrongly say. An example that the teacher gets right adds nothing; a minibatch without a mistake
    is 0.

    Args:
        set: the set that both answer.
        teacher: "taught" (by a `Teach` before), "original" or "random".
        confidence: a mistake counts where the teacher gives its answer at least this probability.

    Source: second half of the fifth prize of the NeurIPS 2023 challenge (marvelworld), part 3 of
    the write-up (kaggle.com/c/neurips-2023-machine-unlearning/discussion/458531).
    """

    set: str
    teacher: str = "taught"
    confidence: float = 0.0

    def check(self) -> None:
        check_teacher(self)
        if not 0 <= self.confidence < 1:
            raise BadSentence(
                f"Mistakes: confidence must be 0 or more and below 1, got {self.confidence}."
            )

    def __call__(self, view: View) -> Tensor:
        right = view.batch(self.set).targets.flatten()
        theirs = view.teacher(self.teacher, self.set).flatten(0, -2)
        sure, said = theirs.softmax(-1).max(-1)
        scored = right != UNSCORED
        wrong = (scored & (said != right) & (sure >= self.confidence)).to(theirs.dtype)
        losses = F.cross_entropy(view.logits(self.set).flatten(0, -2), said, reduction="none")
        return (wrong * losses).sum() / torch.clamp(wrong.sum(), min=1)
