"""What an audit is: one number a model, measured alike for every model by the frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from expunge.core.batch import Batch, Data, Subset, all_targets, holds_tokens
from expunge.core.problem import Problem
from expunge.core.seeds import stream
from expunge.errors import BadData, BadSentence, Unsupported

CHUNK = 512


More = Literal["knows more", "knows less", "is more damaged", "hides more"]


@dataclass(frozen=True, eq=False)
class Scene:
    """What an audit may look at besides the model: the same for all models of one audit.

    Args:
        problem: gives the sets, those that methods may not see among them.
        original: one model trained on all, frozen; the yardstick of thresholds and distances.
        oracle: one retrained model, frozen, that is not among those compared.
        seed: all that audits draw follows from it, and not from the model.
        facts: what was worked out once for all models.
    """

    problem: Problem
    original: nn.Module
    oracle: nn.Module
    seed: int = 0
    facts: dict[Any, Any] = field(default_factory=dict)

    def stream(self, *names: object) -> torch.Generator:
        """A generator for one purpose, the same for every model."""
        return stream("audit", self.seed, *names)

    def data(self, name: str) -> Data:
        """Any set of the problem: audits only measure.

        Raises:
            BadData: there is no such set, or it holds no example.
        """
        data = self.problem.sets.get(name)
        if data is None or len(data) == 0:
            there = ", ".join(self.problem.sets)
            raise BadData(
                f"The audit reads the set {name!r}, which is missing or empty in "
                f"{self.problem.name}; there are {there}."
            )
        return data

    def once(self, key: object, make: Callable[[], Any]) -> Any:
        """What depends on the scene alone, worked out for the first model and kept."""
        if key not in self.facts:
            self.facts[key] = make()
        return self.facts[key]

    def parts(self, share: float) -> tuple[Subset, Subset]:
        """Two disjoint parts of the forget set: a random share that is shown, and the rest.

        With a share of 1 both are the whole set. Audits of one share and seed part it alike.

        Raises:
            BadData: one of the parts would be empty.
        """
        forget = self.data("forget")
        order = torch.randperm(len(forget), generator=self.stream("parts", share))
        if share == 1:
            return Subset(forget, order), Subset(forget, order)
        count = round(share * len(forget))
        if count == len(forget) or (count == 0 and share > 0):
            raise BadData(
                f"A share of {share} of {len(forget)} forget examples leaves one part empty; "
                "forget more examples, or take another share."
            )
        return Subset(forget, order[:count].sort().values), Subset(forget, order[count:])


class Audit(ABC):
    """An experiment on one model's weights that ends in one number; abstract.

    The author computes, and the frame does everything else: it hands over a private copy in
    evaluation mode, on which anything may be done, with a stream of its own for models that draw
    at random, and compares the numbers of many models.

    `unit` is what the number counts, and `more` what a larger one says of a model. An `anchored`
    audit is read between its two anchors, retrained models (0) and originals (1), and `margin` is
    the share of that lead that matters; any other is compared with retrained models alone, and
    `margin` is in its own unit. One that asks for nothing but probabilities `reads_texts` too.
    """

    unit: ClassVar[str]
    more: ClassVar[More]
    reads_texts: ClassVar[bool] = False
    anchored: ClassVar[bool] = True
    margin: ClassVar[float] = 0.1

    @abstractmethod
    def measure(self, model: nn.Module, scene: Scene) -> float:
        """The number of one model; the model is the audit's own to change."""

    def grain(self, scene: Scene) -> float:
        """What the number is rounded to, by its nature; 0 for none."""
        return 0.0

    def unfit(self, problem: Problem) -> str:
        """Why the audit makes no sense on a problem, as a clause; empty if it does."""
        return ""


def batches(data: Data) -> list[Batch]:
    """A whole set in minibatches, in order."""
    return [data.batch(rows) for rows in torch.arange(len(data)).split(CHUNK)]


@torch.no_grad()
def logits_on(model: nn.Module, data: Data) -> Tensor:
    """What a model answers on a whole set in evaluation mode, float32 [n, k], on the processor."""
    model.eval()
    device = next(model.parameters()).device
    found = [batch.to(device).logits(model).float().cpu() for batch in batches(data)]
    return torch.cat(found)


def accuracy(logits: Tensor, targets: Tensor) -> float:
    """Share of examples whose largest logit is that of their class."""
    return float((logits.argmax(-1) == targets).double().mean())


def confidence(logits: Tensor, targets: Tensor) -> float:
    """Mean probability of the right class."""
    return float((logits.double().softmax(-1) * one_hot(targets, logits.shape[-1])).sum(-1).mean())


def accuracy_on(model: nn.Module, data: Data) -> float:
    """Share of a set that a model answers rightly."""
    return accuracy(logits_on(model, data), all_targets(data))


def confidence_on(model: nn.Module, data: Data) -> float:
    """Mean probability of the right class on a set; of texts, of the answers' tokens."""
    if holds_tokens(data):
        # the room of texts is not opened for audits of pictures
        from expunge.engine.inference import likelihoods
        from expunge.metrics.text.likelihood import probability

        return float(probability(likelihoods([model], data).answers(0)).mean())
    return confidence(logits_on(model, data), all_targets(data))


def within(owner: str, name: str, value: float, low: float, high: float) -> None:
    """Refuse an argument outside [low, high]."""
    if not low <= value <= high:
        raise BadSentence(f"{owner}: {name} must lie between {low:g} and {high:g}, got {value:g}.")


def weighted_layers(model: nn.Module) -> Sequence[tuple[str, nn.Module]]:
    """Modules with a kernel or matrix of their own, in the order in which the model defines them.

    Raises:
        Unsupported: there is none.
    """
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    found = [(name, m) for name, m in model.named_modules() if isinstance(m, kinds)]
    if not found:
        raise Unsupported("The model has no linear layer and no convolution to look beneath.")
    return found
