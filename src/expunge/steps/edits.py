"""Steps that change weights at once: noise, fresh draws, pruning, and the way back."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from expunge.draws import Draw, Own
from expunge.errors import BadSentence
from expunge.parts import Everything, Part
from expunge.schedules import Schedule, value
from expunge.steps.step import Step
from expunge.words import word

if TYPE_CHECKING:
    from expunge.unlearn import Run


@word
class Noise(Step):
    """Add Gaussian noise of one standard deviation to some weights.

    Args:
        std: standard deviation, a number or a schedule over the turns of a `Repeat`.
        where: the weights.
    """

    draws: ClassVar[bool] = True
    sees_original: ClassVar[bool] = False
    std: float | Schedule
    where: Part = Everything()

    def check(self) -> None:
        if not isinstance(self.std, Schedule) and self.std < 0:
            raise BadSentence(f"Noise: std must be 0 or more, got {self.std}.")

    @torch.no_grad()
    def __call__(self, run: Run) -> None:
        stream, mask = run.stream("noise"), run.mask(self.where)
        std = value(self.std, run.turn[0] / run.turn[1])
        for name, weight in run.model.named_parameters():
            drawn = torch.randn(weight.shape, generator=stream).to(weight)
            weight.add_(std * drawn * mask[name])


@word
class Reset(Step):
    """Initialise some weights anew, and the buffers of layers that are wholly among them.

    Buffers matter: running statistics of normalisation layers have seen the forget set.

    Args:
        where: the weights.
        draw: how they are drawn; buffers are always those of a new layer.
    """

    draws: ClassVar[bool] = True
    sees_original: ClassVar[bool] = False
    where: Part = Everything()
    draw: Draw = Own()

    @torch.no_grad()
    def __call__(self, run: Run) -> None:
        mask, fresh = run.mask(self.where), cache(partial(run.fresh, "reset"))
        chosen = {n: w for n, w in run.model.named_parameters() if bool(mask[n].any())}
        drawn = self.draw.weights(run, chosen, fresh)
        for name, weight in chosen.items():
            weight.copy_(torch.where(mask[name], drawn[name], weight))
        for name, buffer in run.model.named_buffers():
            if _owner_is_inside(name, mask):
                buffer.copy_(dict(fresh().named_buffers())[name])


def _owner_is_inside(buffer: str, mask: dict[str, Tensor]) -> bool:
    """Whether all weights of the buffer's module are reset; of all weights, if it has none."""
    owner = buffer.rpartition(".")[0] + "."
    own = [inside for name, inside in mask.items() if name.startswith(owner)]
    return all(bool(inside.all()) for inside in own or mask.values())


@word
class Zero(Step):
    """Set some weights to zero: prune them."""

    sees_original: ClassVar[bool] = False
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
        # by parameter and buffer: a state holds weights that two layers share twice
        theirs = (*run.original.named_parameters(), *run.original.named_buffers())
        before = dict(theirs)
        for name, now in (*run.model.named_parameters(), *run.model.named_buffers()):
            if now.is_floating_point():
                now.lerp_(before[name].to(now), self.share)
