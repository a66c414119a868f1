"""Losses towards what a teacher answers, changed in one respect."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from expunge.core.batch import UNSCORED, Batch, classes_in
from expunge.core.term import Term, check_teacher
from expunge.core.view import View
from expunge.core.vocabulary import word
from expunge.errors import BadSentence
from expunge.methods.losses.answers import above_zero, images_only, is_class
from expunge.methods.losses.likelihood import by_token, rows_of_tokens
from expunge.methods.losses.other_answers import gumbel

if TYPE_CHECKING:
    from expunge.core.run import ProblemProtocol, RunProtocol


@word
class Without(Term):
    """Divergence from a teacher without its true class, KL(teacher without it || model), nats.

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
    """Return the entropy of each answer, nats: logits [..., k] -> [...]."""
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


@word
class Undial(Term):
    """Cross-entropy with a teacher's answers whose true token's logit is `strength` lower, nats.

    It needs the whole distribution, so the original is held in memory beside the model.

    Source: Dong et al., UNDIAL, arXiv 2402.10052;
    locuslab/open-unlearning@19a6141, src/trainer/utils.py (beta 10), which uses the label -100 as
    an index, and counts prompts and padding (fault; nothing unscored counts here).
    """

    mean_over: ClassVar[str] = "targets"
    set: str
    strength: float = 10.0
    teacher: str = "original"

    def check(self) -> None:
        check_teacher(self)

    def __call__(self, view: View) -> Tensor:
        theirs = view.answers(self.set, self.teacher)
        true = view.targets(self.set)[..., None]
        lower = torch.full_like(true, -self.strength, dtype=theirs.dtype)
        wanted = theirs.scatter_add(-1, true, lower).softmax(-1)
        return F.cross_entropy(view.answers(self.set), wanted)


@word
class Generic(Term):
    """Cross-entropy with what the original would say without what the teacher knows better, nats.

    The wanted answer is softmax(v - strength relu(t - v)), where v are the original's logits and t
    those of the teacher "taught", which was trained further on what is to be forgotten.

    Args:
        set: the set to be forgotten.
        strength: alpha of the paper; how much less likely becomes what the teacher raised.

    Source: Eldan and Russinovich, Who's Harry Potter, arXiv 2310.02238, generic predictions;
    swj0419/muse_bench@fcd6651, whos_harry_potter.py, which uses the difference when it answers and
    trains nothing. Their dictionary, which puts common words in the place of names
    before, is left to the data.
    """

    mean_over: ClassVar[str] = "targets"
    reads_labels: ClassVar[tuple[str, ...]] = ()
    set: str
    strength: float = 5.0

    def check(self) -> None:
        above_zero(self, "strength")

    @property
    def teachers(self) -> tuple[str, ...]:
        return ("original", "taught")

    def __call__(self, view: View) -> Tensor:
        base, more = (view.answers(self.set, who) for who in self.teachers)
        wanted = (base - self.strength * F.relu(more - base)).softmax(-1)
        return F.cross_entropy(view.answers(self.set), wanted)


@word
class Reference(Term):
    """Divergence from a teacher's mean answer to unseen examples, KL(mean answer || model), nats.

    The mean is over the minibatch of `against`, weighted so that each class counts as often
    as it occurs in the minibatch of `set`; all examples of that minibatch share it.

    Args:
        set: the set that the model answers.
        against: the unseen examples that the teacher answers.
        teacher: "original" or "random".

    Source: Mirlach et al., ReGUn, arXiv 2603.11210 (the mean that its samples have on average);
    jmirlach/ReGUn@088d6bf samples by class only with selector=class_informed.
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
        return without_shared_class(problem, self.set, self.against)


def without_shared_class(problem: ProblemProtocol, name: str, against: str) -> str:
    """Say as a clause that no class of one set occurs in another; empty when one does."""
    if classes_in(problem.data(name)) & classes_in(problem.data(against)):
        return ""
    return f"no example of {against!r} is of a class that occurs in {name!r}"


@word
class Gumbel(Term):
    """Cross-entropy with a noisy, softened answer of a teacher (Gumbel-softmax), nats.

    Gumbel noise is added to the teacher's logits, new at each minibatch and a hash of the
    example's index; then they are divided by the temperature. Towards temperature 0 this is a class
    sampled as often as the teacher believes in it, and at infinity the uniform distribution.

    Args:
        set: the set that both answer.
        temperature: of the softmax; 0 for the sampled class itself.
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
        noisy = view.teacher(self.teacher, self.set) + gumbel(view, self.set, logits)
        if self.temperature == 0:
            return F.cross_entropy(logits, noisy.argmax(-1))
        wanted = (noisy / self.temperature).softmax(-1)
        return -(wanted * logits.log_softmax(-1)).sum(-1).mean()


@word
class TopKL(Term):
    """Divergence from the original on its likeliest answers, nats (experimental).

    For every scored token the original's `likeliest` answers are kept, 8 + 4 bytes each, computed
    once before training: no second model is held. All other answers count as one, so the loss is at
    most `KL`, and is `KL` where every answer is kept.

    Args:
        set: the set that both answer.
        likeliest: how many answers are kept for each token.
    """

    mean_over: ClassVar[str] = "targets"
    reads_labels: ClassVar[tuple[str, ...]] = ()
    set: str
    likeliest: int = 64

    def check(self) -> None:
        if self.likeliest < 1:
            raise BadSentence(f"TopKL: likeliest must be 1 or more, got {self.likeliest}.")

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        return Counter({self.set: len(problem.data(self.set))})

    def facts(self, run: RunProtocol) -> dict[str, Tensor]:
        """Log p and classes of the likeliest answers to each scored token, [token, likeliest]."""

        def likeliest(batch: Batch) -> dict[str, Tensor]:
            logp = batch.answers(run.original).log_softmax(-1)
            top = logp.topk(min(self.likeliest, logp.shape[-1]))
            return {"logp": top.values, "which": top.indices}

        return by_token(run, self.set, likeliest)

    def __call__(self, view: View) -> Tensor:
        known, logits = view.facts(self), view.logits(self.set)
        rows = rows_of_tokens(known, view.batch(self.set))
        theirs, which = known["logp"][rows], known["which"][rows]
        ours = logits.log_softmax(-1).gather(-1, which)
        each = (theirs.exp() * (theirs - ours)).sum(-1)
        if which.shape[-1] < logits.shape[-1]:
            # what all other answers together add to the divergence
            tiny = torch.finfo(ours.dtype).tiny
            left, kept = ((1 - p.exp().sum(-1)).clamp_min(tiny) for p in (theirs, ours))
            each = each + left * (left.log() - kept.log())
        return view.mean(self.set, each)


@word
class Predicted(Term):
    """Squared distance of the logits from those that linear datamodels predict without the set.

    The prediction is the original's answer less what the whole forget set adds to it, estimated by
    ridge regression over models that were trained on random halves of the retain set with random
    shares of the forget set. It costs about `models` times half a retraining; the receipt counts
    that in full for each seed, though the seeds of one original share it.

    Args:
        set: the forget set, whose answers are predicted.
        against: the retain set.
        models: how many are trained for the regression; the authors train thousands.
        ridge: penalty of the regression, as a share of the mean diagonal of its Gram matrix.

    Source: Georgiev et al., Attribute-to-Delete, arXiv 2410.23232 (datamodel matching);
    Ilyas et al., Datamodels, arXiv 2202.00622, with ridge regression for their lasso, and shares
    from none to all for their fixed one.
    """

    mean_over: ClassVar[str] = "examples"
    reads_labels: ClassVar[tuple[str, ...]] = ("forget", "retain")

    set: str = "forget"
    against: str = "retain"
    models: int = 64
    ridge: float = 0.1

    def check(self) -> None:
        if self.models < 2 or self.ridge < 0:
            raise BadSentence("Predicted: models must be 2 or more, and ridge 0 or more.")
        if (self.set, self.against) != ("forget", "retain"):
            raise BadSentence("Predicted: datamodels are of the sets 'forget' and 'retain' alone.")

    @property
    def sets(self) -> tuple[str, ...]:
        return (self.set,)

    def unfit(self, problem: ProblemProtocol) -> str:
        from expunge.engine import datamodels

        return datamodels.refusal(problem, self.models)

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        from expunge.engine import datamodels

        return datamodels.cost(problem, self.models) + Counter(
            {self.set: len(problem.data(self.set))}
        )

    def facts(self, run: RunProtocol) -> dict[str, Tensor]:
        from expunge.engine import datamodels

        inside, answered = datamodels.outcomes(run, self.models)
        added = datamodels.added_by_all(inside, answered, self.ridge)
        data = run.data(self.set)
        index, order = data.batch(torch.arange(len(data))).index.sort()
        now = datamodels.answers(run, run.original, self.set)
        device = next(run.original.parameters()).device
        return {"index": index.to(device), "answers": (now - added)[order].to(device)}

    def __call__(self, view: View) -> Tensor:
        known, logits = view.facts(self), view.logits(self.set)
        rows = torch.searchsorted(known["index"], view.batch(self.set).index)
        return F.mse_loss(logits, known["answers"][rows])
