"""Steps that follow gradients or curvature of whole sets: dampening, a Newton step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from expunge.curvature import conjugate_gradient, full_gradient, hessian_times, importance
from expunge.errors import BadSentence
from expunge.steps.step import Step
from expunge.terms import Term
from expunge.words import word

if TYPE_CHECKING:
    from expunge.unlearn import Run


@word
class Dampen(Step):
    """Shrink the weights that matter much more to the forget set than to the training set.

    Where F_forget > alpha F_train: weight *= min(strength F_train / F_forget, 1), with F the mean
    of the *squared gradients of single examples*, so that no batch size or order enters.

    Source: Foster et al., Selective Synaptic Dampening, arXiv 2308.07707, equations 3 and 4;
    if-loops/selective-synaptic-dampening squares gradients of batches instead.
    """

    alpha: float = 10.0
    strength: float = 1.0
    set: str = "forget"
    against: str = "train"

    @torch.no_grad()
    def __call__(self, run: Run) -> None:
        ours, theirs = importance(run, self.set), importance(run, self.against)
        for name, weight in run.model.named_parameters():
            factor = (self.strength * theirs[name] / ours[name].clamp_min(1e-30)).clamp_max(1.0)
            chosen = ours[name] > self.alpha * theirs[name]
            weight.mul_(torch.where(chosen, factor, torch.ones_like(factor)))


@word
class Newton(Step):
    """One damped Newton step on an objective: weights -= scale (H + damping)^-1 gradient.

    On the retain set this is the influence of leaving the forget set out; it is exact where the
    objective is quadratic. H is the Hessian in evaluation mode, solved by conjugate gradients.

    Source: Guo et al., Certified Data Removal, arXiv 1911.03030, equation 3.
    """

    objective: Term
    damping: float = 0.01
    iterations: int = 20
    scale: float = 1.0

    def check(self) -> None:
        if self.damping < 0 or self.iterations < 1:
            raise BadSentence("Newton: damping must be 0 or more and iterations 1 or more.")
        if not self.objective.sets:
            raise BadSentence(f"Newton: {self.objective!r} reads no set, so it has no gradient.")

    def __call__(self, run: Run) -> None:
        gradient = full_gradient(run, self.objective)
        times = hessian_times(run, self.objective, self.damping)
        change = conjugate_gradient(times, gradient, self.iterations)
        with torch.no_grad():
            for name, weight in run.model.named_parameters():
                weight.sub_(self.scale * change[name])
