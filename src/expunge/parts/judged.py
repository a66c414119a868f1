"""Parts by judgement: size, gradients on a set, or chance."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar

import torch

from expunge.parts.part import Mask, Part, is_share, lowest, quantile, whole_tensors
from expunge.words import word

if TYPE_CHECKING:
    from expunge.problem import Problem
    from expunge.unlearn import Run


@word
class Smallest(Part):
    """The `share` of all kernels' and matrices' weights that are smallest in size (L1 pruning)."""

    share: float

    def check(self) -> None:
        is_share("Smallest", self.share)

    def mask(self, run: Run) -> Mask:
        sizes = {n: w.detach().abs() for n, w in run.original.named_parameters() if w.ndim > 1}
        return lowest(run.original, sizes, self.share)


@word
class Salient(Part):
    """The `share` of all weights on which the loss on one set depends most.

    Source: Fan et al., SalUn, arXiv 2310.12508, equation 3 (authors' share 0.5); gradient of the
    mean cross-entropy, taken in evaluation mode.
    """

    set: str = "forget"
    share: float = 0.5

    def check(self) -> None:
        is_share("Salient", self.share)

    def reads(self, problem: Problem) -> Counter[str]:
        return Counter({self.set: len(problem.data(self.set))})

    def mask(self, run: Run) -> Mask:
        gradient = run.gradient(self.set)
        sizes = {name: -g.abs() for name, g in gradient.items()}
        return lowest(run.original, sizes, self.share)


@word
class Similar(Part):
    """In each kernel or matrix, the `share` of weights whose gradients on two sets differ least.

    As many examples of the set `a` are drawn as the set `b` holds, anew for each member, which
    gives the unlearned models the run-to-run variance that retrained ones have.

    Source: second prize of the NeurIPS 2023 challenge (Kookmin Y): gradient of the cross-entropy on
    random retain examples minus that on the forget set, smallest 30 % of each convolution.
    """

    a: str = "retain"
    b: str = "forget"
    share: float = 0.3

    def check(self) -> None:
        is_share("Similar", self.share)

    def reads(self, problem: Problem) -> Counter[str]:
        theirs, ours = len(problem.data(self.a)), len(problem.data(self.b))
        return Counter({self.a: min(theirs, ours)}) + Counter({self.b: ours})

    @property
    def redraws(self) -> bool:
        return True

    def mask(self, run: Run) -> Mask:
        size, available = len(run.data(self.b)), len(run.data(self.a))
        drawn = torch.randperm(available, generator=run.stream("similar"))[:size]
        theirs, ours = run.gradient(self.a, drawn), run.gradient(self.b)
        parts = whole_tensors(run.original, lambda name: False)
        for name in (n for n, inside in parts.items() if inside.ndim > 1):
            difference = (theirs[name] - ours[name]).abs()
            parts[name] = difference <= quantile(difference, self.share)
        return parts


@word
class Random(Part):
    """A `share` of all weights, drawn anew for each member and each time."""

    sees_original: ClassVar[bool] = False
    share: float

    def check(self) -> None:
        is_share("Random", self.share)

    @property
    def redraws(self) -> bool:
        return True

    def mask(self, run: Run) -> Mask:
        stream = run.stream("random part")
        shapes = {name: w.shape for name, w in run.original.named_parameters()}
        drawn = {name: torch.rand(s, generator=stream) for name, s in shapes.items()}
        device = next(run.original.parameters()).device
        return {name: (u < self.share).to(device) for name, u in drawn.items()}
