"""Parts by the kind of layer: normalisations, pointwise convolutions; empty where there are none.

`Convs` refuses a model without convolutions; these two do not, so that `~Norms()` and
`~Pointwise()` can be said of any model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import nn

from expunge.parts.part import Mask, Part, whole_tensors
from expunge.parts.places import layers
from expunge.words import word

if TYPE_CHECKING:
    from expunge.unlearn import Run

NORMS = nn.modules.batchnorm._NormBase | nn.GroupNorm | nn.LayerNorm | nn.RMSNorm
CONVS = nn.Conv1d | nn.Conv2d | nn.Conv3d


@word
class Norms(Part):
    """The weights and biases of all normalisations (batch, instance, group, layer, RMS)."""

    sees_original: ClassVar[bool] = False

    def mask(self, run: Run) -> Mask:
        found = {
            f"{prefix}.{name}".lstrip(".")
            for prefix, module in run.original.named_modules()
            if isinstance(module, NORMS)
            for name, _ in module.named_parameters(recurse=False)
        }
        return whole_tensors(run.original, found.__contains__)


@word
class Pointwise(Part):
    """The 1x1 convolutions, each with its bias and normalisation.

    In a ResNet of basic blocks they are the projections of the shortcuts.
    """

    sees_original: ClassVar[bool] = False

    def mask(self, run: Run) -> Mask:
        kernels = {
            f"{prefix}.weight".lstrip(".")
            for prefix, module in run.original.named_modules()
            if isinstance(module, CONVS) and set(module.kernel_size) == {1}
        }
        found = {n for layer in layers(run.original) if layer[0] in kernels for n in layer}
        return whole_tensors(run.original, found.__contains__)
