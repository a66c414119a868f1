"""Relearning: how soon a model knows again what it was to forget."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from expunge.audits.audit import Audit, More, Scene, accuracy_on, confidence_on, within
from expunge.batch import Subset
from expunge.optimisers import SGD, Optimiser
from expunge.words import word


@word
class Relearn(Audit):
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

    def measure(self, model: nn.Module, scene: Scene) -> float:
        measured = scene.parts(self.share)[1]
        known = scene.once((self, "known"), lambda: accuracy_on(scene.original, measured))
        for step in self.lessons(model, scene):
            if accuracy_on(model, measured) >= (1 - self.alpha) * known:
                return float(step)
        return float(self.steps)

    def grain(self, scene: Scene) -> float:
        return 1.0

    def lessons(self, model: nn.Module, scene: Scene) -> Iterator[int]:
        """Train in place; yield the number of steps so far, from 0 on."""
        taught = scene.parts(self.share)[0]
        weights = [weight.requires_grad_(True) for weight in model.parameters()]
        optimiser = self.optimiser.over(weights)
        optimiser.param_groups[0]["lr"] = self.lr
        draws = scene.stream("relearn", self.share, self.batch)
        for step in range(self.steps):
            yield step
            loss = self._loss(model.train(), taught, scene, draws)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        yield self.steps

    @torch.enable_grad()
    def _loss(
        self, model: nn.Module, taught: Subset, scene: Scene, draws: torch.Generator
    ) -> Tensor:
        """One forward pass of both sets together, so that normalisation sees both."""
        device = next(model.parameters()).device
        sets = [taught, scene.data("retain")][: 1 + (self.retain > 0)]
        drawn = [torch.randperm(len(one), generator=draws)[: self.batch] for one in sets]
        read = [one.batch(rows).to(device) for one, rows in zip(sets, drawn, strict=True)]
        answers = model(torch.cat([batch.inputs for batch in read]))
        pieces = answers.split([len(batch) for batch in read])
        losses = [cross_entropy(a, b.targets) for a, b in zip(pieces, read, strict=True)]
        return losses[0] + self.retain * losses[1] if self.retain > 0 else losses[0]


@word
class RecoveryArea(Audit):
    """Mean probability of the right class over the course of relearning, before it and after.

    The smooth variant of relearn time: it needs no threshold, and no cap hides a slow model.

    Args:
        relearn: the lessons; its `alpha` is not used.
    """

    unit: ClassVar[str] = "probability"
    more: ClassVar[More] = "knows more"
    relearn: Relearn = Relearn(steps=25)

    def measure(self, model: nn.Module, scene: Scene) -> float:
        measured = scene.parts(self.relearn.share)[1]
        seen = [confidence_on(model, measured) for _ in self.relearn.lessons(model, scene)]
        return sum(seen) / len(seen)


@word
class Anamnesis(Audit):
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

    unit: ClassVar[str] = "of a retrained model's relearn time"
    more: ClassVar[More] = "knows less"
    relearn: Relearn = Relearn(share=1.0)
    added: float = 0.01

    def check(self) -> None:
        within("Anamnesis", "added", self.added, 1e-9, 1e6)

    def measure(self, model: nn.Module, scene: Scene) -> float:
        return (self._epochs(model, scene) + self.added) / self._gold(scene)

    def grain(self, scene: Scene) -> float:
        return 1.0 / self._epoch(scene) / self._gold(scene)

    def _gold(self, scene: Scene) -> float:
        fresh = partial(copy.deepcopy, scene.oracle)
        made = scene.once((self, "gold"), lambda: self._epochs(fresh(), scene) + self.added)
        return float(made)

    def _epochs(self, model: nn.Module, scene: Scene) -> float:
        return self.relearn.measure(model, scene) / self._epoch(scene)

    def _epoch(self, scene: Scene) -> int:
        """Steps of one pass over the part that is taught."""
        return -(-len(scene.parts(self.relearn.share)[0]) // self.relearn.batch)
