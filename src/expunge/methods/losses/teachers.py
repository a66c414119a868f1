"""Terms that follow a teacher in one respect: how unsure it is, and where it errs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from expunge.core.batch import UNSCORED, chunk_of
from expunge.core.term import Term, check_teacher
from expunge.core.view import View
from expunge.core.vocabulary import word
from expunge.errors import BadSentence

if TYPE_CHECKING:
    from expunge.core.run import ProblemProtocol, RunProtocol


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


@word
class Predicted(Term):
    """Squared distance of the logits from those that linear datamodels predict without the set.

    The prediction is the original's answer less what the whole forget set adds to it, estimated by
    ridge regression over models that were trained on random halves of the retain set with random
    shares of the forget set. Its cost is about `models` times half a retraining: it is counted in
    full for each member, though the members of one original share it.

    Args:
        set: the forget set, whose answers are predicted.
        against: the retain set.
        models: trained to tell who adds what; the authors train thousands.
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


CHUNK = 512


@word
class TopKL(Term):
    """Divergence from the original on its likeliest answers and the rest together, nats.

    For every scored token the original's `likeliest` answers are kept, 8 + 4 bytes each, worked out
    once before training: no second model is held, and none is asked again. All other answers count
    as one, so that the term is at most `KL`, and is `KL` where every answer is kept.

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

    @torch.no_grad()
    def facts(self, run: RunProtocol) -> dict[str, Tensor]:
        """Log p and numbers of the likeliest answers, [token, likeliest], all tokens in a row.

        Those of the example `index[i]`, of which there are sorted ones, begin at `first[i]`.
        """
        data, device = run.data(self.set), next(run.original.parameters()).device
        logps, which, counts, index = [], [], [], []
        for rows in torch.arange(len(data)).split(chunk_of(data, CHUNK)):
            batch = data.batch(rows).to(device)
            logp = batch.answers(run.original).log_softmax(-1)
            scored = torch.ones_like(batch.targets).bool() if batch.scored is None else batch.scored
            top = logp.topk(min(self.likeliest, logp.shape[-1]))
            logps.append(top.values)
            which.append(top.indices)
            counts.append(scored.reshape(len(batch), -1).sum(1))
            index.append(batch.index)
        run.counts.add({self.set: len(data)})
        many, numbers = torch.cat(counts), torch.cat(index)
        order = numbers.argsort()
        first = (many.cumsum(0) - many)[order]
        return {
            "logp": torch.cat(logps),
            "which": torch.cat(which),
            "index": numbers[order],
            "first": first,
        }

    def __call__(self, view: View) -> Tensor:
        known, batch, logits = view.facts(self), view.batch(self.set), view.logits(self.set)
        first = known["first"][torch.searchsorted(known["index"], batch.index)]
        if batch.scored is None:
            place = first
        else:  # the number of a scored token in its text; what is not scored asks for the first
            inside = (batch.scored.cumsum(-1) - 1) * batch.scored
            place = first[:, None] + inside
        theirs, which = known["logp"][place], known["which"][place]
        ours = logits.log_softmax(-1).gather(-1, which)
        each = (theirs.exp() * (theirs - ours)).sum(-1)
        if which.shape[-1] < logits.shape[-1]:
            each = each + _of_the_rest(theirs, ours)
        return view.mean(self.set, each)


def _of_the_rest(theirs: Tensor, ours: Tensor) -> Tensor:
    """What all other answers together add to the divergence."""
    tiny = torch.finfo(ours.dtype).tiny
    left, kept = ((1 - logp.exp().sum(-1)).clamp_min(tiny) for logp in (theirs, ours))
    return left * (left.log() - kept.log())
