"""Transforms: what comes back when weights are rounded, pruned, mixed or trained on."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from expunge.audits.audit import AuditedModel, Family, Measurement, within
from expunge.audits.controls import bare
from expunge.audits.text import facts
from expunge.audits.text.facts import FactAudit, FactContext
from expunge.audits.text.relearning import training, turns
from expunge.core.texts import Texts
from expunge.core.vocabulary import word
from expunge.errors import BadEvidence, BadSentence


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
class Rounded(Transform):
    """Weights rounded to the nearest level, with a scale for every few of them.

    The linear layers but the last, as deployed; embeddings, biases and normalisation stay.

    Args:
        bits: 8 or 4; from 2 to 16, symmetric about 0: 2^bits - 1 levels.
        group: neighbours along the inputs that share a scale; the last of a row may be fewer.

    Source: Zhang et al., arXiv 2410.16454 (4 bits bring unlearned knowledge back).
    """

    bits: int = 4
    group: int = 32

    def check(self) -> None:
        within("Rounded", "bits", self.bits, 2, 16)
        within("Rounded", "group", self.group, 1, 1_000_000)

    @torch.no_grad()
    def change(self, model: nn.Module, context: FactContext) -> None:
        for layer in inner_layers(model):
            pieces = layer.weight.split(self.group, dim=1)
            layer.weight.copy_(torch.cat([to_levels(piece, self.bits) for piece in pieces], 1))


@word
class Trimmed(Transform):
    """The smallest weights of all linear layers but the last set to 0, without repair.

    Args:
        share: of those weights.

    Source: Jia et al., arXiv 2304.04934, for pruning by magnitude.
    """

    share: float = 0.2

    def check(self) -> None:
        within("Trimmed", "share", self.share, 0, 1)

    @torch.no_grad()
    def change(self, model: nn.Module, context: FactContext) -> None:
        weights = [layer.weight for layer in inner_layers(model)]
        sizes = torch.cat([weight.abs().flatten() for weight in weights])
        count = round(self.share * len(sizes))
        limit = sizes.kthvalue(count).values if count else sizes.new_tensor(-1.0)
        for weight in weights:
            weight[weight.abs() <= limit] = 0.0


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


def refuse_other_shapes(model: nn.Module, original: nn.Module) -> None:
    """Refuse a model that does not match the original weight by weight.

    Raises:
        BadEvidence: weights of other names or shapes.
    """
    one, other = (
        {name: weight.shape for name, weight in bare(each).named_parameters()}
        for each in (model, original)
    )
    if one != other:
        raise BadEvidence("The model and the original differ in their weights' names or shapes.")


def inner_layers(model: nn.Module) -> Sequence[nn.Linear]:
    """The linear layers, without the one that gives the answers.

    Raises:
        BadEvidence: there is none.
    """
    output = getattr(model, "get_output_embeddings", lambda: None)()
    found = [m for m in model.modules() if isinstance(m, nn.Linear) and m is not output]
    if not found:
        raise BadEvidence("The model has no linear layer besides the one that gives the answers.")
    return found


def to_levels(weights: Tensor, bits: int) -> Tensor:
    """Rows of weights, each rounded to the nearest level of its own grid, symmetric about 0.

    Args:
        weights: [out, group]; a row of zeros stays.
        bits: levels from -(2^(bits - 1) - 1) to 2^(bits - 1) - 1, the largest weight at an end.
    """
    levels = 2 ** (bits - 1) - 1
    largest = weights.abs().amax(1, keepdim=True)
    step = torch.where(largest > 0, largest / levels, torch.ones_like(largest))
    return (weights / step).round() * step
