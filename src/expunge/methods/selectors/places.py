"""Parts by place: layers, kinds and names, the same for every model of an architecture."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

from torch import nn

from expunge.core.selector import Mask, Selector, whole_tensors
from expunge.core.vocabulary import word
from expunge.errors import BadSentence, Unsupported

if TYPE_CHECKING:
    from expunge.core.run import RunProtocol


# Names of parameters that a refusal lists.
SHOWN = 12


@word
class Last(Selector):
    """The last `layers` layers: each a weight matrix or kernel with its bias and normalisation."""

    sees_original: ClassVar[bool] = False
    layers: int = 1

    def check(self) -> None:
        _at_least_one("Last", self.layers)

    def mask(self, run: RunProtocol) -> Mask:
        chosen = _chosen(run.original, slice(-self.layers, None), self.layers)
        return whole_tensors(run.original, chosen.__contains__)


@word
class First(Selector):
    """The first `layers` layers: each a weight matrix or kernel with its bias and normalisation."""

    sees_original: ClassVar[bool] = False
    layers: int = 1

    def check(self) -> None:
        _at_least_one("First", self.layers)

    def mask(self, run: RunProtocol) -> Mask:
        chosen = _chosen(run.original, slice(None, self.layers), self.layers)
        return whole_tensors(run.original, chosen.__contains__)


@word
class Convs(Selector):
    """The kernels of all convolutions, without their biases."""

    sees_original: ClassVar[bool] = False

    def mask(self, run: RunProtocol) -> Mask:
        kinds = nn.Conv1d | nn.Conv2d | nn.Conv3d
        modules = run.original.named_modules()
        names = {f"{name}.weight".lstrip(".") for name, m in modules if isinstance(m, kinds)}
        if not names:
            raise Unsupported("The model has no convolution, so Convs() would be empty.")
        return whole_tensors(run.original, names.__contains__)


@word
class Named(Selector):
    """The parameters whose names match a regular expression somewhere (`re.search`)."""

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


def layers(model: nn.Module) -> list[list[str]]:
    """Names of the parameters, layer by layer, in the order in which the model defines them."""
    found: list[list[str]] = []
    for name, weight in model.named_parameters():
        if weight.ndim > 1 or not found:
            found.append([])
        found[-1].append(name)
    return found


def _chosen(model: nn.Module, rows: slice, wanted: int) -> set[str]:
    there = layers(model)
    if wanted > len(there):
        raise Unsupported(f"The model has {len(there)} layers; {wanted} were asked for.")
    return {name for layer in there[rows] for name in layer}


def _at_least_one(owner: str, layers: int) -> None:
    if layers < 1:
        raise BadSentence(f"{owner}: layers must be 1 or more, got {layers}.")


NORMS = nn.modules.batchnorm._NormBase | nn.GroupNorm | nn.LayerNorm | nn.RMSNorm


CONVS = nn.Conv1d | nn.Conv2d | nn.Conv3d


@word
class Norms(Selector):
    """The weights and biases of all normalisations (batch, instance, group, layer, RMS)."""

    sees_original: ClassVar[bool] = False

    def mask(self, run: RunProtocol) -> Mask:
        found = {
            f"{prefix}.{name}".lstrip(".")
            for prefix, module in run.original.named_modules()
            if isinstance(module, NORMS)
            for name, _ in module.named_parameters(recurse=False)
        }
        return whole_tensors(run.original, found.__contains__)


@word
class Pointwise(Selector):
    """The 1x1 convolutions, each with its bias and normalisation.

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
