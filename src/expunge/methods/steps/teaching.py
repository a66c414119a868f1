"""Steps that make a teacher for the losses of later steps."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar

import torch

from expunge.core.method import Step
from expunge.core.vocabulary import word
from expunge.engine.training import unrolled
from expunge.errors import BadSentence

if TYPE_CHECKING:
    from expunge.core.run import ProblemProtocol, RunProtocol


@word
class Teach(Step):
    """Run steps on a copy of the model; the result is the teacher "taught" of later losses.

    The model itself stays as it is. `Teach((Reset(), Train(CE("retain"))))` is a teacher that
    never saw the forget set.

    Args:
        steps: what is done to the copy, in order.
    """

    draws: ClassVar[bool] = True
    sees_original: ClassVar[bool] = False
    steps: tuple[Step, ...]

    def check(self) -> None:
        if not self.steps:
            raise BadSentence("Teach: expected steps, as in Teach((Train(CE('retain')),)).")

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        return sum((step.reads(problem) for _, _, step in unrolled(self.steps)), start=Counter())

    def __call__(self, run: RunProtocol) -> None:
        before = {n: tensor.detach().clone() for n, tensor in run.model.state_dict().items()}
        place, turn, memory = run.place, run.turn, run.optimisers
        run.optimisers = {}  # the copy starts without the optimisers of an earlier turn
        for inner, again, step in unrolled(self.steps, f"{place}/{turn[0]}", seed=run.seed):
            run.place, run.turn = inner, again
            step(run)
        run.place, run.turn, run.optimisers = place, turn, memory
        run.keep_teacher("taught")
        with torch.no_grad():
            for name, tensor in run.model.state_dict().items():
                tensor.copy_(before[name])


@word
class Remember(Step):
    """Keep a copy of the model as it is now; it is the teacher "taught" of later losses."""

    sees_original: ClassVar[bool] = False

    def __call__(self, run: RunProtocol) -> None:
        run.keep_teacher("taught")
