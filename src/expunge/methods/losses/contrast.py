"""Terms that set an answer against another: a template, a stranger's answer, a generic one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from expunge.core.batch import UNSCORED, Batch, Tokens
from expunge.core.term import Term
from expunge.core.view import View
from expunge.core.vocabulary import word
from expunge.errors import BadSentence, Unsupported, did_you_mean
from expunge.methods.losses.answers import hashed
from expunge.methods.losses.likelihood import instead, without_other_answers
from expunge.methods.losses.representation import no_tokens

if TYPE_CHECKING:
    from expunge.core.run import ProblemProtocol


# A divergence -> what is gained by probability of the template, and lost by that of the truth.
Pair = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]


LN2 = 0.6931471805599453


DIVERGENCES: dict[str, Pair] = {
    "tv": (lambda p: torch.tanh(p) / 2, lambda p: torch.tanh(p) / 2),
    "kl": (lambda p: p, lambda p: torch.exp(p - 1)),
    "js": (lambda p: LN2 - F.softplus(-p), lambda p: p + F.softplus(-p) - LN2),
    "pearson": (lambda p: p, lambda p: p.square() / 4 + p),
}


@word
class FLAT(Term):
    """Loss adjustment: -(g(P of the other answer) - f*(g(P of the true answer))), mean.

    P is the mean probability of an answer's tokens, g and f* belong to an f-divergence, and the
    other answers are the data's own (`of_pairs(..., instead=...)`). No retain set is read.

    Args:
        set: the set to be forgotten.
        divergence: "tv" (total variation), "kl", "js" or "pearson".

    Source: Wang et al., LLM Unlearning via Loss Adjustment with Only Forget Data, arXiv 2410.11143;
    UCSC-REAL/FLAT@bf2ef07, dataloader.py, which takes the mean over padding and prompts too, and
    over the minibatch before g (faults). Its reverse KL, squared Hellinger and Neyman go the wrong
    way (they raise the true answer), and are not here.
    """

    mean_over: ClassVar[str] = "examples"
    set: str
    divergence: str = "tv"

    def check(self) -> None:
        if self.divergence not in DIVERGENCES:
            known, hint = ", ".join(DIVERGENCES), did_you_mean(self.divergence, DIVERGENCES)
            raise BadSentence(
                f"FLAT: no divergence {self.divergence!r}; expected one of {known}.{hint}"
            )

    @property
    def extra_passes(self) -> int:
        return 1

    def unfit(self, problem: ProblemProtocol) -> str:
        """Why it cannot work on a problem; empty when it can."""
        return without_other_answers(problem, self.set)

    def __call__(self, view: View) -> Tensor:
        gain, loss = DIVERGENCES[self.divergence]
        theirs = mean_probability(view.seeing("instead", instead), self.set)
        return (loss(mean_probability(view, self.set)) - gain(theirs)).mean()


def mean_probability(view: View, name: str) -> Tensor:
    """The mean probability of the scored tokens of each example, [b]."""
    sure, scored = (-view.losses(name)).exp(), view.batch(name).scored
    if scored is None:
        return sure
    return torch.where(scored, sure, 0.0).sum(-1) / scored.sum(-1).clamp_min(1)


@word
class RandomAnswers(Term):
    """Cross-entropy with answers to other questions, put after the prompts of a set, nats.

    The answers are those of the minibatch of `against`, drawn anew for each example and minibatch
    by a hash of its index, the member's seed and the progress.

    Args:
        set: the set whose prompts are asked.
        against: the set whose answers are given.
        answers: to each prompt.

    Source: Yao, Xu and Liu, Large Language Model Unlearning, arXiv 2310.10683;
    kevinyaobytedance/llm_unlearn@647f309, utils.py (5), which scores the prompts too from the
    third token on (it takes the number of a dictionary's keys for a length), and leaves out the
    token 1 wherever it stands (faults).
    """

    draws: ClassVar[bool] = True
    set: str
    against: str
    answers: int = 5

    def check(self) -> None:
        if self.answers < 1:
            raise BadSentence(f"RandomAnswers: answers must be 1 or more, got {self.answers}.")

    @property
    def asks(self) -> tuple[tuple[str, str], ...]:
        return (("", self.set),)

    @property
    def extra_passes(self) -> int:
        return self.answers - 1

    @property
    def alters(self) -> str:
        return repr(self)

    def unfit(self, problem: ProblemProtocol) -> str:
        """Why it cannot work on a problem; empty when it can."""
        return next(filter(None, (no_tokens(problem, name) for name in self.sets)), "")

    def __call__(self, view: View) -> Tensor:
        theirs, salt = view.batch(self.against), int(view.progress * 2**40)

        def asked(batch: Batch) -> Batch:
            if not isinstance(batch, Tokens) or not isinstance(theirs, Tokens):
                raise Unsupported("RandomAnswers puts other answers after prompts; give it texts.")
            keys = [hashed(batch.index, view.seed + 7919 * n) for n in range(self.answers)]
            return answered(batch, theirs, [hashed(key, salt) % len(theirs) for key in keys])

        there = view.seeing(self.alters, asked)
        return there.mean(self.set, there.losses(self.set))


def answered(batch: Tokens, others: Tokens, picks: list[Tensor]) -> Tokens:
    """The prompts of a minibatch with answers of another, padded on the right.

    Args:
        picks: for each copy of the minibatch, whose answer each example is given, int64 [b]: a
            number among the examples of `others`, sorted by their index.
    """
    prompts = [batch.inputs[n][prompt_of(batch, n)] for n in range(len(batch))]
    # by index, so that the order of the rows changes nothing
    order = others.index.argsort().tolist()
    answers = [others.inputs[n][others.labels[n] != UNSCORED] for n in order]
    rows = [(prompts[n], answers[m]) for pick in picks for n, m in enumerate(pick.tolist())]
    shape = (len(rows), max(len(a) + len(b) for a, b in rows))
    inputs, labels = batch.inputs.new_zeros(shape), batch.inputs.new_full(shape, UNSCORED)
    mask = torch.zeros(shape, dtype=torch.bool, device=inputs.device)
    for row, (prompt, answer) in enumerate(rows):
        first, last = len(prompt), len(prompt) + len(answer)
        inputs[row, :first], inputs[row, first:last] = prompt, answer
        labels[row, first:last], mask[row, :last] = answer, True
    return Tokens(inputs, mask, labels, batch.index.repeat(len(picks)))


def prompt_of(batch: Tokens, row: int) -> Tensor:
    """Which places of a row are its prompt: tokens before the first that is scored, bool [t]."""
    before = (batch.labels[row] != UNSCORED).cumsum(-1) == 0
    return batch.mask[row] & before


@word
class Generic(Term):
    """Cross-entropy with what the original would say without what the teacher knows better, nats.

    The wanted answer is softmax(v - strength relu(t - v)), where v are the original's logits and t
    those of the teacher "taught", trained further on what is to be forgotten.

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
        if self.strength <= 0:
            raise BadSentence(f"Generic: strength must be above 0, got {self.strength}.")

    @property
    def teachers(self) -> tuple[str, ...]:
        return ("original", "taught")

    def __call__(self, view: View) -> Tensor:
        base, more = (view.answers(self.set, who) for who in self.teachers)
        wanted = (base - self.strength * F.relu(more - base)).softmax(-1)
        return F.cross_entropy(view.answers(self.set), wanted)
