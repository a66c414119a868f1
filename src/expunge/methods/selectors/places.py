"""Selectors by place: layers, kinds and names, the same for every model of an architecture."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

from torch import nn

from expunge.core.selector import Mask, Selector, whole_tensors
from expunge.core.vocabulary import word
from expunge.errors import BadSentence, Unsupported

if TYPE_CHECKING:
    from expunge.core.run import RunProtocol


@word
class Last(Selector):
    """The last `layers` layers: each a weight matrix or kernel with its bias and normalisation.

    Args:
        layers: how many, 1 or more.
    """

    sees_original: ClassVar[bool] = False
    layers: int = 1

    def check(self) -> None:
        check_layers(self)

    def mask(self, run: RunProtocol) -> Mask:
        return whole_layers(run.original, self.layers, slice(-self.layers, None))


@word
class First(Selector):
    """The first `layers` layers: each a weight matrix or kernel with its bias and normalisation.

    Args:
        layers: how many, 1 or more.
    """

    sees_original: ClassVar[bool] = False
    layers: int = 1

    def check(self) -> None:
        check_layers(self)

    def mask(self, run: RunProtocol) -> Mask:
        return whole_layers(run.original, self.layers, slice(None, self.layers))


def layers(model: nn.Module) -> list[list[str]]:
    """List the names of the parameters, layer by layer, in the order of the model's definition."""
    found: list[list[str]] = []
    for name, weight in model.named_parameters():
        if weight.ndim > 1 or not found:
            found.append([])
        found[-1].append(name)
    return found


def whole_layers(model: nn.Module, count: int, rows: slice) -> Mask:
    """Make the mask of `count` layers, those at `rows` of all.

    Raises:
        Unsupported: the model has fewer.
    """
    there = layers(model)
    if count > len(there):
        raise Unsupported(f"The model has {len(there)} layers; {count} were asked for.")
    return whole_tensors(model, {n for layer in there[rows] for n in layer}.__contains__)


def check_layers(part: First | Last) -> None:
    """Refuse fewer layers than one."""
    if part.layers < 1:
        raise BadSentence(f"{type(part).__name__}: layers must be 1 or more, got {part.layers}.")


# Names of parameters that a refusal lists.
SHOWN = 12


@word
class Named(Selector):
    r"""The parameters whose names match a regular expression somewhere (`re.search`).

    Args:
        pattern: the expression, such as "layers\.(5|6)\.mlp".

    Raises:
        BadSentence: no parameter of the model matches.
    """

    sees_original: ClassVar[bool] = False
    pattern: str

    def check(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as fault:
            raise BadSentence(
                f"Named: {self.pattern!r} is no regular expression: {fault}."
            ) from None

    def mask(self, run: RunProtocol) -> Mask:
        names = [name for name, _ in run.original.named_parameters()]
        found = {name for name in names if re.search(self.pattern, name)}
        if not found:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            raise BadSentence(
                f"No parameter of this model matches {self.pattern!r}; it has "
                f"{', '.join(names[:SHOWN])}{more}."
            )
        return whole_tensors(run.original, found.__contains__)


CONVS = nn.Conv1d | nn.Conv2d | nn.Conv3d


@word
class Convs(Selector):
    """The kernels of all convolutions, without their biases.

    Raises:
        Unsupported: the model has no convolution.
    """

    sees_original: ClassVar[bool] = False

    def mask(self, run: RunProtocol) -> Mask:
        modules = run.original.named_modules()
        names = {f"{name}.weight".lstrip(".") for name, m in modules if isinstance(m, CONVS)}
        if not names:
            raise Unsupported("The model has no convolution, so Convs() would be empty.")
        return whole_tensors(run.original, names.__contains__)


@word
class Pointwise(Selector):
    """The 1x1 convolutions, each with its bias and normalisation; there may be none.

    In a ResNet of basic blocks they are the projections of the shortcuts.
    """

    sees_original: ClassVar[bool] = False

    def mask(self, run: RunProtocol) -> Mask:
        kernels = {
            f"{prefix}.weight".lstrip(".")
            for prefix, module in run.original.named_modules()
            if isinstance(module, CONVS) and set(module.kernel_size) == {1}
        }
        found = {n for layer in layers(run.original) if layer[0] in kernels for n in layer}
        return whole_tensors(run.original, found.__contains__)


NORMS = nn.modules.batchnorm._NormBase | nn.GroupNorm | nn.LayerNorm | nn.RMSNorm


@word
class Norms(Selector):
    """The weights and biases of all normalisations (batch, instance, group, layer, RMS), if any."""

    sees_original: ClassVar[bool] = False

    def mask(self, run: RunProtocol) -> Mask:
        found = {
            f"{prefix}.{name}".lstrip(".")
            for prefix, module in run.original.named_modules()
            if isinstance(module, NORMS)
            for name, _ in module.named_parameters(recurse=False)
        }
        return whole_tensors(run.original, found.__contains__)
