"""What comes back when weights are rounded or pruned: small changes hide, and do not last."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from expunge.audits.audit import Family, More, within
from expunge.audits.images.classifier_audit import (
    ClassifierAudit,
    ImageContext,
    accuracy_on,
    confidence_on,
    examples,
    split_forget,
)
from expunge.audits.images.probe import features
from expunge.audits.weights import prune_smallest, rounded, weighted_layers
from expunge.core.batch import Subset, all_targets
from expunge.core.problem import Problem
from expunge.core.schedules import SGD, Optimiser
from expunge.core.view import last_linear
from expunge.core.vocabulary import word
from expunge.errors import BadData, Unsupported


@word
class Quantise(ClassifierAudit):
    """Mean probability of the right class on the forget set, once weights are rounded.

    Every kernel and matrix is rounded to the nearest of 2^bits - 1 levels, symmetric about 0, with
    a scale of its own for each output channel; biases and normalisation stay as they are.

    Args:
        bits: 8 or 4, as deployed; 2 to 16.

    Source: Zhang et al., arXiv 2410.16454 (quantisation brings unlearned knowledge back), there
    for language models; Jacob et al., arXiv 1712.05877, for the rounding.
    """

    family: ClassVar[Family] = "transforms"
    unit: ClassVar[str] = "probability"
    more: ClassVar[More] = "knows more"
    reads_texts: ClassVar[bool] = True
    bits: int = 8

    def check(self) -> None:
        within("Quantise", "bits", self.bits, 2, 16)

    @torch.no_grad()
    def measure(self, model: nn.Module, context: ImageContext) -> float:
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.copy_(rounded(weight, self.bits))
        return confidence_on(model, examples(context, "forget"))


@word
class Prune(ClassifierAudit):
    """Mean probability of the right class on the forget set, once small weights are 0.

    The smallest weights of all kernels and matrices together are set to 0, without repair.

    Args:
        share: of the weights that are pruned.

    Source: Jia et al., arXiv 2304.04934, for magnitude pruning.
    """

    family: ClassVar[Family] = "transforms"
    unit: ClassVar[str] = "probability"
    more: ClassVar[More] = "knows more"
    reads_texts: ClassVar[bool] = True
    share: float = 0.3

    def check(self) -> None:
        within("Prune", "share", self.share, 0, 1)

    @torch.no_grad()
    def measure(self, model: nn.Module, context: ImageContext) -> float:
        weights = [weight for weight in model.parameters() if weight.ndim > 1]
        prune_smallest(weights, self.share)
        return confidence_on(model, examples(context, "forget"))


@word
class Relearn(ClassifierAudit):
    """Steps of training until accuracy on the forget set is back within `alpha` of the original's.

    A part of the forget set is taught, the rest measured: relearning from a disjoint part shows
    what the weights still hold, not what they are told. Every minibatch is drawn anew, the same
    for all models; a model that does not get there counts `steps`.

    Args:
        steps: the most that are tried.
        share: of the forget set that is taught; 1 teaches and measures the whole of it. The fewer
            are taught, the more what the weights hold decides.
        lr: of the optimiser, constant.
        batch: forget examples a step, and as many of the retain set.
        retain: weight of the retain set's loss beside; 0 teaches the forget set alone, which every
            model of a whole class soon learns by answering nothing else.
        alpha: the share of the original's accuracy that may be missing.
        optimiser: SGD with momentum, unless told.

    Source: Golatkar et al., arXiv 1911.04933 (relearn time); Chundawat et al., arXiv 2201.05629
    (alpha, minibatches). Fault avoided: aiim-research/ERASURE@b5130c1 trains the model it is given
    in place, and counts right answers while the weights still move.
    """

    family: ClassVar[Family] = "relearning"
    unit: ClassVar[str] = "steps"
    more: ClassVar[More] = "knows less"
    steps: int = 50
    share: float = 0.1
    lr: float = 0.01
    batch: int = 64
    retain: float = 1.0
    alpha: float = 0.05
    optimiser: Optimiser = SGD()

    def check(self) -> None:
        within("Relearn", "steps", self.steps, 1, 1_000_000)
        within("Relearn", "share", self.share, 1e-9, 1)
        within("Relearn", "lr", self.lr, 1e-12, 1e6)
        within("Relearn", "batch", self.batch, 1, 1_000_000)
        within("Relearn", "retain", self.retain, 0, 1e6)
        within("Relearn", "alpha", self.alpha, 0, 0.999_999)

    def measure(self, model: nn.Module, context: ImageContext) -> float:
        measured = split_forget(context, self.share)[1]
        known = context.once((self, "known"), lambda: accuracy_on(context.original, measured))
        for step in self.lessons(model, context):
            if accuracy_on(model, measured) >= (1 - self.alpha) * known:
                return float(step)
        return float(self.steps)

    def grain(self, context: ImageContext) -> float:
        return 1.0

    def lessons(self, model: nn.Module, context: ImageContext) -> Iterator[int]:
        """Train in place; yield the number of steps so far, from 0 on."""
        taught = split_forget(context, self.share)[0]
        weights = [weight.requires_grad_(True) for weight in model.parameters()]
        optimiser = self.optimiser.over(weights)
        optimiser.param_groups[0]["lr"] = self.lr
        draws = context.stream("relearn", self.share, self.batch)
        for step in range(self.steps):
            yield step
            loss = self._loss(model.train(), taught, context, draws)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        yield self.steps

    @torch.enable_grad()
    def _loss(
        self, model: nn.Module, taught: Subset, context: ImageContext, draws: torch.Generator
    ) -> Tensor:
        """One forward pass of both sets together, so that normalisation sees both."""
        device = next(model.parameters()).device
        sets = [taught, examples(context, "retain")][: 1 + (self.retain > 0)]
        drawn = [torch.randperm(len(one), generator=draws)[: self.batch] for one in sets]
        read = [one.batch(rows).to(device) for one, rows in zip(sets, drawn, strict=True)]
        answers = model(torch.cat([batch.inputs for batch in read]))
        pieces = answers.split([len(batch) for batch in read])
        losses = [cross_entropy(a, b.targets) for a, b in zip(pieces, read, strict=True)]
        return losses[0] + self.retain * losses[1] if self.retain > 0 else losses[0]


@word
class RecoveryArea(ClassifierAudit):
    """Mean probability of the right class over the course of relearning, before it and after.

    The smooth variant of relearn time: it needs no threshold, and no cap hides a slow model.

    Args:
        relearn: the lessons; its `alpha` is not used.
    """

    family: ClassVar[Family] = "relearning"
    unit: ClassVar[str] = "probability"
    more: ClassVar[More] = "knows more"
    relearn: Relearn = Relearn(steps=25)

    def measure(self, model: nn.Module, context: ImageContext) -> float:
        measured = split_forget(context, self.relearn.share)[1]
        seen = [confidence_on(model, measured) for _ in self.relearn.lessons(model, context)]
        return sum(seen) / len(seen)


@word
class Anamnesis(ClassifierAudit):
    """The anamnesis index: relearn time over that of a retrained model, in epochs of the part.

    1 is as retrained, less is knowledge left, more is over-unlearning. Both anchors are printed:
    other retrained models, and originals. Since the index is an affine function of relearn time,
    what it recovers is what `Relearn` recovers.

    Args:
        relearn: the lessons.
        added: epochs added to both times, so that none is 0.

    Source: Chundawat et al., arXiv 2201.05629, AIN. Fault avoided: aiim-research/ERASURE@b5130c1,
    erasure/evaluations/measures.py, takes both times from the unlearned model, so that the index is
    1 or 0 / 0.
    """

    family: ClassVar[Family] = "relearning"
    unit: ClassVar[str] = "of a retrained model's relearn time"
    more: ClassVar[More] = "knows less"
    relearn: Relearn = Relearn(share=1.0)
    added: float = 0.01

    def check(self) -> None:
        within("Anamnesis", "added", self.added, 1e-9, 1e6)

    def measure(self, model: nn.Module, context: ImageContext) -> float:
        return (self._epochs(model, context) + self.added) / self._gold(context)

    def grain(self, context: ImageContext) -> float:
        return 1.0 / self._epoch(context) / self._gold(context)

    def _gold(self, context: ImageContext) -> float:
        fresh = partial(copy.deepcopy, context.oracle)
        made = context.once((self, "gold"), lambda: self._epochs(fresh(), context) + self.added)
        return float(made)

    def _epochs(self, model: nn.Module, context: ImageContext) -> float:
        return self.relearn.measure(model, context) / self._epoch(context)

    def _epoch(self, context: ImageContext) -> int:
        """Steps of one pass over the part that is taught."""
        return -(-len(split_forget(context, self.relearn.share)[0]) // self.relearn.batch)


@word
class PrototypeRelearn(ClassifierAudit):
    """Accuracy on the forget set once its classes' prototypes stand in the last layer.

    The prototype of a class is the mean feature of a few of its forget examples, scaled to length
    1 and blended with the class's weights; its bias shrinks alike. No training: who has the weights
    and `count` images needs no more. Measured on the other forget examples.

    Args:
        count: images of each class of the forget set.
        blend: share of the prototype; the rest is what the layer has.

    Source: Ha et al., arXiv 2506.01318 (prototypical relearning attack), cosine form;
    Seung-B/Spotter-Unlearning@6070945, proto_utils.py, which writes into the model it is given.
    """

    family: ClassVar[Family] = "relearning"
    unit: ClassVar[str] = "share right"
    more: ClassVar[More] = "knows more"
    count: int = 5
    blend: float = 0.5

    def check(self) -> None:
        within("PrototypeRelearn", "count", self.count, 1, 1_000_000)
        within("PrototypeRelearn", "blend", self.blend, 1e-9, 1)

    def mismatch(self, problem: Problem) -> str:
        targets = all_targets(problem.sets["forget"])
        fewest = int(targets.bincount()[targets.unique()].min())
        if fewest > self.count:
            return ""
        return f"a class has {fewest} forget examples, and more than {self.count} are needed"

    @torch.no_grad()
    def measure(self, model: nn.Module, context: ImageContext) -> float:
        shown, rest = context.once((self, "shown"), lambda: self._shown(context))
        layer = last_linear(model)
        names = {module: name for name, module in weighted_layers(model)}
        found = features(model, shown, [names[layer]])[names[layer]]
        targets = all_targets(shown)
        if int(targets.max()) >= layer.out_features:
            raise Unsupported(
                f"The last linear layer has {layer.out_features} outputs, and class "
                f"{int(targets.max())} is to be forgotten: it does not answer with classes."
            )
        for label in targets.unique().tolist():
            self._write(layer, label, found[targets == label].mean(0))
        return accuracy_on(model, rest)

    def grain(self, context: ImageContext) -> float:
        return 1.0 / len(context.once((self, "shown"), lambda: self._shown(context))[1])

    def _write(self, layer: nn.Linear, label: int, mean: Tensor) -> None:
        """Blend a class's weights with its prototype."""
        prototype = normalize(mean, dim=0).to(layer.weight)
        layer.weight[label] = self.blend * prototype + (1 - self.blend) * layer.weight[label]
        if layer.bias is not None:
            layer.bias[label] *= 1 - self.blend

    def _shown(self, context: ImageContext) -> tuple[Subset, Subset]:
        """`count` random examples of each class, and the others."""
        forget = examples(context, "forget")
        targets = all_targets(forget)
        order = torch.randperm(len(forget), generator=context.stream("prototypes"))
        drawn = [order[targets[order] == label][: self.count] for label in targets.unique()]
        chosen = torch.zeros(len(forget), dtype=torch.bool)
        chosen[torch.cat(drawn)] = True
        if chosen.all():
            raise BadData("Every forget example is shown as a prototype; none is left to measure.")
        return Subset(forget, chosen.nonzero()[:, 0]), Subset(forget, (~chosen).nonzero()[:, 0])
