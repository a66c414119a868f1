"""What comes back when weights are rounded or pruned: small changes hide, and do not last."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from expunge.audits.audit import Audit, More, Scene, confidence_on, within
from expunge.words import word


@word
class Quantise(Audit):
    """Mean probability of the right class on the forget set, once weights are rounded.

    Every kernel and matrix is rounded to the nearest of 2^bits - 1 levels, symmetric about 0, with
    a scale of its own for each output channel; biases and normalisation stay as they are.

    Args:
        bits: 8 or 4, as deployed; 2 to 16.

    Source: Zhang et al., arXiv 2410.16454 (quantisation brings unlearned knowledge back), there
    for language models; Jacob et al., arXiv 1712.05877, for the rounding.
    """

    unit: ClassVar[str] = "probability"
    more: ClassVar[More] = "knows more"
    reads_texts: ClassVar[bool] = True
    bits: int = 8

    def check(self) -> None:
        within("Quantise", "bits", self.bits, 2, 16)

    @torch.no_grad()
    def measure(self, model: nn.Module, scene: Scene) -> float:
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.copy_(rounded(weight, self.bits))
        return confidence_on(model, scene.data("forget"))


@word
class Prune(Audit):
    """Mean probability of the right class on the forget set, once small weights are 0.

    The smallest weights of all kernels and matrices together are set to 0, without repair.

    Args:
        share: of the weights that are pruned.

    Source: Jia et al., arXiv 2304.04934, for magnitude pruning.
    """

    unit: ClassVar[str] = "probability"
    more: ClassVar[More] = "knows more"
    reads_texts: ClassVar[bool] = True
    share: float = 0.3

    def check(self) -> None:
        within("Prune", "share", self.share, 0, 1)

    @torch.no_grad()
    def measure(self, model: nn.Module, scene: Scene) -> float:
        weights = [weight for weight in model.parameters() if weight.ndim > 1]
        sizes = torch.cat([weight.abs().flatten() for weight in weights])
        count = round(self.share * len(sizes))
        limit = sizes.kthvalue(count).values if count else sizes.new_tensor(-1.0)
        for weight in weights:
            weight[weight.abs() <= limit] = 0.0
        return confidence_on(model, scene.data("forget"))


def rounded(weight: Tensor, bits: int) -> Tensor:
    """A kernel or matrix, rounded to nearest on a grid of its own for each output channel.

    Args:
        weight: [out, ...]; a channel of zeros stays.
        bits: of a symmetric signed grid: levels from -(2^(bits - 1) - 1) to 2^(bits - 1) - 1.
    """
    levels = 2 ** (bits - 1) - 1
    largest = weight.abs().flatten(1).amax(1).view(-1, *[1] * (weight.ndim - 1))
    step = torch.where(largest > 0, largest / levels, torch.ones_like(largest))
    return (weight / step).round() * step
