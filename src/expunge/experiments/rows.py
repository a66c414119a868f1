"""What the rows of every experiment's table share: typed inside the program, JSON in the store.

Keys of the JSON are the names of the fields, and records of older versions may lack some.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Generic, Protocol, TypeVar

from expunge.core.method import Method
from expunge.metrics.agreement import Unscored
from expunge.metrics.row_label import LARGEST_COST

# What JSON can hold.
Record = Mapping[str, Any]


R = TypeVar("R")


S = TypeVar("S")


def fields_in(kind: type, record: Record) -> dict[str, Any]:
    """The fields of a dataclass that a record holds, as arguments to make one."""
    return {field.name: record[field.name] for field in fields(kind) if field.name in record}


@dataclass(frozen=True)
class UnlearningCost:
    """What unlearning took, next to retraining.

    Args:
        seconds: median over models, of processor time or, with an accelerator, of wall clock.
        retraining_seconds: the same of retrained models.
        time_share: seconds / retraining_seconds.
        examples_share: examples read, as a share of those that retraining reads.
        engine: how members were trained: "vmap", "loop" or "none".
        moved: L2 norm of the change of all weights, as a share of their norm; mean over models.
        touched: share of the weights that changed, mean over models.
        largest: largest change of any weight or buffer.
        curve: [place of the step, epoch, mean training loss].
    """

    seconds: float = 0.0
    retraining_seconds: float = 0.0
    time_share: float = 0.0
    examples_share: float = 0.0
    engine: str = "none"
    moved: float = 0.0
    touched: float = 0.0
    largest: float = 0.0
    curve: Sequence[Sequence[Any]] = ()

    @classmethod
    def from_json(cls, record: Record) -> UnlearningCost:
        """Read what `to_json` wrote."""
        return cls(**fields_in(cls, record))

    def to_json(self) -> dict[str, Any]:
        """What the store keeps."""
        return asdict(self)


@dataclass(frozen=True)
class RowHead:
    """Which method a row is about.

    Args:
        name: as the experiment calls the method.
        sentence: the method.
        source: where the method is from.
        control: whether the row is a control and no method that is compared.
    """

    name: str
    sentence: str = ""
    source: str = ""
    control: bool = False

    @classmethod
    def of(cls, method: Method, controls: Sequence[str]) -> RowHead:
        """The head of a method's row."""
        return cls(method.name, method.sentence, method.source, method.name in controls)

    @property
    def title(self) -> str:
        """The name as a table shows it."""
        return f"{self.name} (control)" if self.control else self.name

    def cost_cell(self, cost: UnlearningCost) -> str:
        """The share of retraining's time; marked where a method that is compared costs too much."""
        dear = cost.time_share > LARGEST_COST and not self.control
        return f"{cost.time_share:.0%}{' !' if dear else ''}"


class TableRow(Protocol):
    """A row of any task's table."""

    @property
    def head(self) -> RowHead: ...

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class UnscoredRow:
    """The row of a method that has no numbers, and the reason."""

    head: RowHead
    reason: str

    def to_json(self) -> dict[str, Any]:
        """What a summary keeps."""
        return {**asdict(self.head), "unscored": self.reason, "verdict": "unscored"}


@dataclass(frozen=True)
class AllScores(Generic[S]):
    """The scores of all rows of an experiment.

    Args:
        ceiling: of held-out retrained models, the control `retrain`.
        floor: of the untouched original, the control `nothing`.
        by_name: of every row, or why it has none.
    """

    ceiling: S
    floor: S
    by_name: Mapping[str, S | Unscored]


@dataclass(frozen=True)
class Column(Generic[R]):
    """One column of a table: its heading, how a row fills it, and the side it is aligned to."""

    name: str
    cell: Callable[[R], str]
    left: bool = False
