"""Parts that belong to a moment: what has changed by now, and tensors drawn for one turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch

from expunge.errors import BadSentence, Unsupported
from expunge.parts.part import Mask, Part, whole_tensors
from expunge.parts.places import Everything
from expunge.words import word

if TYPE_CHECKING:
    from expunge.unlearn import Run


@word
class Changed(Part):
    """The weights that are no longer what they were in the original, when the step begins.

    The one part that looks at the model and not at the original: "those that an earlier step drew
    anew". Within a `Repeat` it is judged anew each turn.
    """

    @property
    def redraws(self) -> bool:
        return True

    def mask(self, run: Run) -> Mask:
        before = dict(run.original.named_parameters())
        pairs = run.model.named_parameters()
        return {name: weight.detach() != before[name] for name, weight in pairs}


@word
class RandomTensors(Part):
    """Whole parameters (kernels, matrices, biases), drawn anew for each member and each turn.

    All steps of one turn of a `Repeat` share one draw, and outside of a `Repeat` all steps of the
    sentence: `Noise(0.04, RandomTensors(6)), Train(..., where=RandomTensors(9))` trains the six
    that got noise and three more. Parameters are put in a random order, of which the first `count`
    are taken; where there are fewer, all of them.

    Args:
        count: how many.
        among: the part that they are drawn from; a parameter counts if it lies in it wholly.
        replacement: whether one may be drawn twice, so that fewer than `count` may come out.

    Source: seventh prize of the NeurIPS 2023 challenge (Jiaxi Sun), 9 parameters without
    replacement; the eighth (Forget), 6 with.
    """

    sees_original: ClassVar[bool] = False
    count: int
    among: Part = Everything()
    replacement: bool = False

    def check(self) -> None:
        if self.count < 1:
            raise BadSentence(f"RandomTensors: count must be 1 or more, got {self.count}.")

    @property
    def redraws(self) -> bool:
        return True

    def mask(self, run: Run) -> Mask:
        among = run.mask(self.among)
        pool = [name for name, inside in among.items() if bool(inside.all())]
        if not pool:
            raise Unsupported(f"No whole parameter of the model lies in {self.among!r}.")
        stream = run.turn_stream("random tensors")
        if self.replacement:
            rows = torch.randint(len(pool), (self.count,), generator=stream)
        else:
            rows = torch.randperm(len(pool), generator=stream)[: self.count]
        return whole_tensors(run.original, {pool[int(row)] for row in rows}.__contains__)
