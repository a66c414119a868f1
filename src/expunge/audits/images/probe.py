"""Probes: what a layer's features still tell, whatever the layers above it answer."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, one_hot

from expunge.audits.audit import Family, More, within
from expunge.audits.images.classifier_audit import (
    ClassifierAudit,
    ImageContext,
    accuracy,
    accuracy_on,
    batches,
    examples,
    split_forget,
)
from expunge.audits.weights import weighted_layers
from expunge.core.batch import Data, Joined, all_targets
from expunge.core.vocabulary import word
from expunge.errors import Unsupported

WIDEST = 2048


class Probe(ClassifierAudit):
    """A simple classifier on frozen features; abstract.

    It is trained on the retain set and a share of the forget set, and measured on the rest of the
    forget set. `layer` counts the layers with a kernel or matrix, and features are what goes into
    one of them: 0 reads the pixels, -1 what the last layer reads.
    """

    family: ClassVar[Family] = "inside"
    unit: ClassVar[str] = "share right"
    more: ClassVar[More] = "knows more"
    layer: int
    share: float

    @abstractmethod
    def answer(self, seen: Tensor, targets: Tensor, unseen: Tensor, classes: int) -> Tensor:
        """Scores [m, k] of unseen features [m, d], from seen ones [n, d]; float64."""

    def measure(self, model: nn.Module, context: ImageContext) -> float:
        name, _ = self.place(model)
        seen, unseen = self.read(model, context, [name])
        return self.score(seen[name], unseen[name], context)

    def grain(self, context: ImageContext) -> float:
        return 1.0 / len(split_forget(context, self.share)[1])

    def place(self, model: nn.Module) -> tuple[str, nn.Module]:
        """The layer whose inputs are read."""
        there = weighted_layers(model)
        if not -len(there) <= self.layer < len(there):
            raise Unsupported(
                f"{type(self).__name__} reads layer {self.layer}; the model has {len(there)} "
                f"layers with a kernel or matrix, so 0 to {len(there) - 1}."
            )
        return there[self.layer]

    def sets(self, context: ImageContext) -> tuple[Data, Data]:
        """What the probe is trained on, and what it is measured on."""
        shown, rest = split_forget(context, self.share)
        retain = examples(context, "retain")
        return (Joined(retain, shown) if len(shown) else retain), rest

    def read(
        self, model: nn.Module, context: ImageContext, names: list[str]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Features of some layers on both sets, each example passed once."""
        first, second = self.sets(context)
        return features(model, first, names), features(model, second, names)

    def score(self, seen: Tensor, unseen: Tensor, context: ImageContext) -> float:
        """The probe's accuracy on one layer's features."""
        first, second = self.sets(context)
        known, right = all_targets(first), all_targets(second)
        classes = max(context.problem.class_count, int(right.max()) + 1)
        return accuracy(self.answer(seen, known, unseen, classes), right)


@word
class LinearProbe(Probe):
    """Accuracy on the forget set of a linear classifier on a layer's features, in closed form.

    Ridge regression of the classes, one-hot, on standardised features. Methods that change only
    the last layer leave what it reads as it was, and this finds it there.

    Args:
        layer: whose inputs are read; -1 is the last.
        share: of the forget set that the probe is trained on, beside the retain set; 0 for none.
            The fewer are shown, the more what the weights hold decides.
        ridge: penalty, as a share of a feature's variance.

    Source: Kim, Cha and Kim, Are We Truly Forgetting, arXiv 2503.06991; Alain and Bengio,
    arXiv 1610.01644.
    """

    layer: int = -1
    share: float = 0.1
    ridge: float = 0.1

    def check(self) -> None:
        within("LinearProbe", "share", self.share, 0, 0.999_999)
        within("LinearProbe", "ridge", self.ridge, 1e-9, 1e9)

    def answer(self, seen: Tensor, targets: Tensor, unseen: Tensor, classes: int) -> Tensor:
        count = targets.bincount(minlength=classes).double()
        weight = (1 / count[targets] / (count > 0).sum())[:, None]  # classes count alike
        centre = (weight * seen).sum(0)
        scale = (weight * (seen - centre) ** 2).sum(0).sqrt().clamp_min(1e-9)
        x, wanted = (seen - centre) / scale, one_hot(targets, classes).double()
        mean = (weight * wanted).sum(0)
        gram = x.T @ (weight * x) + self.ridge * torch.eye(x.shape[1], dtype=x.dtype)
        slopes = torch.linalg.solve(gram, x.T @ (weight * (wanted - mean)))
        return (unseen - centre) / scale @ slopes + mean


@word
class NearestClassCentre(Probe):
    """Accuracy on the forget set of the nearest mean of a class, in a layer's features.

    Args:
        layer, share: as for `LinearProbe`.

    Source: Cosma and Finke, RULER, arXiv 2605.27569, for looking inside; Mensink et al. (2013)
    for the classifier.
    """

    layer: int = -1
    share: float = 0.1

    def check(self) -> None:
        within("NearestClassCentre", "share", self.share, 0, 0.999_999)

    def answer(self, seen: Tensor, targets: Tensor, unseen: Tensor, classes: int) -> Tensor:
        member = one_hot(targets, classes).double()
        count = member.sum(0)
        centres = member.T @ seen / count.clamp_min(1)[:, None]
        away = torch.cdist(unseen, centres)
        return -away.masked_fill(count == 0, torch.inf)


@word
class IllusionGap(ClassifierAudit):
    """By how much a probe knows the forget set better than the model's own answers; at least 0.

    A model that answers wrongly what its features tell rightly hides it. Originals hide nothing,
    so they are no anchor: the gap is compared with that of retrained models, whose features may
    tell a class apart that they never saw.

    Args:
        probe: a `LinearProbe` or `NearestClassCentre`.

    Source: as for the probe; max(probe accuracy - output accuracy, 0) on the same examples.
    """

    family: ClassVar[Family] = "inside"
    unit: ClassVar[str] = "share right"
    more: ClassVar[More] = "hides more"
    anchored: ClassVar[bool] = False
    margin: ClassVar[float] = 0.05
    probe: Probe = LinearProbe()

    def measure(self, model: nn.Module, context: ImageContext) -> float:
        own = accuracy_on(model, split_forget(context, self.probe.share)[1])
        return max(self.probe.measure(model, context) - own, 0.0)

    def grain(self, context: ImageContext) -> float:
        return self.probe.grain(context)


@dataclass(frozen=True)
class LayerGap:
    """One layer of one model: the probe's accuracy on the forget set, and the illusion gap."""

    layer: str
    probe: float
    gap: float


def gaps_by_layer(probe: Probe, model: nn.Module, context: ImageContext) -> tuple[LayerGap, ...]:
    """The illusion gap of every layer of a model, each example passed through it once.

    Args:
        probe: its `layer` is not used.
        model: in evaluation mode; it is not changed.
        scene: gives the sets.
    """
    names = [name for name, _ in weighted_layers(model)]
    seen, unseen = probe.read(model, context, names)
    own = accuracy_on(model, split_forget(context, probe.share)[1])
    right = [(name, probe.score(seen[name], unseen[name], context)) for name in names]
    return tuple(LayerGap(name, found, max(found - own, 0.0)) for name, found in right)


@torch.no_grad()
def features(model: nn.Module, data: Data, names: list[str]) -> dict[str, Tensor]:
    """What goes into some layers, float64 [n, d] on the processor, in one pass over a set.

    Feature maps of more than 2,048 numbers are averaged over places until they fit.
    """
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    latest: dict[str, Tensor] = {}

    def note(name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        latest[name] = _flat(inputs[0]).cpu().double()

    modules, device = dict(model.named_modules()), next(model.parameters()).device
    hooks = [modules[name].register_forward_pre_hook(partial(note, name)) for name in names]
    try:
        for batch in batches(data):
            batch.to(device).logits(model.eval())
            for name in names:  # of a layer that is passed twice, the last time counts
                found[name].append(latest[name])
    finally:
        for hook in hooks:
            hook.remove()
    return {name: torch.cat(pieces) for name, pieces in found.items()}


def _flat(inputs: Tensor) -> Tensor:
    """One row an example, not wider than `WIDEST` where places can be averaged."""
    if inputs.ndim == 4 and inputs[0].numel() > WIDEST:
        side = max(1, int((WIDEST / inputs.shape[1]) ** 0.5))
        inputs = adaptive_avg_pool2d(inputs, side)
    return inputs.flatten(1)
