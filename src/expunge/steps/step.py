"""What is done: a step changes one model, in place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from expunge.problem import Problem
    from expunge.unlearn import Run


class Step(ABC):
    """One thing done to one model, in place; abstract.

    Args:
        draws: whether it draws from the member's streams, so that two seeds give two models.
        sees_original: whether what it does depends on the original's weights; what starts from
            fresh weights and never looks back is retraining.
        may_stop_early: whether it may read fewer examples than `reads` says, as its course decides.
    """

    draws: ClassVar[bool] = False
    sees_original: ClassVar[bool] = True
    may_stop_early: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, run: Run) -> None: ...

    def reads(self, problem: Problem) -> Counter[str]:
        """Examples of each set that it reads, as the receipt counts them; parts count apart.

        Beside the sets stand `ANSWERS` and `MADE` (expunge.passes), which no receipt counts.
        """
        return Counter()
