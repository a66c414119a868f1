"""Steps that change weights at once: noise, fresh draws, pruning, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from expunge.errors import BadSentence
from expunge.parts import Everything, Part
from expunge.steps.step import Step
from expunge.words import word

if TYPE_CHECKING:
    from expunge.unlearn import Run


@word
class Noise(Step):
    """Add Gaussian noise of one standard deviation to some weights."""

    std: float
    where: Part = Everything()

    def check(self) -> None:
        if self.std < 0:
            raise BadSentence(f"Noise: std must be 0 or more, got {self.std}.")

    @torch.no_grad()
    def __call__(self, run: Run) -> None:
        stream, mask = run.stream("noise"), run.mask(self.where)
        for name, weight in run.model.named_parameters():
            drawn = torch.randn(weight.shape, generator=stream).to(weight)
            weight.add_(self.std * drawn * mask[name])


@word
class Reset(Step):
    """Initialise some weights anew, and the buffers of layers that are wholly among them.

    Buffers matter: running statistics of normalisation layers have seen the forget set.
    """

    where: Part = Everything()

    @torch.no_grad()
    def __call__(self, run: Run) -> None:
        mask, fresh = run.mask(self.where), run.fresh("reset")
        new_weights, new_buffers = dict(fresh.named_parameters()), dict(fresh.named_buffers())
        for name, weight in run.model.named_parameters():
            weight.copy_(torch.where(mask[name], new_weights[name], weight))
        for name, buffer in run.model.named_buffers():
            if _owner_is_inside(name, mask):
                buffer.copy_(new_buffers[name])


def _owner_is_inside(buffer: str, mask: dict[str, Tensor]) -> bool:
    """Whether all weights of the buffer's module are reset; of all weights, if it has none."""
    owner = buffer.rpartition(".")[0] + "."
    own = [inside for name, inside in mask.items() if name.startswith(owner)]
    return all(bool(inside.all()) for inside in own or mask.values())


@word
class Zero(Step):
    """Set some weights to zero: prune them."""

    where: Part

    @torch.no_grad()
    def __call__(self, run: Run) -> None:
        mask = run.mask(self.where)
        for name, weight in run.model.named_parameters():
            weight.masked_fill_(mask[name], 0.0)


@word
class Blend(Step):
    """Move back towards the original model by a share of the way (weights and statistics)."""

    share: float

    def check(self) -> None:
        if not 0 <= self.share <= 1:
            raise BadSentence(f"Blend: share must lie between 0 and 1, got {self.share}.")

    @torch.no_grad()
    def __call__(self, run: Run) -> None:
        before = run.original.state_dict()
        for name, now in run.model.state_dict().items():
            if now.is_floating_point():
                now.lerp_(before[name].to(now), self.share)
