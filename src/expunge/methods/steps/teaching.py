"""A teacher made by a sentence of its own."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, ClassVar

import torch

from expunge.core.method import Step
from expunge.core.selector import Everything, Selector
from expunge.core.vocabulary import word
from expunge.engine.training import unrolled
from expunge.errors import BadSentence

if TYPE_CHECKING:
    from expunge.core.run import ProblemProtocol, RunProtocol


@word
class Teach(Step):
    """Carry out steps on a copy of the model; what comes out is the teacher "taught" from now on.

    The model itself stays as it is. `Teach((Reset(), Train(CE("retain"))))` is a teacher that
    never saw the forget set.
    """

    draws: ClassVar[bool] = True
    sees_original: ClassVar[bool] = False
    steps: tuple[Step, ...]

    def check(self) -> None:
        if not self.steps:
            raise BadSentence("Teach: expected steps, as in Teach((Train(CE('retain')),)).")

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        lessons = (step.reads(problem) for _, _, step in unrolled(self.steps))
        return sum(lessons, start=Counter())

    def __call__(self, run: RunProtocol) -> None:
        before = {n: tensor.detach().clone() for n, tensor in run.model.state_dict().items()}
        place, turn, memory = run.place, run.turn, run.optimisers
        run.optimisers = {}  # a lesson starts without the memory of an earlier turn's
        for inner, again, step in unrolled(self.steps, f"{place}/{turn[0]}", seed=run.seed):
            run.place, run.turn = inner, again
            step(run)
        run.place, run.turn, run.optimisers = place, turn, memory
        run.keep_teacher("taught")
        with torch.no_grad():
            for name, tensor in run.model.state_dict().items():
                tensor.copy_(before[name])


@word
class ShrinkPerturb(Step):
    """Shrink some weights towards noise: w = (1 - share) w + share * noise * fresh Xavier weights.

    Vectors, such as biases and the weights of normalisation, are shrunk and get no noise. With a
    noise of 0 nothing is drawn that counts.

    Args:
        share: alpha of UNDO, 0 to 1; the larger, the more must be learned anew.
        noise: beta of UNDO.
        where: the weights.

    Source: Lee et al., Distillation Robustifies Unlearning (UNDO), arXiv 2506.06278;
    AddieFoote/distillation-robustify-unlearning@edbf111 (0.25 and 0 on WMDP), after Ash and Adams,
    On Warm-Starting Neural Network Training, arXiv 1910.08475. Draws: Glorot and Bengio, 2010.
    """

    draws: ClassVar[bool] = True
    sees_original: ClassVar[bool] = False
    share: float = 0.25
    noise: float = 0.0
    where: Selector = Everything()

    def check(self) -> None:
        if not 0 < self.share <= 1 or self.noise < 0:
            raise BadSentence(
                "ShrinkPerturb: share must lie above 0 and at most at 1, and noise be 0 or more."
            )

    @torch.no_grad()
    def __call__(self, run: RunProtocol) -> None:
        stream, mask = run.stream("shrink and perturb"), run.mask(self.where)
        for name, weight in run.model.named_parameters():
            drawn = (2 * torch.rand(weight.shape, generator=stream) - 1).to(weight)
            towards = self.noise * xavier_bound(weight) * drawn
            weight.add_(self.share * (towards - weight) * mask[name])


def xavier_bound(weight: torch.Tensor) -> float:
    """Half the width of Xavier's uniform draw for a matrix or kernel; 0 for a vector."""
    if weight.ndim < 2:
        return 0.0
    return math.sqrt(6 / (weight[0].numel() + weight[:, 0].numel()))


@word
class Remember(Step):
    """Keep the model as it is now: it is the teacher "taught" from here on."""

    sees_original: ClassVar[bool] = False

    def __call__(self, run: RunProtocol) -> None:
        run.keep_teacher("taught")
