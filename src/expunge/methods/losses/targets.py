"""Terms towards other answers than the true ones: drawn, masked, or those to unseen examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from expunge.core.batch import classes_in
from expunge.core.term import Term, check_teacher
from expunge.core.view import View
from expunge.core.vocabulary import word
from expunge.errors import BadSentence, Unsupported
from expunge.methods.losses.answers import hashed

if TYPE_CHECKING:
    from expunge.core.run import ProblemProtocol


@word
class Tempered(Term):
    """Cross-entropy of the logits divided by a temperature with the true classes, nats.

    Source: retain term of Cotogni et al., DUCK, arXiv 2312.02052 (authors' temperature 2).
    """

    mean_over: ClassVar[str] = "targets"
    set: str
    temperature: float = 2.0

    def check(self) -> None:
        _above_zero(self)

    def __call__(self, view: View) -> Tensor:
        logits, targets = view.logits(self.set), view.batch(self.set).targets
        return F.cross_entropy(logits.flatten(0, -2) / self.temperature, targets.flatten())


@word
class AnyClass(Term):
    """Cross-entropy with a class drawn evenly from all, anew for each minibatch, nats.

    The drawn class can be the true one; `Relabel` draws a wrong class, and draws it once.

    Source: Unlearn-Saliency's RL for CIFAR-10, OPTML-Group/Unlearn-Saliency@a6e89fd, RL.py.
    """

    mean_over: ClassVar[str] = "targets"
    draws: ClassVar[bool] = True
    reads_labels: ClassVar[tuple[str, ...]] = ()

    set: str

    def __call__(self, view: View) -> Tensor:
        logits = images_only(self, view)
        drawn = hashed_now(view, self.set) % logits.shape[-1]
        return F.cross_entropy(logits, drawn)


@word
class OneClass(Term):
    """Cross-entropy with one class for all examples, nats.

    Args:
        set: the set that is answered.
        label: the class; -1 is the model's last output.
    """

    mean_over: ClassVar[str] = "targets"
    reads_labels: ClassVar[tuple[str, ...]] = ()

    set: str
    label: int = -1

    def __call__(self, view: View) -> Tensor:
        logp = view.logits(self.set).log_softmax(-1)
        return -view.mean(self.set, logp[..., self.label])


@word
class Without(Term):
    """Divergence from a teacher that has lost the true class, KL(teacher without it || model).

    The teacher's logit of the true class is set to minus infinity, so that its other classes share
    what that class had, in their old proportions.

    Source: Zhou et al., DELETE, arXiv 2503.23751; shaaaaron/DELETE@60018a1.
    """

    mean_over: ClassVar[str] = "targets"
    set: str
    teacher: str = "original"

    def check(self) -> None:
        check_teacher(self)

    def __call__(self, view: View) -> Tensor:
        logits = view.logits(self.set)
        true = is_class(view.batch(self.set).targets, logits.shape[-1])
        kept = view.teacher(self.teacher, self.set).masked_fill(true, -torch.inf).softmax(-1)
        # xlogy is 0 at 0, where p log p would be NaN
        divergence = torch.special.xlogy(kept, kept) - kept * logits.log_softmax(-1)
        return view.mean(self.set, divergence.sum(-1))


@word
class Gumbel(Term):
    """Cross-entropy with a noisy, softened answer of a teacher (Gumbel-softmax), nats.

    Gumbel noise is added to the teacher's logits, anew for each minibatch and as a hash of the
    example's index; then they are divided by the temperature. Towards temperature 0 this is a class
    drawn as often as the teacher believes in it, and at infinity the uniform distribution.

    Args:
        set: the set that both answer.
        temperature: of the softmax; 0 for the drawn class itself.
        teacher: "original" or "random".

    Source: Jang et al., Gumbel-Softmax, arXiv 1611.01144, equation 2; used by LoTUS,
    arXiv 2503.18314, cspartalis/LoTUS@35ae25e.
    """

    mean_over: ClassVar[str] = "targets"
    draws: ClassVar[bool] = True
    reads_labels: ClassVar[tuple[str, ...]] = ()

    set: str
    temperature: float = 1.0
    teacher: str = "original"

    def check(self) -> None:
        check_teacher(self)
        if self.temperature < 0:
            raise BadSentence(f"Gumbel: temperature must be 0 or more, got {self.temperature}.")

    def __call__(self, view: View) -> Tensor:
        logits = images_only(self, view)
        noisy = view.teacher(self.teacher, self.set) + _gumbel(view, self.set, logits)
        if self.temperature == 0:
            return F.cross_entropy(logits, noisy.argmax(-1))
        wanted = (noisy / self.temperature).softmax(-1)
        return -(wanted * logits.log_softmax(-1)).sum(-1).mean()


def _gumbel(view: View, name: str, logits: Tensor) -> Tensor:
    """Gumbel noise for each example and class, float of the logits' kind."""
    classes = torch.arange(logits.shape[-1], device=logits.device)
    drawn = hashed(hashed_now(view, name)[:, None] + classes, 0)
    # in double precision, since in single the largest shares would round to 1 and the noise to inf
    even = (drawn.double() + 0.5) / 2**31
    return -(-even.log()).log().to(logits)


def hashed_now(view: View, name: str) -> Tensor:
    """A whole number for each example of a minibatch, another one at every minibatch."""
    moment = int(view.progress * 2**40)
    return hashed(hashed(view.batch(name).index, view.seed), moment)


@word
class Reference(Term):
    """Divergence from a teacher's mean answer to unseen examples, KL(mean answer || model), nats.

    The mean is taken over the minibatch of `against`, weighted so that each class counts as often
    as it occurs in the minibatch of `set`; all examples of that minibatch share it.

    Source: Mirlach et al., ReGUn, arXiv 2603.11210 (the mean that its draws have on average);
    jmirlach/ReGUn@088d6bf draws by class only with selector=class_informed.
    """

    set: str
    against: str = "val"
    teacher: str = "original"

    def check(self) -> None:
        check_teacher(self)

    @property
    def asks(self) -> tuple[tuple[str, str], ...]:
        return (("", self.set), (self.teacher, self.against))

    def __call__(self, view: View) -> Tensor:
        logits = images_only(self, view)
        ours = is_class(view.batch(self.set).targets, logits.shape[-1]).double().mean(0)
        unseen = is_class(view.batch(self.against).targets, logits.shape[-1]).double()
        weights = unseen @ (ours / unseen.sum(0).clamp_min(1))
        shares = (weights / weights.sum().clamp_min(1e-12)).to(logits)
        mean = shares @ view.teacher(self.teacher, self.against).softmax(-1)
        return (torch.special.xlogy(mean, mean) - mean * logits.log_softmax(-1)).sum(-1).mean()

    def unfit(self, problem: ProblemProtocol) -> str:
        """Why it cannot work on a problem; empty when it can."""
        ours, theirs = (classes_in(problem.data(name)) for name in (self.set, self.against))
        if ours & theirs:
            return ""
        return f"no example of {self.against!r} is of a class that occurs in {self.set!r}"


def is_class(targets: Tensor, classes: int) -> Tensor:
    """True where a class is the target, bool [b, *t, classes]; nowhere if nothing is scored."""
    return targets[..., None] == torch.arange(classes, device=targets.device)


def images_only(term: Term, view: View) -> Tensor:
    """The model's answers [b, k] to a term's set.

    Raises:
        Unsupported: there is more than one answer an example, as on tokens.
    """
    logits = view.logits(term.sets[0])
    if logits.ndim != 2:
        raise Unsupported(
            f"{type(term).__name__} needs one answer an example, [b, k]; got {tuple(logits.shape)}."
        )
    return logits


def _above_zero(term: Tempered) -> None:
    if term.temperature <= 0:
        raise BadSentence(f"Tempered: temperature must be above 0, got {term.temperature}.")


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
