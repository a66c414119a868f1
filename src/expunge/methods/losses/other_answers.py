"""Losses towards other answers than the true ones, and labels drawn by a hash."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from expunge.core.batch import UNSCORED, Batch, Tokens, holds_tokens
from expunge.core.term import Around, Term
from expunge.core.view import View
from expunge.core.vocabulary import word
from expunge.errors import BadSentence, Unsupported, did_you_mean
from expunge.methods.losses.answers import above_zero
from expunge.methods.losses.likelihood import loglik, of_examples, original_loglik

if TYPE_CHECKING:
    from expunge.core.run import ProblemProtocol, RunProtocol


def hashed(index: Tensor, seed: int | Tensor) -> Tensor:
    """Hash each index with a seed into a whole number from 0 to 2^31 - 1.

    Args:
        index: int64 [b].
        seed: one for all, or an int64 scalar where seeds are stacked.

    Source: the finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) on wrapping int64.
    """
    wrapping = torch.as_tensor(seed, device=index.device)  # a plain int would not wrap but overflow
    mixed = index * 0x1E3779B97F4A7C15 + wrapping * 0x3C6EF372FE94F82B + 0x2545F4914F6CDD1D
    mixed = (mixed ^ ((mixed >> 30) & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
    mixed = (mixed ^ ((mixed >> 27) & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
    return (mixed >> 33) & 0x7FFFFFFF


def hashed_now(view: View, name: str) -> Tensor:
    """Hash each example of a minibatch into a whole number that is new at every minibatch.

    Args:
        view: gives the seed and the progress.
        name: the set whose minibatch it is.

    Returns:
        int64 [b].
    """
    moment = int(view.progress * 2**40)
    return hashed(hashed(view.batch(name).index, view.seed), moment)


def gaussian(index: Tensor, like: Tensor, seed: int | Tensor, salt: int) -> Tensor:
    """Make standard normal noise for each example, from a hash of its index, the seed and a salt.

    Args:
        index: int64 [b].
        like: float [b, ...], whose shape and dtype the noise has.
        seed: of the run.
        salt: another salt gives other noise.

    Source: Box and Muller, Annals of Mathematical Statistics 29, 1958.
    """
    rows = hashed(hashed(index, seed), salt)
    cells = torch.arange(math.prod(like.shape[1:]), device=index.device)
    keys = (rows[:, None] << 31) + cells
    size, angle = ((hashed(keys, which).to(like) + 1) / 2**31 for which in (1, 2))
    normal = torch.sqrt(-2 * torch.log(size)) * torch.cos(2 * math.pi * angle)
    return normal.reshape(like.shape)


def gumbel(view: View, name: str, logits: Tensor) -> Tensor:
    """Make Gumbel noise for each example and class, new at every minibatch.

    Args:
        view: gives the seed and the progress.
        name: the set whose minibatch it is.
        logits: float [b, k], whose shape and dtype the noise has.
    """
    classes = torch.arange(logits.shape[-1], device=logits.device)
    numbers = hashed(hashed_now(view, name)[:, None] + classes, 0)
    # in double precision, since in single the largest shares would round to 1 and the noise to inf
    even = (numbers.double() + 0.5) / 2**31
    return -(-even.log()).log().to(logits)


@word
class Instead(Around):
    """A loss on the other answers that the data has to its prompts, as in `Instead(CE("forget"))`.

    Source: IdkNLL of Maini et al., TOFU, arXiv 2401.06121 (preference for refusals).
    """

    term: Term

    def counted(self, batch: Batch) -> int:
        return self.term.counted(instead(batch))

    @property
    def alters(self) -> str:
        return "instead"

    def check(self) -> None:
        if self.term.reads_whole_sets or isinstance(self.term, Around):
            raise BadSentence(f"Instead takes a plain term on one set, got {self.term!r}.")

    def unfit(self, problem: ProblemProtocol) -> str:
        return next(filter(None, (without_other_answers(problem, s) for s in self.sets)), "")

    def __call__(self, view: View) -> Tensor:
        return self.term(view.seeing("instead", instead))


@word
class DPO(Term):
    """Preference of other answers: -2/beta log sigma(beta (log ratio instead - log ratio)), mean.

    A log ratio is log(p(answer) / p0(answer)) of a whole answer; p0 is kept as in `NPO`, two
    numbers an example. The other answers are the data's own, one to each prompt
    (`of_pairs(..., instead=...)`).

    Source: Rafailov et al., Direct Preference Optimization, arXiv 2305.18290, equation 7, with the
    factor 2/beta of locuslab/open-unlearning@19a6141, src/trainer/utils.py (beta 0.1).
    """

    mean_over: ClassVar[str] = "examples"
    set: str
    beta: float = 0.1

    def check(self) -> None:
        above_zero(self, "beta")

    @property
    def extra_passes(self) -> int:
        return 1

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        return Counter({self.set: 2 * len(problem.data(self.set))})

    def unfit(self, problem: ProblemProtocol) -> str:
        return without_other_answers(problem, self.set)

    def facts(self, run: RunProtocol) -> dict[str, Tensor]:
        other = original_loglik(run, self.set, instead)["loglik"]
        return {**original_loglik(run, self.set), "instead": other}

    def __call__(self, view: View) -> Tensor:
        theirs = view.seeing("instead", instead)
        won = loglik(theirs, self.set) - of_examples(self, view, "instead")
        lost = loglik(view, self.set) - of_examples(self, view, "loglik")
        return -2 / self.beta * F.logsigmoid(self.beta * (won - lost)).mean()


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
        return without_other_answers(problem, self.set)

    def __call__(self, view: View) -> Tensor:
        gain, loss = DIVERGENCES[self.divergence]
        theirs = mean_probability(view.seeing("instead", instead), self.set)
        return (loss(mean_probability(view, self.set)) - gain(theirs)).mean()


# A divergence -> what is gained by probability of the template, and lost by that of the truth.
Pair = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]


LN2 = 0.6931471805599453


DIVERGENCES: dict[str, Pair] = {
    "tv": (lambda p: torch.tanh(p) / 2, lambda p: torch.tanh(p) / 2),
    "kl": (lambda p: p, lambda p: torch.exp(p - 1)),
    "js": (lambda p: LN2 - F.softplus(-p), lambda p: p + F.softplus(-p) - LN2),
    "pearson": (lambda p: p, lambda p: p.square() / 4 + p),
}


def mean_probability(view: View, name: str) -> Tensor:
    """Return the mean probability of the scored tokens of each example, [b]."""
    sure, scored = (-view.losses(name)).exp(), view.batch(name).scored
    if scored is None:
        return sure
    return torch.where(scored, sure, 0.0).sum(-1) / scored.sum(-1).clamp_min(1)


@word
class RandomAnswers(Term):
    """Cross-entropy with answers to other questions, put after the prompts of a set, nats.

    The answers are those of the minibatch of `against`. Which one an example is given is a hash of
    its index, the seed and the progress, new at each minibatch.

    Args:
        set: the set whose prompts are asked.
        against: the set whose answers are given.
        answers: to each prompt.

    Source: Yao, Xu and Liu, Large Language Model Unlearning, arXiv 2310.10683;
    kevinyaobytedance/llm_unlearn@647f309, utils.py (5), which scores the prompts too from the
    third token on (it takes the number of a dictionary's keys for a length), and leaves out the
    token 1 wherever it is (faults).
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
        texts = all(holds_tokens(problem.data(name)) for name in self.sets)
        return "" if texts else "it puts other answers after prompts, and its sets hold no texts"

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
    """Put answers of another minibatch after the prompts of a minibatch, padded on the right.

    Args:
        batch: gives the prompts, b of them.
        others: gives the answers.
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
    """Mark a row's prompt: its tokens before the first that is scored, bool [t]."""
    before = (batch.labels[row] != UNSCORED).cumsum(-1) == 0
    return batch.mask[row] & before


def instead(batch: Batch) -> Batch:
    """Return the same prompts with the other answers.

    Raises:
        Unsupported: there are none.
    """
    if not isinstance(batch, Tokens) or batch.instead is None:
        raise Unsupported(
            "The data has no other answers; give one to each prompt: of_pairs(..., instead=...), "
            "or a key 'instead' in each line of the file."
        )
    return batch.instead


def without_other_answers(problem: ProblemProtocol, name: str) -> str:
    """Say as a clause why a set has no other answers; empty when it has."""
    data = problem.data(name)
    first = data.batch(torch.zeros(1, dtype=torch.int64)) if holds_tokens(data) else None
    if isinstance(first, Tokens) and first.instead is not None:
        return ""
    return f"the set {name} has no other answers to its prompts (instead=...)"
