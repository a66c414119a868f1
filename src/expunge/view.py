"""What a term sees: one minibatch of each of its sets, and one model's answers on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from expunge.batch import Images
from expunge.errors import Unsupported


@dataclass(frozen=True)
class Known:
    """What a term may know besides minibatches.

    Args:
        sizes: name of a set -> examples in the whole of it.
        facts: repr of a term -> what that term worked out once from whole sets.
        heads: name of a model ("" is the model itself) -> its last linear layer, whose inputs are
            its features; empty where no term asks for them.
    """

    sizes: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    heads: Mapping[str, nn.Module] = field(default_factory=dict)


class View:
    """One model at one minibatch; each forward pass is made once, however many terms read it.

    Args:
        model: inputs -> logits, with gradients.
        batches: name of a set -> its minibatch.
        teachers: name of a teacher -> inputs -> logits, without gradients.
        weights: name -> weight that may move, with gradients.
        progress: how far the step has come, 0.0 to 1.0.
        seed: the member's seed, for draws that belong to the member.
        known: what does not change from minibatch to minibatch.
    """

    def __init__(
        self,
        model: Callable[[Tensor], Tensor],
        batches: Mapping[str, Images],
        teachers: Mapping[str, Callable[[Tensor], Tensor]],
        weights: Mapping[str, Tensor],
        progress: float,
        seed: int | Tensor,
        known: Known | None = None,
    ) -> None:
        self._model, self._batches, self._teachers = model, batches, teachers
        self._answers: dict[tuple[str, str], Tensor] = {}
        self._features: dict[tuple[str, str], Tensor] = {}
        self._known = known or Known()
        self._changed: dict[str, View] = {}
        self.weights, self.progress, self.seed = weights, progress, seed

    def batch(self, name: str) -> Images:
        """The minibatch of one set."""
        return self._batches[name]

    def seeing(self, key: str, change: Callable[[Images], Images]) -> View:
        """The same model at changed minibatches; terms that give the same key share one view."""
        if key not in self._changed:
            self._changed[key] = View(
                self._model,
                _Changed(self._batches, change),
                self._teachers,
                self.weights,
                self.progress,
                self.seed,
                self._known,
            )
        return self._changed[key]

    def logits(self, name: str) -> Tensor:
        """The model's answers on the minibatch of one set, [b, *t, k]."""
        return self._cached("", name, self._model)

    def features(self, name: str, teacher: str = "") -> Tensor:
        """The inputs of the last linear layer of the model or a teacher, [b, *t, d].

        They are taken from the same forward pass as the answers.
        """
        self._cached(teacher, name, self._teachers[teacher] if teacher else self._model)
        return self._features[teacher, name]

    def teacher(self, teacher: str, name: str) -> Tensor:
        """A teacher's answers on the minibatch of one set, [b, *t, k], without gradients."""
        return self._cached(teacher, name, self._teachers[teacher])

    def ask(self, teacher: str, inputs: Tensor) -> Tensor:
        """A teacher's answers to inputs of one's own, [b, *t, k]; slopes of the inputs pass."""
        return self._teachers[teacher](inputs)

    def size(self, name: str) -> int:
        """Examples in the whole of one set."""
        return self._known.sizes[name]

    def facts(self, term: object) -> Mapping[str, Tensor]:
        """What a term worked out from whole sets before the training began."""
        return self._known.facts[repr(term)]

    def _cached(self, who: str, name: str, model: Callable[[Tensor], Tensor]) -> Tensor:
        if (who, name) not in self._answers:
            with inputs_of(self._known.heads.get(who)) as seen:
                self._answers[who, name] = self._batches[name].logits(model)
            if seen:
                self._features[who, name] = seen[-1]
        return self._answers[who, name]


class _Changed(dict[str, Images]):
    """Minibatches, each changed when it is first asked for."""

    def __init__(self, source: Mapping[str, Images], change: Callable[[Images], Images]) -> None:
        self.source, self.change = source, change

    def __missing__(self, name: str) -> Images:
        self[name] = self.change(self.source[name])
        return self[name]


@contextmanager
def inputs_of(layer: nn.Module | None) -> Iterator[list[Tensor]]:
    """Collect what goes into a layer while the block runs; nothing where there is no layer."""
    seen: list[Tensor] = []
    if layer is None:
        yield seen
        return

    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.append(inputs[0])

    handle = layer.register_forward_pre_hook(note)
    try:
        yield seen
    finally:
        handle.remove()


def last_linear(model: nn.Module) -> nn.Linear:
    """The last linear layer that the model defines, whose inputs are the model's features.

    Raises:
        Unsupported: there is none.
    """
    found = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not found:
        raise Unsupported(
            "The model has no linear layer (nn.Linear), so it has no features before the last one. "
            "Give it one as its last layer, or use a term on the logits."
        )
    return found[-1]
