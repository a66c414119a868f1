"""A teacher made by a sentence of its own."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar

import torch

from expunge.errors import BadSentence
from expunge.steps.step import Step
from expunge.steps.training import unrolled
from expunge.words import word

if TYPE_CHECKING:
    from expunge.problem import Problem
    from expunge.unlearn import Run


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

    def reads(self, problem: Problem) -> Counter[str]:
        lessons = (step.reads(problem) for _, _, step in unrolled(self.steps))
        return sum(lessons, start=Counter())

    def __call__(self, run: Run) -> None:
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
