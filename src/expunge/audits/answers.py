"""The answers as they are: what every other audit looks beneath."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from expunge.audits.audit import Audit, More, Scene, confidence_on
from expunge.words import word


@word
class ForgetConfidence(Audit):
    """Mean probability of the right class on the forget set, with nothing done to the model.

    The baseline of this room: a model that hides passes it, and an audit that finds no more than
    this one has not looked beneath the answers.
    """

    unit: ClassVar[str] = "probability"
    more: ClassVar[More] = "knows more"

    def measure(self, model: nn.Module, scene: Scene) -> float:
        return confidence_on(model, scene.data("forget"))
