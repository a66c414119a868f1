"""Audits of classifiers: one number a model, and what they read of a problem."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from expunge.audits.audit import ASKING, Audit, AuditedModel, Context, Measurement
from expunge.core.batch import Batch, Data, Subset, all_targets, holds_tokens
from expunge.core.problem import Problem
from expunge.core.seeds import isolated
from expunge.engine.run import frozen
from expunge.errors import BadData, BadEvidence, Unsupported

CHUNK = 512

ImageContext = Context[Problem]


class ClassifierAudit(Audit[Problem]):
    """An audit of classifiers that ends in one number; abstract.

    It gets a private copy in evaluation mode, on which anything may be done, and draws from a
    stream of its own. One that needs nothing but probabilities `reads_texts` too.
    """

    reads_texts: ClassVar[bool] = False

    @abstractmethod
    def measure(self, model: nn.Module, context: ImageContext) -> float:
        """The number of one model; the model is the audit's own to change."""

    def grain(self, context: ImageContext) -> float:
        """What the number is rounded to, by its nature; 0 for none."""
        return 0.0

    def mismatch(self, problem: Problem) -> str:
        """Why the audit makes no sense on a problem, as a clause; empty if it does."""
        return ""

    def unfit(self, context: ImageContext) -> str:
        """Why the audit cannot run here, as a clause; empty if it can.

        It is tried on the original, so that one audit without its set does not end all others.
        """
        if holds_tokens(examples(context, "forget")) and not self.reads_texts:
            return "it reads classes, and texts have none"
        if reason := self.mismatch(context.problem):
            return reason
        try:
            self(AuditedModel("original", context.original), context)
        except (BadData, Unsupported) as fault:
            return str(fault).rstrip(".")
        return ""

    def __call__(self, model: AuditedModel, context: ImageContext) -> Measurement:
        """Measure a copy of one model; the global generator is left as it was.

        Raises:
            BadEvidence: the number is not finite.
        """
        copy = frozen(model.model) if self.family == ASKING else model.copy()
        # The same draws for every model: what a model draws at random must not tell them apart.
        with isolated("audit", context.seed, repr(self)):
            value = float(self.measure(copy, context))
        if not math.isfinite(value):
            raise BadEvidence(
                f"{self!r} gives {value} for a model; its answers became infinite or not a number. "
                "Lower the learning rate of the audit, or leave the model out."
            )
        whole = np.array([value]), np.zeros(1, np.int64), ("forget set",)
        return Measurement(*whole, grain=self.grain(context))


def measure(audit: ClassifierAudit, model: nn.Module, context: ImageContext) -> float:
    """The number of one model; the model is copied."""
    return audit(AuditedModel("model", model), context).mean


def examples(context: ImageContext, name: str) -> Data:
    """Any set of the problem, off-limits ones too: audits only measure.

    Raises:
        BadData: there is no such set, or it holds no example.
    """
    data = context.problem.sets.get(name)
    if data is None or len(data) == 0:
        there = ", ".join(context.problem.sets)
        raise BadData(
            f"The audit reads the set {name!r}, which is missing or empty in "
            f"{context.problem.name}; there are {there}."
        )
    return data


def split_forget(context: ImageContext, share: float) -> tuple[Subset, Subset]:
    """Two disjoint parts of the forget set: a random share that is taught, and the rest.

    With a share of 1 both are the whole set. Audits of one share and seed split it alike.

    Raises:
        BadData: one of the parts would be empty.
    """
    forget = examples(context, "forget")
    order = torch.randperm(len(forget), generator=context.stream("parts", share))
    if share == 1:
        return Subset(forget, order), Subset(forget, order)
    count = round(share * len(forget))
    if count == len(forget) or (count == 0 and share > 0):
        raise BadData(
            f"A share of {share} of {len(forget)} forget examples leaves one part empty; "
            "forget more examples, or take another share."
        )
    return Subset(forget, order[:count].sort().values), Subset(forget, order[count:])


def batches(data: Data) -> list[Batch]:
    """A whole set in minibatches, in order."""
    return [data.batch(rows) for rows in torch.arange(len(data)).split(CHUNK)]


@torch.no_grad()
def logits_on(model: nn.Module, data: Data) -> Tensor:
    """Logits of a model on a whole set in evaluation mode, float32 [n, k], on the CPU."""
    model.eval()
    device = next(model.parameters()).device
    found = [batch.to(device).logits(model).float().cpu() for batch in batches(data)]
    return torch.cat(found)


def accuracy(logits: Tensor, targets: Tensor) -> float:
    """Share of examples whose largest logit is that of their class."""
    return float((logits.argmax(-1) == targets).double().mean())


def confidence(logits: Tensor, targets: Tensor) -> float:
    """Mean probability of the right class."""
    return float((logits.double().softmax(-1) * one_hot(targets, logits.shape[-1])).sum(-1).mean())


def accuracy_on(model: nn.Module, data: Data) -> float:
    """Share of a set that a model answers correctly."""
    return accuracy(logits_on(model, data), all_targets(data))


def confidence_on(model: nn.Module, data: Data) -> float:
    """Mean probability of the right class on a set; of texts, of the answers' tokens."""
    if holds_tokens(data):
        # transformers is not loaded for audits of images
        from expunge.engine.inference import likelihoods
        from expunge.metrics.text.likelihood import probability

        return float(probability(likelihoods([model], data).answers(0)).mean())
    return confidence(logits_on(model, data), all_targets(data))
