"""Around the forget set: what is still recognised nearby, and what was damaged nearby."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from expunge.audits.audit import More, within
from expunge.audits.images.classifier_audit import (
    ClassifierAudit,
    ImageContext,
    batches,
    confidence_on,
    examples,
    logits_on,
)
from expunge.audits.images.probe import features
from expunge.audits.weights import weighted_layers
from expunge.core.batch import Subset, Tensors, all_targets
from expunge.core.problem import Problem
from expunge.core.vocabulary import word


@word
class AdversarialNeighbours(ClassifierAudit):
    """Share of forget examples with a near picture that the model knows and a retrained one not.

    Each example is moved, within `radius` in every pixel, towards what the model recognises and the
    scene's retrained model does not. Retrained models differ too: what one of them finds against
    another is the yardstick.

    Args:
        radius: largest change of a pixel, in the model's own input units.
        steps: of the search.

    Source: Hsu et al., arXiv 2601.22359 (residual knowledge: the ratio of the two models'
    recognition over random perturbations; here searched for, and as a share of examples).
    """

    unit: ClassVar[str] = "share of examples"
    more: ClassVar[More] = "knows more"
    radius: float = 0.03
    steps: int = 10

    def check(self) -> None:
        within("AdversarialNeighbours", "radius", self.radius, 1e-12, 1e6)
        within("AdversarialNeighbours", "steps", self.steps, 1, 10_000)

    def measure(self, model: nn.Module, context: ImageContext) -> float:
        def apart(inputs: Tensor, targets: Tensor) -> Tensor:
            ours, theirs = model(inputs), context.oracle(inputs)
            return cross_entropy(theirs, targets) - cross_entropy(ours, targets)

        forget, found = examples(context, "forget"), 0
        device = next(model.parameters()).device
        for batch in batches(forget):
            batch = batch.to(device)
            moved = climb(batch.inputs, batch.targets, apart, self.radius, self.steps)
            with torch.no_grad():
                ours, theirs = model(moved).argmax(-1), context.oracle(moved).argmax(-1)
            found += int(((ours == batch.targets) & (theirs != batch.targets)).sum())
        return found / len(forget)

    def grain(self, context: ImageContext) -> float:
        return 1.0 / len(examples(context, "forget"))


@word
class OverUnlearning(ClassifierAudit):
    """OU@eps: divergence from the original, without the forgotten classes, near their boundary.

    Forget examples are moved towards the original's runner-up class. There the original's answers,
    its forgotten classes set to 0 and the rest scaled up, are what a model should answer that has
    lost these classes and nothing else. Mean Jensen-Shannon divergence, nats.

    Args:
        radius: largest change of a pixel, in the model's own input units.
        steps: of the search.

    Source: Ha et al., arXiv 2506.01318, OU@eps; Seung-B/Spotter-Unlearning@6070945, ov_utils.py.
    Fault avoided: that search climbs the loss of the runner-up class, and so moves away from the
    boundary.
    """

    unit: ClassVar[str] = "nats"
    more: ClassVar[More] = "is more damaged"
    anchored: ClassVar[bool] = False
    margin: ClassVar[float] = 0.05
    radius: float = 0.03
    steps: int = 3

    def check(self) -> None:
        within("OverUnlearning", "radius", self.radius, 1e-12, 1e6)
        within("OverUnlearning", "steps", self.steps, 1, 10_000)

    def mismatch(self, problem: Problem) -> str:
        return "" if problem.class_wise else "only whole classes leave a target for what is near"

    def measure(self, model: nn.Module, context: ImageContext) -> float:
        near, wanted = context.once((self, "near"), lambda: self._near(context))
        answered = logits_on(model, near).double().softmax(-1)
        return float(jensen_shannon(wanted, answered).mean())

    def _near(self, context: ImageContext) -> tuple[Tensors, Tensor]:
        """The moved examples, and what the original answers there without its lost classes."""

        def nearer(inputs: Tensor, targets: Tensor) -> Tensor:
            return -cross_entropy(context.original(inputs), targets)

        moved, gone = [], all_targets(examples(context, "forget"))
        device = next(context.original.parameters()).device
        for batch in batches(examples(context, "forget")):
            batch = batch.to(device)
            with torch.no_grad():
                answers = batch.logits(context.original)
            second = answers.scatter(-1, batch.targets[:, None], -torch.inf).argmax(-1)
            moved.append(climb(batch.inputs, second, nearer, self.radius, self.steps).cpu())
        near = Tensors(torch.cat(moved), gone)
        left = logits_on(context.original, near).double()
        left[:, gone.unique()] = -torch.inf
        return near, left.softmax(-1)


@word
class DamageNearBoundary(ClassifierAudit):
    """Mean probability lost on the retain examples that look most like forget examples.

    Near is what the original's last features call near: for every forget example its `nearest`
    retain examples, each counted once. The number is 1 less the mean probability of the right
    class there, so that more is worse.

    Args:
        nearest: retain examples for every forget example.

    Source: own measure, after Ha et al., arXiv 2506.01318, who name damage near the forget set.
    """

    unit: ClassVar[str] = "probability"
    more: ClassVar[More] = "is more damaged"
    anchored: ClassVar[bool] = False
    margin: ClassVar[float] = 0.05
    nearest: int = 3

    def check(self) -> None:
        within("DamageNearBoundary", "nearest", self.nearest, 1, 1_000_000)

    def measure(self, model: nn.Module, context: ImageContext) -> float:
        return 1 - confidence_on(model, context.once((self, "near"), lambda: self.near(context)))

    def near(self, context: ImageContext) -> Subset:
        """The retain examples nearest to forget examples."""
        name = weighted_layers(context.original)[-1][0]
        forget, retain = (
            features(context.original, examples(context, one), [name])[name]
            for one in ("forget", "retain")
        )
        count = min(self.nearest, len(retain))
        rows = [
            torch.cdist(part, retain).topk(count, largest=False).indices.flatten()
            for part in forget.split(256)
        ]
        return Subset(examples(context, "retain"), torch.cat(rows).unique())


@torch.enable_grad()
def climb(
    start: Tensor,
    targets: Tensor,
    gain: Callable[[Tensor, Tensor], Tensor],
    radius: float,
    steps: int,
) -> Tensor:
    """Inputs moved up a gain by the sign of its slope, within a box and the range of the inputs.

    Args:
        start: float [b, ...].
        targets: int64 [b].
        gain: (inputs, targets) -> scalar.
        radius: largest change of a number.
        steps: each 2 radius / steps long, the radius at most, so that half of them reach the edge.
    """
    low = torch.maximum(start - radius, start.min())
    high = torch.minimum(start + radius, start.max())
    length = min(radius, 2 * radius / steps)
    moved = start
    for _ in range(steps):
        moved = moved.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(gain(moved, targets), moved)
        moved = (moved + length * slope.sign()).detach().clamp(low, high)
    return moved.detach()


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """Divergence of distributions along the last axis, nats; 0 log 0 is 0."""
    middle = (p + q) / 2

    def half(one: Tensor) -> Tensor:
        return (torch.xlogy(one, one) - torch.xlogy(one, middle)).sum(-1) / 2

    return half(p) + half(q)
