"""Losses on the model's answers: towards the truth, towards a teacher, or towards not knowing."""

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
        teacher: "original" (the model before unlearning), "random" (freshly initialised), "taught"
            (made by `Teach` or `Remember`) or "oracle" (retrained).
        temperature: both are softened by it, and the loss is multiplied by its square.

    Source: Hinton et al., Distilling the Knowledge in a Neural Network, arXiv 1503.02531, 2.
    """

    mean_over: ClassVar[str] = "targets"
    reads_labels: ClassVar[tuple[str, ...]] = ()
    set: str
    teacher: str = "original"
    temperature: float = 1.0

    def check(self) -> None:
        check_teacher(self)
        above_zero(self, "temperature")

    def __call__(self, view: View) -> Tensor:
        ours = (view.answers(self.set) / self.temperature).log_softmax(-1)
        theirs = (view.answers(self.set, self.teacher) / self.temperature).log_softmax(-1)
        return (theirs.exp() * (theirs - ours)).sum(-1).mean() * self.temperature**2


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
class Entropy(Term):
    """Entropy of the model's answers, nats (experimental).

    Minimise its negative to make the model unsure.
    """

    mean_over: ClassVar[str] = "targets"
    reads_labels: ClassVar[tuple[str, ...]] = ()
    set: str

    def __call__(self, view: View) -> Tensor:
        logp = view.answers(self.set).log_softmax(-1)
        return -(logp.exp() * logp).sum(-1).mean()


@word
class Flatten(Term):
    """Squared distance of the largest logit from the mean of all, mean over scored answers.

    It is 0 where the answer is uniform. It grows with the square of the logits, so a retain loss
    beside it needs a large weight.

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
class Repel(Term):
    """Contrastive similarity of the answers on one set to those on another, nats.

    It is the mean of -log softmax over the similarities z z'^T / temperature. Minimising it makes
    the answers on `set` equally unlike all those on `against`, which carry no gradient.

    Args:
        set: the set whose answers move.
        against: the set whose answers are compared with.
        temperature: of the softmax, above 0.

    Source: forget rounds of the winner of the NeurIPS 2023 challenge (fanchuan).
    """

    reads_labels: ClassVar[tuple[str, ...]] = ()
    set: str
    against: str
    temperature: float = 1.15

    def check(self) -> None:
        above_zero(self, "temperature")

    def __call__(self, view: View) -> Tensor:
        ours, theirs = view.logits(self.set), view.logits(self.against).detach()
        if ours.ndim != 2:
            raise Unsupported(
                f"Repel compares one answer an example, [b, k]; got {tuple(ours.shape)}. "
                "On tokens there are many answers an example."
            )
        return -(ours @ theirs.T / self.temperature).log_softmax(-1).mean()


@word
class Tempered(Term):
    """Cross-entropy of the logits divided by `temperature` with the true classes, nats.

    Source: retain term of Cotogni et al., DUCK, arXiv 2312.02052 (authors' temperature 2).
    """

    mean_over: ClassVar[str] = "targets"
    set: str
    temperature: float = 2.0

    def check(self) -> None:
        above_zero(self, "temperature")

    def __call__(self, view: View) -> Tensor:
        logits, targets = view.logits(self.set), view.batch(self.set).targets
        return F.cross_entropy(logits.flatten(0, -2) / self.temperature, targets.flatten())


@word
class AdaptiveCE(Term):
    """Cross-entropy, each example weighted by 1 / loss^`power`, the weights summing to 1, nats.

    No gradient passes through the weights. With a minus sign, forgetting works on what is still
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


@word
class L1(Term):
    """Sum of the absolute values of all weights that may move.

    Source: Jia et al., Model Sparsity Can Simplify Machine Unlearning, arXiv 2304.04934.
    """

    def __call__(self, view: View) -> Tensor:
        return sum((w.abs().sum() for w in view.weights.values()), torch.tensor(0.0))


def is_class(targets: Tensor, classes: int) -> Tensor:
    """Mark each answer's target class, bool [b, *t, classes]; all False where nothing is scored."""
    return targets[..., None] == torch.arange(classes, device=targets.device)


def images_only(term: Term, view: View) -> Tensor:
    """Return the model's answers to a term's first set, [b, k].

    Raises:
        Unsupported: there is more than one answer an example, as on tokens.
    """
    logits = view.logits(term.sets[0])
    if logits.ndim != 2:
        raise Unsupported(
            f"{type(term).__name__} needs one answer an example, [b, k]; got {tuple(logits.shape)}."
        )
    return logits


def above_zero(term: Term, name: str) -> None:
    """Refuse a term one of whose numbers is 0 or less."""
    if (number := getattr(term, name)) <= 0:
        raise BadSentence(f"{type(term).__name__}: {name} must be above 0, got {number}.")
