"""Small audits, scenes and problems for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar

import torch
from torch import nn

import tiny
from expunge.audits.images.answers import (
    AdversarialNeighbours,
    DamageNearBoundary,
    ForgetConfidence,
    InterclassConfusion,
    LabelExposure,
    NoisyInputs,
    OverUnlearning,
    PatternExposure,
)
from expunge.audits.images.classifier_audit import ClassifierAudit, ImageContext
from expunge.audits.images.probe import IllusionGap, LinearProbe, NearestClassCentre
from expunge.audits.images.relearn import (
    Anamnesis,
    PrototypeRelearn,
    Prune,
    Quantise,
    RecoveryArea,
    Relearn,
)
from expunge.core.batch import Tensors
from expunge.core.problem import Problem
from expunge.core.vocabulary import word
from expunge.engine.run import frozen
from expunge.problems.forget_sets import Mislabelled
from expunge.problems.images.canaries import planted

SHORT = Relearn(steps=3, batch=8, alpha=0.0)


def classes() -> Problem:
    """Two whole classes are to be forgotten; there is a test set."""
    return tiny.classwise(test=tiny.unseen())


def swapped() -> Problem:
    """A third of the digits 3 and 5 carry each other's label."""
    data = tiny.pictures(120)
    chosen = Mislabelled(3, 5, 0.34)(data, data.targets, seed=0)
    rest = {"architecture": tiny.net, "recipe": tiny.RECIPE, "test": tiny.unseen()}
    return Problem.split(planted(data, chosen), chosen.indices, name="swapped", **rest)


AUDITS: tuple[tuple[ClassifierAudit, Callable[[], Problem]], ...] = (
    (ForgetConfidence(), classes),
    (NoisyInputs(draws=2), classes),
    (SHORT, classes),
    (Relearn(steps=2, share=1.0, retain=0.0, batch=8), classes),
    (RecoveryArea(SHORT), classes),
    (Anamnesis(SHORT), classes),
    (LinearProbe(), classes),
    (LinearProbe(layer=1, share=0.0), tiny.problem),
    (NearestClassCentre(), classes),
    (IllusionGap(NearestClassCentre()), classes),
    (PrototypeRelearn(count=1), classes),
    (InterclassConfusion(3, 5), swapped),
    (InterclassConfusion(5, 3, set="forget"), swapped),
    (Quantise(bits=4), classes),
    (Prune(0.5), classes),
    (AdversarialNeighbours(0.1, steps=2), classes),
    (OverUnlearning(0.1, steps=2), classes),
    (DamageNearBoundary(), tiny.problem),
    (LabelExposure(), tiny.problem),
    (PatternExposure(alternatives=15), tiny.problem),
)


@cache
def models(first: int, count: int, architecture: Any = tiny.net) -> tuple[nn.Module, ...]:
    """Models that differ, one a seed."""
    return tuple(tiny.made(architecture, seed=seed) for seed in range(first, first + count))


def context(
    problem: Problem | None = None,
    original: nn.Module | None = None,
    oracle: nn.Module | None = None,
    seed: int = 0,
) -> ImageContext:
    pair = original or models(100, 1)[0], oracle or models(200, 1)[0]
    return ImageContext(problem or classes(), frozen(pair[0]), frozen(pair[1]), seed)


def line(*weights: float, bias: float = 0.0) -> nn.Sequential:
    """Answers (0, w x + b) to one number x: the smallest classifier with a gradient."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(len(weights), 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[0.0] * len(weights), list(weights)]))
        model[1].bias.copy_(torch.tensor([0.0, bias]))
    return model.eval()


def points(inputs: Any, targets: Any) -> Tensors:
    """Pictures of one row, from rows of numbers."""
    rows = torch.tensor(inputs, dtype=torch.float32)
    return Tensors(rows.reshape(len(rows), 1, 1, -1), torch.tensor(targets))


@word
class FirstBias(ClassifierAudit):
    """The first bias of the last layer: a number that a test can set."""

    unit: ClassVar[str] = "units"
    more: ClassVar[Any] = "knows more"

    def measure(self, model: nn.Module, context: ImageContext) -> float:
        return float(model[1].bias[0])


@word
class FewerBias(ClassifierAudit):
    """The same, where more says less."""

    unit: ClassVar[str] = "units"
    more: ClassVar[Any] = "knows less"

    def measure(self, model: nn.Module, context: ImageContext) -> float:
        return float(model[1].bias[0])


def set_to(*values: float) -> list[nn.Module]:
    """Models whose first bias has these values."""
    made = []
    for value in values:
        model = line(1.0)
        with torch.no_grad():
            model[1].bias[0] = value
        made.append(model)
    return made


def on_a_line() -> Problem:
    """Six numbers: the last two of class 1 are to be forgotten."""
    train = points([[-1.0], [-2.0], [1.0], [2.0], [3.0], [4.0]], [0, 0, 1, 1, 1, 1])
    return Problem.split(train, torch.tensor([4, 5]), name="line")
