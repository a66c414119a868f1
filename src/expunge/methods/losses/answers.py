"""Terms on the answers to each example: towards the truth, a teacher, or not knowing."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from expunge.core.term import Term, check_teacher
from expunge.core.view import View
from expunge.core.vocabulary import word
from expunge.errors import BadSentence, Unsupported


@word
class CE(Term):
    """Cross-entropy with the true classes, nats."""

    mean_over: ClassVar[str] = "targets"
    set: str

    def __call__(self, view: View) -> Tensor:
        return F.cross_entropy(view.answers(self.set), view.targets(self.set))


@word
class KL(Term):
    """Divergence of the model from a teacher on one set, KL(teacher || model), nats.

    Args:
        set: the set that both answer.
        teacher: "original" (the model before unlearning) or "random" (freshly initialised).
        temperature: both are softened by it, and the term is scaled by its square.

    Source: Hinton et al., Distilling the Knowledge in a Neural Network, arXiv 1503.02531, 2.
    """

    mean_over: ClassVar[str] = "targets"
    reads_labels: ClassVar[tuple[str, ...]] = ()
    set: str
    teacher: str = "original"
    temperature: float = 1.0

    def check(self) -> None:
        check_teacher(self)
        if self.temperature <= 0:
            raise BadSentence(f"KL: temperature must be above 0, got {self.temperature}.")

    def __call__(self, view: View) -> Tensor:
        ours = (view.answers(self.set) / self.temperature).log_softmax(-1)
        theirs = (view.answers(self.set, self.teacher) / self.temperature).log_softmax(-1)
        return (theirs.exp() * (theirs - ours)).sum(-1).mean() * self.temperature**2


@word
class Uniform(Term):
    """Divergence of the model from the uniform distribution, KL(uniform || model), nats.

    Source: first stage of the winner of the NeurIPS 2023 challenge (fanchuan).
    """

    mean_over: ClassVar[str] = "targets"
    reads_labels: ClassVar[tuple[str, ...]] = ()
    set: str

    def __call__(self, view: View) -> Tensor:
        logp = view.answers(self.set).log_softmax(-1)
        classes = torch.tensor(float(logp.shape[-1]))
        return -logp.mean() - torch.log(classes)


@word
class Relabel(Term):
    """Cross-entropy with a wrong class, drawn once for each example and member, nats.

    The draw is a hash of the example's index and the member's seed: it stays the same over epochs
    and under any order of the minibatches.
    """

    mean_over: ClassVar[str] = "targets"
    draws: ClassVar[bool] = True

    set: str

    def __call__(self, view: View) -> Tensor:
        logits, batch = view.logits(self.set), view.batch(self.set)
        if logits.ndim != 2:
            raise Unsupported("Relabel draws one wrong class an image; on tokens there is none.")
        others = logits.shape[-1] - 1
        if others < 1:
            raise Unsupported("Relabel needs a wrong class to draw, and the model knows one class.")
        shift = 1 + hashed(batch.index, view.seed) % others
        return F.cross_entropy(logits, (batch.targets + shift) % (others + 1))


def hashed(index: Tensor, seed: int | Tensor) -> Tensor:
    """A whole number from 0 to 2^31 - 1 for each index and seed, the same on every machine.

    Source: the finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) on wrapping int64.
    """
    wrapping = torch.as_tensor(seed, device=index.device)  # a plain int would not wrap but overflow
    mixed = index * 0x1E3779B97F4A7C15 + wrapping * 0x3C6EF372FE94F82B + 0x2545F4914F6CDD1D
    mixed = (mixed ^ ((mixed >> 30) & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
    mixed = (mixed ^ ((mixed >> 27) & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
    return (mixed >> 33) & 0x7FFFFFFF


@word
class Repel(Term):
    """Drives the answers on one set away from those on another, by a contrastive loss, nats.

    The mean of -log softmax over the similarities z z'^T / temperature; the answers on `against`
    carry no gradient.

    Source: forget rounds of the winner of the NeurIPS 2023 challenge (fanchuan).
    """

    reads_labels: ClassVar[tuple[str, ...]] = ()
    set: str
    against: str
    temperature: float = 1.15

    def check(self) -> None:
        if self.temperature <= 0:
            raise BadSentence(f"Repel: temperature must be above 0, got {self.temperature}.")

    def __call__(self, view: View) -> Tensor:
        ours, theirs = view.logits(self.set), view.logits(self.against).detach()
        if ours.ndim != 2:
            raise Unsupported(
                f"Repel compares one answer an example, [b, k]; got {tuple(ours.shape)}. "
                "On tokens there are many answers an example."
            )
        return -(ours @ theirs.T / self.temperature).log_softmax(-1).mean()


@word
class Entropy(Term):
    """Entropy of the model's answers, nats; minimise its negative to make the model unsure."""

    mean_over: ClassVar[str] = "targets"
    reads_labels: ClassVar[tuple[str, ...]] = ()
    set: str

    def __call__(self, view: View) -> Tensor:
        logp = view.answers(self.set).log_softmax(-1)
        return -(logp.exp() * logp).sum(-1).mean()


@word
class MSE(Term):
    """Squared distance of the logits from a teacher's, mean over classes and examples."""

    mean_over: ClassVar[str] = "targets"
    reads_labels: ClassVar[tuple[str, ...]] = ()
    set: str
    teacher: str = "original"

    def check(self) -> None:
        check_teacher(self)

    def __call__(self, view: View) -> Tensor:
        return F.mse_loss(view.answers(self.set), view.answers(self.set, self.teacher))


@word
class Flatten(Term):
    """Squared distance of the largest logit from the mean of all, mean over scored answers.

    It is 0 where the answer is uniform. It grows with the square of the logits, so that a retain
    term beside it needs a large weight.

    Source: Entesari et al., Constrained Entropic Unlearning (PDU), arXiv 2506.05314;
    locuslab/open-unlearning@0e57336, pdu.py, which masks by the labels and does not shift them:
    the answer that gives the first scored token is left out, the one after the last counts (fault).
    """

    mean_over: ClassVar[str] = "targets"
    reads_labels: ClassVar[tuple[str, ...]] = ()
    set: str

    def __call__(self, view: View) -> Tensor:
        answers = view.answers(self.set)
        return (answers.amax(-1) - answers.mean(-1)).square().mean()


@word
class L1(Term):
    """Sum of the sizes of all weights that may move.

    Source: Jia et al., Model Sparsity Can Simplify Machine Unlearning, arXiv 2304.04934.
    """

    def __call__(self, view: View) -> Tensor:
        return sum((w.abs().sum() for w in view.weights.values()), torch.tensor(0.0))
