"""What a step, a term or a selector may ask of the run that it works in.

The engine makes the run (`expunge.engine.run.Run`); all that is composed into a sentence knows it
by this protocol alone, so that types point down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch
    from torch import Tensor, nn

    from expunge.core.batch import Data
    from expunge.core.receipt import ReceiptCounts


class CheckpointProtocol(Protocol):
    """Writes checkpoints of a run and resumes it; a group is the run's `ModelGroup`."""

    def already_done(self, run: Any, number: int, step: Any, /) -> bool: ...

    def resumed_progress(self, group: Any, train: Any, total: int, /) -> tuple[int, Tensor]: ...

    def save_if_due(self, group: Any, done: int, summed: Tensor, /) -> None: ...


class TeamProtocol(Protocol):
    """This process among several that train one model together."""

    size: int

    def share(self, pieces: Any, /) -> Any: ...

    def gather(self, weights: Any, losses: Tensor, /) -> Tensor: ...


class ProblemProtocol(Protocol):
    """What a word of a sentence may ask of the problem, before anything is trained."""

    @property
    def name(self) -> str: ...

    @property
    def sets(self) -> Mapping[str, Data]: ...

    @property
    def architecture(self) -> Callable[[], nn.Module] | None: ...

    @property
    def recipe(self) -> Any: ...

    @property
    def class_count(self) -> int: ...

    @property
    def class_wise(self) -> bool: ...

    def data(self, name: str) -> Data: ...

    def untrained(self, *names: object) -> nn.Module: ...

    def with_sets(self, sets: Mapping[str, Data]) -> ProblemProtocol: ...


class RunProtocol(Protocol):
    """One seed of one method at work: a private model, the original, the sets, and streams.

    Args:
        model: the model that is changed, in place; private to the run.
        original: the model before unlearning, in evaluation mode; never changed.
        problem: gives the sets.
        seed: all that is drawn follows from it; `role` keeps equal seeds of originals and unlearned
            models apart.
        place, turn: where in the sentence the run is, and which turn of how many.
    """

    model: nn.Module
    original: nn.Module
    seed: int
    role: str
    place: str
    turn: tuple[int, int]
    counts: ReceiptCounts
    optimisers: dict[str, torch.optim.Optimizer]

    @property
    def problem(self) -> ProblemProtocol: ...

    @property
    def checkpointer(self) -> CheckpointProtocol | None: ...

    @property
    def team(self) -> TeamProtocol | None: ...

    def stream(self, name: str) -> torch.Generator: ...

    def turn_stream(self, name: str) -> torch.Generator: ...

    def data(self, name: str) -> Data: ...

    def mask(self, selector: Any, /) -> dict[str, Tensor]: ...

    def facts(self, term: Any, /) -> dict[str, Tensor]: ...

    def gradient(self, name: str, positions: Tensor | None = None) -> dict[str, Tensor]: ...

    def importance(self, name: str) -> dict[str, Tensor]: ...

    def on(self, problem: Any) -> RunProtocol: ...

    def fresh(self, purpose: str) -> nn.Module: ...

    def keep_teacher(self, name: str) -> None: ...

    def teacher(self, name: str) -> nn.Module: ...
