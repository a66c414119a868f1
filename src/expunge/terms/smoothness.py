"""Terms on how the answers change with the inputs."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from expunge.batch import Batch
from expunge.errors import BadSentence, Unsupported
from expunge.terms.noisy import gaussian
from expunge.terms.term import Term
from expunge.view import View
from expunge.words import word


@word
class Lipschitz(Term):
    """How fast the answers change around examples: mean of ||f(x) - f(x')|| / ||x - x'||.

    x' is x with Gaussian noise, kept within the minibatch's range of values; no slope passes
    through f(x'). The noise is a hash of the example, the member and the progress.

    Args:
        set: the set around whose examples the model is made smooth; no labels are read.
        std: standard deviation of the noise, on the scale that the model gets its inputs in.
        samples: noisy copies of each example.

    Source: Foster et al., An Information Theoretic Approach to Machine Unlearning (JiT), arXiv
    2402.01401; jwf40/Information-Theoretic-Unlearning@f207655, src/lipschitz.py, which sums over
    the minibatch, and whose gradients pile up over minibatches (fault: zero_grad before the loop).
    """

    draws: ClassVar[bool] = True
    reads_labels: ClassVar[tuple[str, ...]] = ()
    set: str
    std: float = 0.5
    samples: int = 25

    def check(self) -> None:
        if self.std <= 0 or self.samples < 1:
            raise BadSentence("Lipschitz: std must be above 0, and samples 1 or more.")

    @property
    def extra_passes(self) -> int:
        return self.samples

    def __call__(self, view: View) -> Tensor:
        slopes = [self._slope(view, number) for number in range(self.samples)]
        return torch.stack(slopes).mean()

    def _slope(self, view: View, number: int) -> Tensor:
        """The slope towards one noisy copy of each example, mean over the minibatch."""
        salt = int(view.progress * 2**40) * self.samples + number

        def nearby(batch: Batch) -> Batch:
            x = batch.inputs
            if not x.is_floating_point():
                raise Unsupported("Lipschitz adds noise to pictures; tokens are whole numbers.")
            noisy = x + self.std * gaussian(batch.index, x, view.seed, salt)
            return replace(batch, inputs=noisy.clamp(x.amin(), x.amax()))

        there = view.seeing(f"near {self!r} {number}", nearby)
        with torch.no_grad():
            theirs = there.logits(self.set)
        change = (view.logits(self.set) - theirs).flatten(1)
        step = (view.batch(self.set).inputs - there.batch(self.set).inputs).flatten(1)
        return (change.norm(dim=1) / step.norm(dim=1).clamp_min(1e-12)).mean()
