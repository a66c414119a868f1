"""The answers as they are: what every other audit looks beneath."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from torch import nn

from expunge.audits.audit import Audit, More, Scene, batches, confidence, confidence_on, within
from expunge.batch import Images
from expunge.errors import Unsupported
from expunge.words import word


@word
class ForgetConfidence(Audit):
    """Mean probability of the right class on the forget set, with nothing done to the model.

    Of texts, of the tokens of their answers. The baseline of this room: a model that hides passes
    it, and an audit that finds no more than this one has not looked beneath the answers.
    """

    unit: ClassVar[str] = "probability"
    more: ClassVar[More] = "knows more"
    reads_texts: ClassVar[bool] = True

    def measure(self, model: nn.Module, scene: Scene) -> float:
        return confidence_on(model, scene.data("forget"))


@word
class NoisyInputs(Audit):
    """Mean probability of the right class on the forget set, with a little noise on its inputs.

    A filter that looks an input up, or that was trained on the very examples alone, does not know
    them again; what the weights hold of them is still told.

    Args:
        std: of the Gaussian noise, in the model's own input units.
        draws: of noise for each example; the same for all models.

    Source: our own; the classifier's form of asking in other words.
    """

    unit: ClassVar[str] = "probability"
    more: ClassVar[More] = "knows more"
    std: float = 0.05
    draws: int = 4

    def check(self) -> None:
        within("NoisyInputs", "std", self.std, 1e-9, 1e6)
        within("NoisyInputs", "draws", self.draws, 1, 10_000)

    @torch.no_grad()
    def measure(self, model: nn.Module, scene: Scene) -> float:
        draws, total, count = scene.stream("noise", self.std), 0.0, 0
        for batch in batches(scene.data("forget")) * self.draws:
            if not isinstance(batch, Images):
                raise Unsupported("NoisyInputs puts noise on pictures, and these are texts.")
            noise = self.std * torch.randn(batch.inputs.shape, generator=draws)
            device = next(model.parameters()).device
            changed = replace(batch, inputs=batch.inputs + noise).to(device)
            answers = changed.logits(model).float().cpu()
            total += confidence(answers, batch.targets) * len(batch)
            count += len(batch)
        return total / count
