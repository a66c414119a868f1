"""Audits that ask a classifier: the forget set itself, planted labels, and what lies around it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from expunge.audits.audit import Family, More, within
from expunge.audits.images.classifier_audit import (
    ClassifierAudit,
    ImageContext,
    batches,
    confidence,
    confidence_on,
    examples,
    logits_on,
)
from expunge.audits.images.probe import features
from expunge.audits.weights import weighted_layers
from expunge.core.batch import Images, Subset, Tensors, all_targets
from expunge.core.problem import Problem
from expunge.core.vocabulary import word
from expunge.errors import BadData, BadSentence, ExpungeError, Unsupported
from expunge.problems.images.canaries import patterns, stored


@word
class ForgetConfidence(ClassifierAudit):
    """Mean probability of the right class on the forget set, with nothing done to the model.

    Of texts, of the tokens of their answers. The baseline of this room: a model that hides passes
    it, and an audit that finds no more than this one has not looked beneath the answers.
    """

    family: ClassVar[Family] = "asking"
    plain: ClassVar[bool] = True
    unit: ClassVar[str] = "probability"
    more: ClassVar[More] = "knows more"
    reads_texts: ClassVar[bool] = True

    def measure(self, model: nn.Module, context: ImageContext) -> float:
        return confidence_on(model, examples(context, "forget"))


@word
class NoisyInputs(ClassifierAudit):
    """Mean probability of the right class on the forget set, with a little noise on its inputs.

    A filter that looks an input up, or that was trained on the very examples alone, does not know
    them again; what the weights hold of them is still told.

    Args:
        std: of the Gaussian noise, in the model's own input units.
        draws: of noise for each example; the same for all models.

    Source: our own; the classifier's form of asking in other words.
    """

    family: ClassVar[Family] = "asking"
    unit: ClassVar[str] = "probability"
    more: ClassVar[More] = "knows more"
    std: float = 0.05
    draws: int = 4

    def check(self) -> None:
        within("NoisyInputs", "std", self.std, 1e-9, 1e6)
        within("NoisyInputs", "draws", self.draws, 1, 10_000)

    @torch.no_grad()
    def measure(self, model: nn.Module, context: ImageContext) -> float:
        draws, total, count = context.stream("noise", self.std), 0.0, 0
        for batch in batches(examples(context, "forget")) * self.draws:
            if not isinstance(batch, Images):
                raise Unsupported("NoisyInputs puts noise on pictures, and these are texts.")
            noise = self.std * torch.randn(batch.inputs.shape, generator=draws)
            device = next(model.parameters()).device
            changed = replace(batch, inputs=batch.inputs + noise).to(device)
            answers = changed.logits(model).float().cpu()
            total += confidence(answers, batch.targets) * len(batch)
            count += len(batch)
        return total / count


@word
class InterclassConfusion(ClassifierAudit):
    """Share of examples of two classes that the model takes for the other of the two.

    For a forget set `Mislabelled(a, b, share)`. On unseen examples of the two classes it counts the
    confusion that remains; on the set "forget", whose labels are the swapped ones, the mislabelled
    points that the model still answers as mislabelled.

    Args:
        a, b: the two classes, in any order.
        set: "test", "val", "holdout" or "forget".

    Source: Goel et al., arXiv 2201.06640; meghdadk/SCRUB@98ffb11, `--confuse-mode`.
    """

    unit: ClassVar[str] = "share confused"
    more: ClassVar[More] = "knows more"
    a: int
    b: int
    set: str = "test"

    def check(self) -> None:
        if self.a == self.b or min(self.a, self.b) < 0:
            raise BadSentence(
                f"InterclassConfusion: expected two classes from 0 on, got {self.a} and {self.b}."
            )

    def mismatch(self, problem: Problem) -> str:
        there = all_targets(problem.sets["forget"]).unique().tolist()
        if set(there) == {self.a, self.b}:
            return ""
        return (
            f"the forget set holds the classes {there}, and examples of {self.a} and {self.b} "
            "with swapped labels are expected: Mislabelled"
        )

    def measure(self, model: nn.Module, context: ImageContext) -> float:
        data = self._pair(context)
        given, answered = all_targets(data), logits_on(model, data).argmax(-1)
        other = torch.where(given == self.a, self.b, self.a)
        return float((answered == self._confused(given, other)).double().mean())

    def grain(self, context: ImageContext) -> float:
        return 1.0 / len(self._pair(context))

    def _confused(self, given: Tensor, other: Tensor) -> Tensor:
        """The wrong answer: the label itself where the labels are swapped."""
        return given if self.set == "forget" else other

    def _pair(self, context: ImageContext) -> Subset:
        """The examples of the two classes."""
        data = examples(context, self.set)
        both = torch.tensor([self.a, self.b])
        rows = torch.isin(all_targets(data), both).nonzero()[:, 0]
        if not len(rows):
            raise BadData(f"The set {self.set!r} holds no example of class {self.a} or {self.b}.")
        return Subset(data, rows)


@word
class LabelExposure(ClassifierAudit):
    """Mean exposure of canaries with wrong labels, bits: log2 of classes less log2 of the rank.

    For a forget set `Canaries(count)`. The rank is that of the planted label among all classes by
    the model's answer, ties counting half. log2(k) is known by heart; a model that never saw it
    ranks it behind the true class.

    Source: Carlini et al., arXiv 1802.08232, exposure.
    """

    family: ClassVar[Family] = "asking"
    unit: ClassVar[str] = "bits"
    more: ClassVar[More] = "knows more"

    def measure(self, model: nn.Module, context: ImageContext) -> float:
        forget = examples(context, "forget")
        answers = logits_on(model, forget)
        own = answers.gather(-1, all_targets(forget)[:, None])
        return exposure(ranks(own, answers), answers.shape[-1])


@word
class PatternExposure(ClassifierAudit):
    """Mean exposure of planted patterns among fresh ones, bits.

    For a forget set `PatternCanaries(count)`. Each canary is ranked by its loss among patterns
    drawn anew from the same distribution under the same label: log2(alternatives + 1) less log2
    of the rank, ties counting half. A model that never saw it gives log2(e) = 1.44 on average.

    Args:
        alternatives: fresh patterns, the same for all canaries and models.

    Source: Carlini et al., arXiv 1802.08232, exposure by sampling.
    """

    family: ClassVar[Family] = "asking"
    unit: ClassVar[str] = "bits"
    more: ClassVar[More] = "knows more"
    alternatives: int = 255

    def check(self) -> None:
        within("PatternExposure", "alternatives", self.alternatives, 1, 10_000_000)

    def mismatch(self, problem: Problem) -> str:
        try:
            stored(problem.sets["forget"])
        except ExpungeError as fault:
            return str(fault).rstrip(".")
        return ""

    def measure(self, model: nn.Module, context: ImageContext) -> float:
        forget = examples(context, "forget")
        others = context.once((self, "others"), lambda: self._others(context))
        labels = all_targets(forget)
        own = logits_on(model, forget).log_softmax(-1).gather(-1, labels[:, None])
        theirs = logits_on(model, others).log_softmax(-1)[:, labels].T
        rank = ranks(own, torch.cat([own, theirs], 1))
        return exposure(rank, self.alternatives + 1)

    def _others(self, context: ImageContext) -> Tensors:
        base = stored(examples(context, "forget"))
        fresh = patterns(base.inputs, self.alternatives, context.stream("alternatives"))
        return replace(base, inputs=fresh, targets=torch.zeros(len(fresh), dtype=torch.int64))


def ranks(own: torch.Tensor, all_of_them: torch.Tensor) -> torch.Tensor:
    """The rank of each canary, 1 the highest, ties counting half; float64 [n].

    Args:
        own: the canaries' scores, [n, 1].
        all_of_them: scores of the alternatives and the canary itself, [n, m].
    """
    above = (all_of_them > own).sum(1).double()
    return 1 + above + ((all_of_them == own).sum(1).double() - 1) / 2


def exposure(rank: torch.Tensor, among: int) -> float:
    """Mean exposure in bits of ranks from 1 to `among`."""
    return math.log2(among) - float(rank.log2().mean())


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
