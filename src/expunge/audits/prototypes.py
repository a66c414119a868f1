"""Relearning from a handful of images: class prototypes written into the last layer."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from expunge.audits.audit import Audit, More, Scene, accuracy_on, weighted_layers, within
from expunge.audits.probe import features
from expunge.batch import Subset, all_targets
from expunge.errors import BadData, Unsupported
from expunge.problem import Problem
from expunge.view import last_linear
from expunge.words import word


@word
class PrototypeRelearn(Audit):
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

    unit: ClassVar[str] = "share right"
    more: ClassVar[More] = "knows more"
    count: int = 5
    blend: float = 0.5

    def check(self) -> None:
        within("PrototypeRelearn", "count", self.count, 1, 1_000_000)
        within("PrototypeRelearn", "blend", self.blend, 1e-9, 1)

    def unfit(self, problem: Problem) -> str:
        targets = all_targets(problem.sets["forget"])
        fewest = int(targets.bincount()[targets.unique()].min())
        if fewest > self.count:
            return ""
        return f"a class has {fewest} forget examples, and more than {self.count} are needed"

    @torch.no_grad()
    def measure(self, model: nn.Module, scene: Scene) -> float:
        shown, rest = scene.once((self, "shown"), lambda: self._shown(scene))
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

    def grain(self, scene: Scene) -> float:
        return 1.0 / len(scene.once((self, "shown"), lambda: self._shown(scene))[1])

    def _write(self, layer: nn.Linear, label: int, mean: Tensor) -> None:
        """Blend a class's weights with its prototype."""
        prototype = normalize(mean, dim=0).to(layer.weight)
        layer.weight[label] = self.blend * prototype + (1 - self.blend) * layer.weight[label]
        if layer.bias is not None:
            layer.bias[label] *= 1 - self.blend

    def _shown(self, scene: Scene) -> tuple[Subset, Subset]:
        """`count` random examples of each class, and the others."""
        forget = scene.data("forget")
        targets = all_targets(forget)
        order = torch.randperm(len(forget), generator=scene.stream("prototypes"))
        drawn = [order[targets[order] == label][: self.count] for label in targets.unique()]
        chosen = torch.zeros(len(forget), dtype=torch.bool)
        chosen[torch.cat(drawn)] = True
        if chosen.all():
            raise BadData("Every forget example is shown as a prototype; none is left to measure.")
        return Subset(forget, chosen.nonzero()[:, 0]), Subset(forget, (~chosen).nonzero()[:, 0])
