"""Transforms: what comes back when weights are rounded, pruned, mixed or trained on."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import nn

from expunge.audits.audit import AuditedModel, Family, Measurement, within
from expunge.audits.controls import bare
from expunge.audits.text import facts
from expunge.audits.text.facts import FactAudit, FactContext
from expunge.audits.text.relearning import training, turns
from expunge.audits.weights import inner_layers, prune_smallest, refuse_other_shapes, rounded
from expunge.core.texts import Texts
from expunge.core.vocabulary import word
from expunge.errors import BadSentence


class Transform(FactAudit):
    """What is often done to weights before they are used, and its effect on `Prefix`; abstract.

    A model whose weights break down shows nothing.
    """

    family: ClassVar[Family] = "transforms"
    unit: ClassVar[str] = facts.PROBABILITY

    @abstractmethod
    def change(self, model: nn.Module, context: FactContext) -> None:
        """Change a private copy in place."""

    def __call__(self, subject: AuditedModel, context: FactContext) -> Measurement:
        texts: Texts = context.once("cued", lambda: facts.cued(context.problem.forget, context))
        facts.held(subject, context)  # refuses a model that cannot read them
        model = subject.copy()
        self.change(model, context)
        values = facts.probability(model.eval(), texts)
        return facts.measurement(context.problem.forget, values, cost=self.cost())

    def cost(self) -> dict[str, float]:
        """What it takes besides reading the facts."""
        return {}


@word
class QuantiseLayers(Transform):
    """As `Quantise` of classifiers, with a scale for every few weights.

    The linear layers but the last, as deployed; embeddings, biases and normalisation stay.

    Args:
        bits: 8 or 4; from 2 to 16, symmetric about 0: 2^bits - 1 levels.
        group: neighbours along the inputs that share a scale; the last of a row may be fewer.

    Source: Zhang et al., arXiv 2410.16454 (4 bits bring unlearned knowledge back).
    """

    key_name: ClassVar[str] = "Rounded"
    bits: int = 4
    group: int = 32

    def check(self) -> None:
        within("QuantiseLayers", "bits", self.bits, 2, 16)
        within("QuantiseLayers", "group", self.group, 1, 1_000_000)

    @torch.no_grad()
    def change(self, model: nn.Module, context: FactContext) -> None:
        for layer in inner_layers(model):
            pieces = layer.weight.split(self.group, dim=1)
            layer.weight.copy_(torch.cat([rounded(piece, self.bits) for piece in pieces], 1))


@word
class PruneLayers(Transform):
    """As `Prune` of classifiers: the smallest weights of all linear layers but the last set to 0.

    Args:
        share: of those weights.

    Source: Jia et al., arXiv 2304.04934, for pruning by magnitude.
    """

    key_name: ClassVar[str] = "Trimmed"
    share: float = 0.2

    def check(self) -> None:
        within("PruneLayers", "share", self.share, 0, 1)

    @torch.no_grad()
    def change(self, model: nn.Module, context: FactContext) -> None:
        prune_smallest([layer.weight for layer in inner_layers(model)], self.share)


@word
class Continued(Transform):
    """Training that goes on with what was to be kept, as whoever uses a model does.

    One learning rate, and no search: nobody attacks. Weights that stay undisturbed by this hide
    nothing that ordinary use brings out.

    Args:
        steps: of AdamW, each on another minibatch of the retain facts.
        lr: learning rate, constant.
        batch: facts a step.
    """

    steps: int = 30
    lr: float = 0.0003
    batch: int = 16

    def check(self) -> None:
        within("Continued", "steps", self.steps, 1, 1_000_000)
        within("Continued", "lr", self.lr, 1e-12, 1e6)
        within("Continued", "batch", self.batch, 1, 1_000_000)

    def unfit(self, context: FactContext) -> str:
        return "" if context.problem.retain else "no fact was to be kept"

    def change(self, model: nn.Module, context: FactContext) -> None:
        texts: Texts = context.once(
            "retain lessons", lambda: facts.lessons(context.problem.retain, context)
        )
        rows = turns(len(texts), self.batch, self.steps, context.stream("continued", self.batch))
        weights = list(model.requires_grad_(True).parameters())
        for _ in training(model, weights, texts, rows, self.lr):
            pass

    def cost(self) -> dict[str, float]:
        return {"steps": float(self.steps)}


@word
class Interpolated(FactAudit):
    """How much comes back on the straight way to the original; a finding on where the model lies.

    At the end of the way stands the original, for every model, so that something always comes
    back, and whoever holds the original has no need of the way. What differs is how early. But a
    model that was trained on from the original lies near it, whatever it forgot, and a retrained
    one elsewhere, behind worse models. So this is never evidence that a fact is still there.

    Args:
        shares: of the original, each above 0 and below 1; a value is the mean over them.

    Source: Frankle et al., arXiv 1912.05671, for linear connectivity.
    """

    family: ClassVar[Family] = "transforms"
    unit: ClassVar[str] = facts.PROBABILITY
    decisive: ClassVar[bool] = False
    shares: tuple[float, ...] = (0.25, 0.5, 0.75)

    def check(self) -> None:
        if not self.shares or not all(0 < share < 1 for share in self.shares):
            raise BadSentence(f"Interpolated: shares lie above 0 and below 1, got {self.shares}.")

    def __call__(self, subject: AuditedModel, context: FactContext) -> Measurement:
        texts: Texts = context.once("cued", lambda: facts.cued(context.problem.forget, context))
        first, last = facts.held(subject, context), facts.anchors(context)[1]
        seen = [facts.probability(mixed(subject, context, share), texts) for share in self.shares]
        means = [first.mean(), *(values.mean() for values in seen), last.mean()]
        curve = zip((0.0, *self.shares, 1.0), map(float, means), strict=True)
        values = sum(seen) / len(seen)
        return facts.measurement(context.problem.forget, values, curve=tuple(curve))


@torch.no_grad()
def mixed(subject: AuditedModel, context: FactContext, share: float) -> nn.Module:
    """A model part of the way to the original.

    Raises:
        BadEvidence: weights of other names or shapes.
    """
    refuse_other_shapes(subject.bare, context.original)
    model, others = subject.copy(), dict(bare(context.original).named_parameters())
    for name, weight in model.named_parameters():
        weight.lerp_(others[name].to(weight), share)
    return model
