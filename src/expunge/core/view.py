"""What a term sees: one minibatch of each of its sets, and one model's answers on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expunge.core.batch import Batch, Tokens
from expunge.errors import Unsupported


@dataclass(frozen=True)
class Known:
    """What a term may know besides minibatches.

    Args:
        sizes: name of a set -> examples in the whole of it.
        facts: repr of a term -> what that term computed once from whole sets.
        heads: name of a model ("" is the model itself) -> its last linear layer, whose inputs are
            its features; empty where no term asks for them.
        layers: (name of a model, number of a layer) -> that layer of a transformer, likewise.
        lenses: name of a model -> its logit lens, from a layer's outputs to logits.
    """

    sizes: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    heads: Mapping[str, nn.Module] = field(default_factory=dict)
    layers: Mapping[tuple[str, int], nn.Module] = field(default_factory=dict)
    lenses: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)


class View:
    """One model at one minibatch; each forward pass is made once, however many terms read it.

    Args:
        model: inputs -> logits, with gradients.
        batches: name of a set -> its minibatch.
        teachers: name of a teacher -> inputs -> logits, without gradients.
        weights: name -> weight that may move, with gradients.
        progress: how far the step has come, 0.0 to 1.0.
        seed: the run's seed, for draws that belong to it.
        known: what does not change from minibatch to minibatch.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        batches: Mapping[str, Batch],
        teachers: Mapping[str, Callable[..., Any]],
        weights: Mapping[str, Tensor],
        progress: float,
        seed: int | Tensor,
        known: Known | None = None,
    ) -> None:
        self._model, self._batches, self._teachers = model, batches, teachers
        self._answers: dict[tuple[str, str], Tensor] = {}
        self._spread: dict[tuple[str, str], Tensor] = {}
        self._features: dict[tuple[str, str], Tensor] = {}
        self._hidden: dict[tuple[str, str, int], Tensor] = {}
        self._known = known or Known()
        self._changed: dict[str, View] = {}
        self.weights, self.progress, self.seed = weights, progress, seed

    def batch(self, name: str) -> Batch:
        """The minibatch of one set."""
        return self._batches[name]

    def mean(self, name: str, each: Tensor) -> Tensor:
        """Mean over the scored targets of one set: [b, *t] or [b, *t, ...] -> [].

        Prompts and padding of token sequences count nothing.
        """
        scored = self._batches[name].scored
        if scored is None:
            return each.mean()
        wide = scored.reshape(*scored.shape, *[1] * (each.ndim - scored.ndim)).expand_as(each)
        return torch.where(wide, each, 0.0).sum() / wide.sum().clamp_min(1)

    def mean_square(self, name: str, ours: Tensor, theirs: Tensor) -> Tensor:
        """Mean squared difference over the scored targets of one set."""
        if self._batches[name].scored is None:
            return F.mse_loss(ours, theirs)
        return self.mean(name, F.mse_loss(ours, theirs, reduction="none"))

    def losses(self, name: str) -> Tensor:
        """-log p of each true target, nats, [b, *t]; 0 where nothing is scored."""
        each = F.cross_entropy(self.answers(name), self.targets(name), reduction="none")
        return self._batches[name].spread(each)

    def seeing(self, key: str, change: Callable[[Batch], Batch]) -> View:
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

    def answers(self, name: str, teacher: str = "") -> Tensor:
        """What the model or a teacher answers to one set where it is scored, [n, k].

        These are all examples of a set of images, and the scored tokens of all texts, row by row;
        no other answers are computed. A mean over n is a mean over the scored targets.
        """
        return self._cached(teacher, name, self._teachers[teacher] if teacher else self._model)

    def targets(self, name: str) -> Tensor:
        """The scored targets of one set, [n]."""
        batch = self._batches[name]
        return batch.targets.flatten() if batch.scored is None else batch.targets[batch.scored]

    def logits(self, name: str) -> Tensor:
        """The model's answers on the minibatch of one set, [b, *t, k]; 0 where none is scored."""
        return self._in_place("", name)

    def features(self, name: str, teacher: str = "") -> Tensor:
        """The inputs of the last linear layer of the model or a teacher, [b, *t, d].

        They are taken from the same forward pass as the answers.
        """
        self._cached(teacher, name, self._teachers[teacher] if teacher else self._model)
        return self._features[teacher, name]

    def hidden(self, name: str, layer: int, teacher: str = "") -> Tensor:
        """What a layer of the model or a teacher gives at each token that has a target, [b, *t, d].

        Raises:
            Unsupported: the minibatch is not of tokens.
        """
        batch = self._batches[name]
        if not isinstance(batch, Tokens):
            raise Unsupported("Hidden states are asked of the layers of a language model's tokens.")
        self._cached(teacher, name, self._teachers[teacher] if teacher else self._model)
        return batch.aligned(self._hidden[teacher, name, layer])

    def lens(self, name: str, layer: int) -> Tensor:
        """What the model's head makes of a layer where it is scored: the logit lens, [n, k]."""
        return self._known.lenses[""](self.hidden(name, layer)[self._batches[name].scored])

    def teacher(self, teacher: str, name: str) -> Tensor:
        """A teacher's answers, as `logits` has the model's, [b, *t, k], without gradients."""
        return self._in_place(teacher, name)

    def ask(self, teacher: str, inputs: Tensor) -> Tensor:
        """A teacher's answers to inputs of one's own, [b, *t, k]; slopes of the inputs pass."""
        return self._teachers[teacher](inputs)

    def size(self, name: str) -> int:
        """Examples in the whole of one set."""
        return self._known.sizes[name]

    def facts(self, term: object) -> Mapping[str, Tensor]:
        """What a term computed from whole sets before the training began."""
        return self._known.facts[repr(term)]

    def _in_place(self, who: str, name: str) -> Tensor:
        if (who, name) not in self._spread:
            self._spread[who, name] = self._batches[name].spread(self.answers(name, who))
        return self._spread[who, name]

    def _cached(self, who: str, name: str, model: Callable[..., Any]) -> Tensor:
        if (who, name) not in self._answers:
            with ExitStack() as hooks:
                seen = hooks.enter_context(inputs_of(self._known.heads.get(who)))
                own = {
                    n: layer for (model_, n), layer in self._known.layers.items() if model_ == who
                }
                given = {n: hooks.enter_context(outputs_of(layer)) for n, layer in own.items()}
                self._answers[who, name] = self._batches[name].answers(model)
            if seen:
                self._features[who, name] = seen[-1]
            self._hidden |= {(who, name, n): states[-1] for n, states in given.items()}
        return self._answers[who, name]


class _Changed(dict[str, Batch]):
    """Minibatches, each changed when it is first asked for."""

    def __init__(self, source: Mapping[str, Batch], change: Callable[[Batch], Batch]) -> None:
        self.source, self.change = source, change

    def __missing__(self, name: str) -> Batch:
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


@contextmanager
def outputs_of(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what comes out of a layer while the block runs; the first of several things."""
    seen: list[Tensor] = []

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output)

    handle = layer.register_forward_hook(note)
    try:
        yield seen
    finally:
        handle.remove()


def blocks(model: nn.Module) -> nn.ModuleList:
    """The layers of a transformer, one after another.

    Raises:
        Unsupported: the model does not say how many it has, or there is no list of so many.
    """
    count = getattr(getattr(model, "config", None), "num_hidden_layers", 0)
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count > 0:
            return module
    raise Unsupported("The model is no transformer whose layers are known; it has no hidden ones.")


def layer_of(model: nn.Module, number: int) -> nn.Module:
    """One layer of a transformer, counted from 0.

    Raises:
        Unsupported: there is none of that number.
    """
    there = blocks(model)
    if not 0 <= number < len(there):
        raise Unsupported(f"Layer {number} was asked for; the model has 0 to {len(there) - 1}.")
    return there[number]


# What transformers calls the normalisation after the last layer, by architecture.
LAST_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm")


def lens_of(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """The logit lens of a transformer: its last normalisation, then its head.

    Raises:
        Unsupported: the model's head, or the normalisation beside its layers, is not known.
    """
    layers, head = blocks(model), getattr(model, "get_output_embeddings", lambda: None)()
    around = next(m for m in model.modules() if any(c is layers for c in m.children()))
    norms = [getattr(around, name) for name in LAST_NORMS if hasattr(around, name)]
    if head is None or len(norms) != 1:
        raise Unsupported(
            f"The head of a {type(model).__name__}, or the normalisation before it, is not known; "
            "there is no logit lens."
        )
    return lambda states: head(norms[0](states)).float()


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
