"""Losses on inputs with noise."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from expunge.core.batch import Batch, Images
from expunge.core.term import Around, Term
from expunge.core.view import View
from expunge.core.vocabulary import word
from expunge.errors import BadSentence, Unsupported
from expunge.methods.losses.answers import above_zero
from expunge.methods.losses.other_answers import gaussian


@word
class Jittered(Around):
    """A loss as it is with Gaussian noise on the inputs, for the model and its teachers alike.

    The noise is a hash of the example's index, the seed, the progress of the step and the place in
    the image: new at every minibatch, and the same whichever others are in it.

    Args:
        term: the loss on the noisy inputs.
        std: standard deviation of the noise, in the units that the model reads.

    Source: eighth prize of the NeurIPS 2023 challenge (Forget), std 0.01
    (kaggle.com/c/neurips-2023-machine-unlearning/discussion/458715).
    """

    draws: ClassVar[bool] = True
    term: Term
    std: float = 0.01

    def check(self) -> None:
        above_zero(self, "std")

    @property
    def alters(self) -> str:
        return f"jittered {self.std!r}"

    def __call__(self, view: View) -> Tensor:
        salt = int(view.progress * 2**40)

        def noisy(batch: Batch) -> Batch:
            if not batch.inputs.is_floating_point():
                raise Unsupported("Jittered adds noise to images; tokens are whole numbers.")
            noise = gaussian(batch.index, batch.inputs, view.seed, salt)
            return Images(batch.inputs + self.std * noise, batch.targets, batch.index)

        return self.term(view.seeing(self.alters, noisy))


@word
class Lipschitz(Term):
    """How fast the answers change around examples: mean of ||f(x) - f(x')|| / ||x - x'||.

    x' is x with Gaussian noise, clipped to the minibatch's range of values; no gradient passes
    through f(x'). The noise is a hash of the example, the seed and the progress.

    Args:
        set: the set around whose examples the model is made smooth; no labels are read.
        std: standard deviation of the noise, in the units that the model reads.
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
        """Return how fast the answers change towards one noisy copy, mean over the minibatch."""
        salt = int(view.progress * 2**40) * self.samples + number

        def nearby(batch: Batch) -> Batch:
            x = batch.inputs
            if not x.is_floating_point():
                raise Unsupported("Lipschitz adds noise to images; tokens are whole numbers.")
            noisy = x + self.std * gaussian(batch.index, x, view.seed, salt)
            return replace(batch, inputs=noisy.clamp(x.amin(), x.amax()))

        there = view.seeing(f"near {self!r} {number}", nearby)
        with torch.no_grad():
            theirs = there.logits(self.set)
        change = (view.logits(self.set) - theirs).flatten(1)
        step = (view.batch(self.set).inputs - there.batch(self.set).inputs).flatten(1)
        return (change.norm(dim=1) / step.norm(dim=1).clamp_min(1e-12)).mean()
