"""Influence steps: one step along the gradient and curvature of whole sets."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar

import torch

from expunge.core.method import Step
from expunge.core.term import Term
from expunge.core.vocabulary import word
from expunge.engine.curvature import (
    chunks,
    conjugate_gradient,
    fisher_times,
    full_gradient,
    hessian_times,
)
from expunge.engine.memory import ANSWERS, more_than_one
from expunge.errors import BadSentence
from expunge.methods.losses.answers import CE

if TYPE_CHECKING:
    from expunge.core.run import ProblemProtocol, RunProtocol


@word
class Newton(Step):
    """Take one damped Newton step on an objective: weights -= scale (H + damping)^-1 gradient.

    On the retain set this is the influence of leaving the forget set out; it is exact where the
    objective is quadratic. H is the Hessian in evaluation mode, solved by conjugate gradients.

    Args:
        objective: the loss whose gradient and Hessian are taken, over whole sets.
        damping: added to H's diagonal.
        iterations: of conjugate gradients, at most.
        scale: of the step; 1 is the full one.

    Source: Guo et al., Certified Data Removal, arXiv 1911.03030 (Newton step).
    """

    settled: ClassVar[bool] = True
    sees_original: ClassVar[bool] = False
    may_stop_early: ClassVar[bool] = True

    objective: Term
    damping: float = 0.01
    iterations: int = 20
    scale: float = 1.0

    def check(self) -> None:
        if self.damping < 0 or self.iterations < 1:
            raise BadSentence("Newton: damping must be 0 or more and iterations 1 or more.")
        if not self.objective.sets:
            raise BadSentence(f"Newton: {self.objective!r} reads no set, so it has no gradient.")

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        once: Counter[str] = Counter()
        for where in chunks(problem, self.objective):
            once.update({name: len(rows) for name, rows in where.items()})
        once[ANSWERS] = more_than_one(self.objective, once)
        return Counter({name: (1 + self.iterations) * count for name, count in once.items()})

    def __call__(self, run: RunProtocol) -> None:
        gradient = full_gradient(run, self.objective)
        times = hessian_times(run, self.objective, self.damping)
        change = conjugate_gradient(times, gradient, self.iterations)
        with torch.no_grad():
            for name, weight in run.model.named_parameters():
                weight.sub_(self.scale * change[name])


@word
class WoodFisher(Step):
    """Take one influence step away from the forget set: weights += alpha (F + damping)^-1 gradient.

    The gradient is n_forget / n times that on the forget set less that on the retain set; F is the
    mean of g g' over some retain examples. As many rank-one Woodbury updates as examples would
    give the same inverse; here conjugate gradients solve it, since the updates need every
    example's gradient kept. (The authors' recursion keeps one vector, which stays parallel to the
    first gradient, so that its step departs from the plain gradient along that one alone.)

    Args:
        alpha: size of the step; 0.2 is the default of the authors' command line, who tune it.
        examples: retain examples that F is taken over, sampled for each seed.
        damping: added to F's diagonal.
        iterations: of conjugate gradients, at most.
        set: the set to be forgotten.
        against: the set to be retained.

    Source: Izzo et al., arXiv 2002.10077, and Koh and Liang, arXiv 1703.04730, as in Jia et al.,
    arXiv 2304.04934 (IU); Singh and Alistarh, WoodFisher, arXiv 2004.14340;
    OPTML-Group/Unlearn-Sparse@16a2dbc, unlearn/Wfisher.py.
    """

    draws: ClassVar[bool] = True
    sees_original: ClassVar[bool] = False
    may_stop_early: ClassVar[bool] = True

    alpha: float = 0.2
    examples: int = 1000
    damping: float = 1.0
    iterations: int = 50
    set: str = "forget"
    against: str = "retain"

    def check(self) -> None:
        if self.examples < 1 or self.iterations < 1 or self.damping <= 0:
            raise BadSentence(
                "WoodFisher: examples and iterations must be 1 or more, and damping above 0."
            )

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        ours, theirs = len(problem.data(self.set)), len(problem.data(self.against))
        solving = self.iterations * min(self.examples, theirs)
        return Counter({self.set: ours}) + Counter({self.against: theirs + solving})

    def __call__(self, run: RunProtocol) -> None:
        ours, theirs = (full_gradient(run, CE(name)) for name in (self.set, self.against))
        sizes = [len(run.data(name)) for name in (self.set, self.against)]
        share = sizes[0] / sum(sizes)
        away = {name: share * (ours[name] - theirs[name]) for name in ours}
        rows = torch.randperm(sizes[1], generator=run.stream("woodfisher"))[: self.examples]
        times = fisher_times(run, self.against, rows, self.damping)
        change = conjugate_gradient(times, away, self.iterations)
        with torch.no_grad():
            for name, weight in run.model.named_parameters():
                weight.add_(self.alpha * change[name])
