"""Terms for language models: on the likelihood of whole answers, and on single tokens.

They hold for classifiers too, where an answer is one class.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from expunge.core.batch import Tokens, chunk_of, holds_tokens
from expunge.core.term import Around, Term, check_teacher
from expunge.core.view import View
from expunge.core.vocabulary import word
from expunge.errors import BadSentence, Unsupported
from expunge.methods.losses.targets import is_class

if TYPE_CHECKING:
    from expunge.core.batch import Batch
    from expunge.core.run import ProblemProtocol, RunProtocol


CHUNK = 512


@word
class NPO(Term):
    """Negative preference: -2/beta log sigma(-beta log(p(answer) / p0(answer))), mean, nats.

    p0 is the original's probability of the whole answer. It is worked out once before training
    and kept, one number an example: no second model is held. At the start the slope is that of
    gradient ascent on log p(answer).

    Source: Zhang et al., Negative Preference Optimization, arXiv 2404.05868, equation 3;
    locuslab/open-unlearning@19a6141, src/trainer/utils.py (beta 0.1, sums over tokens).
    """

    mean_over: ClassVar[str] = "examples"
    set: str
    beta: float = 0.1

    def check(self) -> None:
        _above_zero("NPO", "beta", self.beta)

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        return Counter({self.set: len(problem.data(self.set))})

    def facts(self, run: RunProtocol) -> dict[str, Tensor]:
        return reference(run, self.set)

    def __call__(self, view: View) -> Tensor:
        ratio = remembered(self, view, "loglik") - loglik(view, self.set)
        return -2 / self.beta * F.logsigmoid(self.beta * ratio).mean()


@word
class SimNPO(Term):
    """NPO without a reference: -2/beta log sigma(beta (mean -log p of a token - delta)), mean.

    Source: Fan et al., Simplicity Prevails, arXiv 2410.07163;
    locuslab/open-unlearning@56b662e, simnpo.py (beta 4.5, delta 0 in its configuration).
    """

    mean_over: ClassVar[str] = "examples"
    set: str
    beta: float = 4.5
    delta: float = 0.0

    def check(self) -> None:
        _above_zero("SimNPO", "beta", self.beta)

    def __call__(self, view: View) -> Tensor:
        batch = view.batch(self.set)
        tokens = 1 if batch.scored is None else batch.scored.sum(-1).clamp_min(1)
        each = -loglik(view, self.set) / tokens - self.delta
        return -2 / self.beta * F.logsigmoid(self.beta * each).mean()


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
        _above_zero("DPO", "beta", self.beta)

    @property
    def extra_passes(self) -> int:
        return 1

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        return Counter({self.set: 2 * len(problem.data(self.set))})

    def unfit(self, problem: ProblemProtocol) -> str:
        """Why it cannot work on a problem; empty when it can."""
        return without_other_answers(problem, self.set)

    def facts(self, run: RunProtocol) -> dict[str, Tensor]:
        other = reference(run, self.set, instead)["loglik"]
        return {**reference(run, self.set), "instead": other}

    def __call__(self, view: View) -> Tensor:
        theirs = view.seeing("instead", instead)
        won = loglik(theirs, self.set) - remembered(self, view, "instead")
        lost = loglik(view, self.set) - remembered(self, view, "loglik")
        return -2 / self.beta * F.logsigmoid(self.beta * (won - lost)).mean()


@word
class Instead(Around):
    """Another term, on the other answers that the data has to its prompts: `Instead(CE("forget"))`.

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
        """Why it cannot work on a problem; empty when it can."""
        return next(filter(None, (without_other_answers(problem, s) for s in self.sets)), "")

    def __call__(self, view: View) -> Tensor:
        return self.term(view.seeing("instead", instead))


@word
class Undial(Term):
    """Cross-entropy with a teacher's answers whose true token's logit is `strength` lower, nats.

    The whole distribution is needed, so that the original is held in memory for comparison.

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
class WGA(Term):
    """Ascent weighed by confidence: -p^beta (-log p) of each true token, mean, no slope through p.

    Source: Wang et al., Rethinking LLM Unlearning Objectives, arXiv 2502.19301 (tmlr-group/G-effect
    has beta 5); locuslab/open-unlearning@19a6141, src/trainer/utils.py (beta 1).
    """

    mean_over: ClassVar[str] = "targets"
    set: str
    beta: float = 1.0

    def __call__(self, view: View) -> Tensor:
        losses = view.losses(self.set)
        return -view.mean(self.set, (-self.beta * losses.detach()).exp() * losses)


@word
class SatImp(Term):
    """Ascent on tokens that are neither lost nor sure: -p^a (1 - p)^b (-log p), mean.

    No slope passes through the weights p^a (1 - p)^b.

    Args:
        set: the set to be forgotten.
        saturation: a; larger rests on what is forgotten already.
        importance: b; larger rests on what is known best.

    Source: Yang et al., Exploring Criteria of Loss Reweighting, arXiv 2505.11953;
    locuslab/open-unlearning@19a6141, src/trainer/utils.py (5 and 1).
    """

    mean_over: ClassVar[str] = "targets"
    set: str
    saturation: float = 5.0
    importance: float = 1.0

    def __call__(self, view: View) -> Tensor:
        losses = view.losses(self.set)
        sure = (-losses.detach()).exp()
        weights = sure**self.saturation * (1 - sure) ** self.importance
        return -view.mean(self.set, weights * losses)


@word
class CEU(Term):
    """Cross-entropy with the model's own answers once the true token is taken out of them, nats.

    Args:
        set: the set to be forgotten.
        skip: scored tokens at the beginning of each answer that are left alone.

    Source: Yang, CE-U, arXiv 2503.01224; locuslab/open-unlearning@2231e31, ceu.py (1 skipped).
    """

    mean_over: ClassVar[str] = "targets"
    set: str
    skip: int = 1

    def check(self) -> None:
        if self.skip < 0:
            raise BadSentence(f"CEU: skip must be 0 or more, got {self.skip}.")

    def counted(self, batch: Batch) -> int:
        return len(batch) if batch.scored is None else int(self._late(batch.scored).sum())

    def _late(self, scored: Tensor) -> Tensor:
        """Of the scored targets, those after the first ones of each answer."""
        return scored & (scored.cumsum(-1) > self.skip)

    def __call__(self, view: View) -> Tensor:
        logits, batch = view.logits(self.set), view.batch(self.set)
        true = is_class(batch.targets, logits.shape[-1])
        wanted = logits.detach().masked_fill(true, -torch.inf).softmax(-1)
        each = -(wanted * logits.log_softmax(-1)).sum(-1)
        if batch.scored is None:
            return each.mean()
        late = self._late(batch.scored)
        return torch.where(late, each, 0.0).sum() / late.sum().clamp_min(1)


def loglik(view: View, name: str) -> Tensor:
    """The log-probability of the whole true answer of each example, nats, [b]."""
    losses = view.losses(name)
    return -losses if losses.ndim == 1 else -losses.flatten(1).sum(1)


def instead(batch: Batch) -> Batch:
    """The same prompts with the other answers.

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
    """Why a set has no other answers, as a clause; empty when it has."""
    data = problem.data(name)
    first = data.batch(torch.zeros(1, dtype=torch.int64)) if holds_tokens(data) else None
    if isinstance(first, Tokens) and first.instead is not None:
        return ""
    return f"the set {name} has no other answers to its prompts (instead=...)"


@torch.no_grad()
def reference(run: RunProtocol, name: str, change: object = None) -> dict[str, Tensor]:
    """The original's log p of each example's whole answer, [n], and the index, sorted, [n]."""
    data, device = run.data(name), next(run.original.parameters()).device
    found, index = [], []
    for rows in torch.arange(len(data)).split(chunk_of(data, CHUNK)):
        batch = data.batch(rows).to(device)
        batch = change(batch) if callable(change) else batch
        view = View(run.original, {name: batch}, {}, {}, 0.0, run.seed)
        found.append(loglik(view, name))
        index.append(batch.index)
    run.counts.add({name: len(data)})
    order = torch.cat(index).argsort()
    return {"index": torch.cat(index)[order], "loglik": torch.cat(found)[order]}


def remembered(term: Term, view: View, key: str) -> Tensor:
    """What `reference` found for the examples of a minibatch, [b]."""
    known = view.facts(term)
    return known[key][torch.searchsorted(known["index"], view.batch(term.sets[0]).index)]


def _above_zero(owner: str, name: str, number: float) -> None:
    if number <= 0:
        raise BadSentence(f"{owner}: {name} must be above 0, got {number}.")


@word
class TNPO(Term):
    """Negative preference of single tokens: -2/beta log sigma(-beta log(p / p0)), mean, nats.

    Its slope is 2 p^beta / (p^beta + p0^beta) times that of log p: at the start that of gradient
    ascent, and a token that is forgotten already is left alone. p0, the original's probability of
    the token, is kept, one number a token: no second model is held.

    Args:
        set: the set to be forgotten.
        beta: larger lets go of a token sooner.
        power: each token is weighed by p^power besides, through which no slope passes (WTNPO).

    Source: Wang et al., Rethinking LLM Unlearning Objectives, arXiv 2502.19301;
    tmlr-group/G-effect@ef368ee, dataloader.py (tnpo: 4; wtnpo: power 1.5), which gives the slope
    alone, with 1e-5 added below the line: tokens with p^4 under 1e-5 are hardly moved (fault).
    """

    mean_over: ClassVar[str] = "targets"
    set: str
    beta: float = 4.0
    power: float = 0.0

    def check(self) -> None:
        if self.beta <= 0 or self.power < 0:
            raise BadSentence(
                f"TNPO: beta must be above 0 and power 0 or more, got {self.beta} and {self.power}."
            )

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        return Counter({self.set: len(problem.data(self.set))})

    def facts(self, run: RunProtocol) -> dict[str, Tensor]:
        return kept_losses(run, self.set)

    def __call__(self, view: View) -> Tensor:
        losses = view.losses(self.set)
        before = recalled_losses(self, view, self.set)
        each = -2 / self.beta * F.logsigmoid(self.beta * (losses - before))
        return view.mean(self.set, (-self.power * losses.detach()).exp() * each)


@torch.no_grad()
def kept_losses(run: RunProtocol, name: str) -> dict[str, Tensor]:
    """The original's -log p of every scored target, [token], nats, all in a row.

    Those of the example `index[i]`, of which there are sorted ones, begin at `first[i]`.
    """
    data, device = run.data(name), next(run.original.parameters()).device
    found, counts, index = [], [], []
    for rows in torch.arange(len(data)).split(chunk_of(data, CHUNK)):
        batch = data.batch(rows).to(device)
        losses = View(run.original, {name: batch}, {}, {}, 0.0, run.seed).losses(name)
        scored = torch.ones_like(losses).bool() if batch.scored is None else batch.scored
        found.append(losses[scored])
        counts.append(scored.reshape(len(batch), -1).sum(1))
        index.append(batch.index)
    run.counts.add({name: len(data)})
    many, numbers = torch.cat(counts), torch.cat(index)
    order = numbers.argsort()
    first = (many.cumsum(0) - many)[order]
    return {"losses": torch.cat(found), "index": numbers[order], "first": first}


def recalled_losses(term: Term, view: View, name: str) -> Tensor:
    """What `kept_losses` found for the targets of a minibatch, [b, *t]; unscored ones have any."""
    known, batch = view.facts(term), view.batch(name)
    first = known["first"][torch.searchsorted(known["index"], batch.index)]
    if batch.scored is None:
        return known["losses"][first]
    # the number of a scored token in its text; what is not scored asks for the first
    inside = (batch.scored.cumsum(-1) - 1) * batch.scored
    return known["losses"][first[:, None] + inside]
