"""What is done: a step changes one model, in place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from expunge.unlearn import Run


class Step(ABC):
    """One thing done to one model, in place; abstract."""

    @abstractmethod
    def __call__(self, run: Run) -> None: ...
