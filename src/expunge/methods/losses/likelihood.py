"""Losses on the likelihood of whole answers, and what the original made of them.

They are made for language models, and hold for classifiers too, where an answer is one class.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from expunge.core.batch import Batch, chunk_of
from expunge.core.term import Term
from expunge.core.view import View
from expunge.core.vocabulary import word
from expunge.errors import BadSentence
from expunge.methods.losses.answers import above_zero, is_class

if TYPE_CHECKING:
    from expunge.core.run import ProblemProtocol, RunProtocol


CHUNK = 512


def batches_of(run: RunProtocol, name: str) -> Iterator[Batch]:
    """Read a set once, in order, in batches on the original's device; the receipt counts it."""
    data, device = run.data(name), next(run.original.parameters()).device
    for rows in torch.arange(len(data)).split(chunk_of(data, CHUNK)):
        yield data.batch(rows).to(device)
    run.counts.add({name: len(data)})


def view_of_original(run: RunProtocol, name: str, batch: Batch) -> View:
    """The original on one batch of a set, as a term sees a model."""
    return View(run.original, {name: batch}, {}, {}, 0.0, run.seed)


def of_examples(term: Term, view: View, key: str) -> Tensor:
    """Look up a term's fact, one number for each index, for the examples of its minibatch, [b]."""
    known = view.facts(term)
    return known[key][torch.searchsorted(known["index"], view.batch(term.sets[0]).index)]


@torch.no_grad()
def by_token(
    run: RunProtocol, name: str, compute: Callable[[Batch], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Compute values for each scored target of a set, all in a row.

    Args:
        compute: a batch -> key -> the values of its scored targets, [token, ...].

    Returns:
        Each key with its values, [token, ...]. Those of the example `index[i]`, of which there
        are sorted ones, begin at `first[i]`.
    """
    found: dict[str, list[Tensor]] = {}
    counts, index = [], []
    for batch in batches_of(run, name):
        for key, values in compute(batch).items():
            found.setdefault(key, []).append(values)
        scored = torch.ones_like(batch.targets).bool() if batch.scored is None else batch.scored
        counts.append(scored.reshape(len(batch), -1).sum(1))
        index.append(batch.index)
    many, numbers = torch.cat(counts), torch.cat(index)
    order = numbers.argsort()
    rows = {key: torch.cat(values) for key, values in found.items()}
    return {**rows, "index": numbers[order], "first": (many.cumsum(0) - many)[order]}


def rows_of_tokens(known: Mapping[str, Tensor], batch: Batch) -> Tensor:
    """Find the rows of `by_token` for the targets of a batch, int64 [b, *t].

    A target that is not scored has the row of some target that is.
    """
    first = known["first"][torch.searchsorted(known["index"], batch.index)]
    if batch.scored is None:
        return first
    return first[:, None] + (batch.scored.cumsum(-1) - 1) * batch.scored


@word
class NPO(Term):
    """Negative preference: -2/beta log sigma(-beta log(p(answer) / p0(answer))), mean, nats.

    p0 is the original's probability of the whole answer. It is computed once before training and
    kept, one number an example: no second model is held. At the start the gradient is that of
    gradient ascent on -log p(answer).

    Args:
        set: the set to be forgotten.
        beta: larger lets go of an answer sooner; above 0.

    Source: Zhang et al., Negative Preference Optimization, arXiv 2404.05868, equation 3;
    locuslab/open-unlearning@19a6141, src/trainer/utils.py (beta 0.1, sums over tokens).
    """

    mean_over: ClassVar[str] = "examples"
    set: str
    beta: float = 0.1

    def check(self) -> None:
        above_zero(self, "beta")

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        return Counter({self.set: len(problem.data(self.set))})

    def facts(self, run: RunProtocol) -> dict[str, Tensor]:
        return original_loglik(run, self.set)

    def __call__(self, view: View) -> Tensor:
        ratio = of_examples(self, view, "loglik") - loglik(view, self.set)
        return -2 / self.beta * F.logsigmoid(self.beta * ratio).mean()


@word
class SimNPO(Term):
    """NPO without a reference: -2/beta log sigma(beta (mean -log p of a token - delta)), mean.

    Args:
        set: the set to be forgotten.
        beta: larger lets go of an answer sooner; above 0.
        delta: margin, nats a token.

    Source: Fan et al., Simplicity Prevails, arXiv 2410.07163;
    locuslab/open-unlearning@56b662e, simnpo.py (beta 4.5, delta 0 in its configuration).
    """

    mean_over: ClassVar[str] = "examples"
    set: str
    beta: float = 4.5
    delta: float = 0.0

    def check(self) -> None:
        above_zero(self, "beta")

    def __call__(self, view: View) -> Tensor:
        batch = view.batch(self.set)
        tokens = 1 if batch.scored is None else batch.scored.sum(-1).clamp_min(1)
        each = -loglik(view, self.set) / tokens - self.delta
        return -2 / self.beta * F.logsigmoid(self.beta * each).mean()


def loglik(view: View, name: str) -> Tensor:
    """Return the log-probability of each example's whole true answer, nats, [b]."""
    losses = view.losses(name)
    return -losses if losses.ndim == 1 else -losses.flatten(1).sum(1)


@torch.no_grad()
def original_loglik(
    run: RunProtocol, name: str, change: Callable[[Batch], Batch] | None = None
) -> dict[str, Tensor]:
    """Compute `loglik` of the original for a whole set.

    Args:
        change: what is done to each batch before, such as putting other answers in it.

    Returns:
        "index": the examples' indices, sorted, int64 [n]; "loglik": nats, [n].
    """
    found, index = [], []
    for batch in batches_of(run, name):
        changed = change(batch) if change else batch
        found.append(loglik(view_of_original(run, name, changed), name))
        index.append(changed.index)
    order = torch.cat(index).argsort()
    return {"index": torch.cat(index)[order], "loglik": torch.cat(found)[order]}


@word
class TNPO(Term):
    """Negative preference of single tokens: -2/beta log sigma(-beta log(p / p0)), mean, nats.

    Its gradient is 2 p^beta / (p^beta + p0^beta) times that of log p: at the start that of gradient
    ascent, and a token that is forgotten already is left alone. p0, the original's probability of
    the token, is kept, one number a token: no second model is held.

    Args:
        set: the set to be forgotten.
        beta: larger lets go of a token sooner.
        power: each token is also weighted by p^power, without a gradient (WTNPO).

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
        def losses(batch: Batch) -> dict[str, Tensor]:
            found = view_of_original(run, self.set, batch).losses(self.set)
            return {"losses": found if batch.scored is None else found[batch.scored]}

        return by_token(run, self.set, losses)

    def __call__(self, view: View) -> Tensor:
        losses, known = view.losses(self.set), view.facts(self)
        before = known["losses"][rows_of_tokens(known, view.batch(self.set))]
        each = -2 / self.beta * F.logsigmoid(self.beta * (losses - before))
        return view.mean(self.set, (-self.power * losses.detach()).exp() * each)


@word
class WGA(Term):
    """Ascent weighted by confidence: -p^beta (-log p) of each true token, mean; p has no gradient.

    Args:
        set: the set to be forgotten.
        beta: larger rests on what the model knows best.

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
    """Ascent on tokens that are neither forgotten nor sure: -p^a (1 - p)^b (-log p), mean.

    The weights p^a (1 - p)^b have no gradient.

    Args:
        set: the set to be forgotten.
        saturation: a; larger spares what is forgotten already.
        importance: b; larger spares what the model is sure of.

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
        """Mark the scored targets after the first ones of each answer."""
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
