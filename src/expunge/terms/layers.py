"""Terms on what a layer of a transformer makes of tokens: led astray, or as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from expunge.batch import holds_tokens
from expunge.terms.term import Term, check_teacher
from expunge.view import View, blocks
from expunge.words import word

if TYPE_CHECKING:
    from expunge.problem import Problem
    from expunge.unlearn import Run


@word
class Steer(Term):
    """Squared distance of a layer's outputs from a fixed random direction, mean over scored tokens.

    The direction is uniform in [0, 1) in each coordinate and made `scale` long; it is drawn once
    for each member, and the receipt keeps it. The outputs are those at the tokens that answer a
    scored target: all but the last of a plain text, as in the authors' code.

    Args:
        set: the set to be forgotten.
        layer: counted from 0.
        scale: length of the direction; it belongs to the norm of the model's hidden states.

    Source: Li et al., The WMDP Benchmark, arXiv 2403.03218, section 4 (RMU; 6.5 and layer 7 for
    Zephyr-7B); locuslab/open-unlearning@7fa0b55, rmu.py, which keeps no direction.
    """

    mean_over: ClassVar[str] = "targets"
    draws: ClassVar[bool] = True
    reads_whole_sets: ClassVar[bool] = True
    set: str
    layer: int = 7
    scale: float = 6.5

    @property
    def reads_layers(self) -> tuple[int, ...]:
        return (self.layer,)

    def unfit(self, problem: Problem) -> str:
        """Why it cannot work on a problem; empty when it can."""
        return no_tokens(problem, self.set)

    def facts(self, run: Run) -> dict[str, Tensor]:
        blocks(run.original)  # says why where the model is no transformer
        width = int(run.original.config.hidden_size)  # type: ignore[union-attr, arg-type]
        drawn = torch.rand(width, generator=run.stream("direction"))
        direction = self.scale * drawn / drawn.norm()
        run.ledger.drawn[repr(self)] = tuple(direction.tolist())
        return {"direction": direction.to(next(run.original.parameters()))}

    def __call__(self, view: View) -> Tensor:
        states = view.hidden(self.set, self.layer).float()
        return view.mean_square(self.set, states, view.facts(self)["direction"].expand_as(states))


@word
class Match(Term):
    """Squared distance of a layer's outputs from a teacher's, mean over scored tokens.

    Source: the retain term of RMU, as for `Steer` (weight 1200 for Zephyr-7B).
    """

    mean_over: ClassVar[str] = "targets"
    set: str
    layer: int = 7
    teacher: str = "original"

    def check(self) -> None:
        check_teacher(self)

    @property
    def reads_layers(self) -> tuple[int, ...]:
        return (self.layer,)

    def unfit(self, problem: Problem) -> str:
        """Why it cannot work on a problem; empty when it can."""
        return no_tokens(problem, self.set)

    def __call__(self, view: View) -> Tensor:
        ours = view.hidden(self.set, self.layer).float()
        theirs = view.hidden(self.set, self.layer, self.teacher).float()
        return view.mean_square(self.set, ours, theirs)


def no_tokens(problem: Problem, name: str) -> str:
    """Why a set cannot be read by the layers of a language model; empty when it can."""
    if holds_tokens(problem.data(name)):
        return ""
    return f"the set {name} holds no texts, and the layers of language models are asked about it"
