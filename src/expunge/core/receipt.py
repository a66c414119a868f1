"""What a run cost and changed, as the engine measures it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn


@dataclass
class ReceiptCounts:
    """What the engine counts while a run works: examples read by set (each pass counts one)."""

    examples: dict[str, int] = field(default_factory=dict)
    curve: list[tuple[str, float, float]] = field(default_factory=list)
    drawn: dict[str, tuple[float, ...]] = field(default_factory=dict)
    earlier: tuple[float, float] = (0.0, 0.0)  # seconds on both clocks before it was resumed

    def add(self, counts: dict[str, int]) -> None:
        """Add examples that were read, by the name of their set."""
        for name, count in counts.items():
            self.examples[name] = self.examples.get(name, 0) + count


@dataclass(frozen=True)
class Spent:
    """Seconds on two clocks: wall-clock time, and processor time of all threads."""

    seconds: float
    processor_seconds: float

    @classmethod
    def now(cls) -> Spent:
        """The present time on both clocks."""
        return cls(time.perf_counter(), time.process_time())

    def plus(self, other: Spent) -> Spent:
        """The same start, later by the time that something else took."""
        return Spent(self.seconds + other.seconds, self.processor_seconds + other.processor_seconds)

    def elapsed(self, shares: int = 1) -> Spent:
        """The time since then, divided by `shares`."""
        now = Spent.now()
        processor = now.processor_seconds - self.processor_seconds
        return Spent((now.seconds - self.seconds) / shares, processor / shares)


@dataclass(frozen=True)
class Receipt:
    """What a run cost and changed, as the engine measured it.

    Args:
        method: the sentence that was run.
        seed: of the run.
        engine: how it was trained ("alone", or "stacked of m").
        seconds: wall-clock seconds; of a stack, this model's equal share.
        processor_seconds: the same in processor time of all threads, which other work on the
            machine does not lengthen.
        examples: name of a set -> examples read, counted once for each pass.
        moved: L2 norm of the change of all weights, as a share of their norm before.
        touched: share of the weights that are no longer what they were.
        largest: largest absolute change of any weight or statistic.
        curve: (place of the step, epoch, mean loss) for each epoch of each `Train`.
        drawn: what a term drew once and aimed at, such as the direction of a `Steer`.
    """

    method: str
    seed: int
    engine: str
    seconds: float
    processor_seconds: float
    examples: dict[str, int]
    moved: float
    touched: float
    largest: float
    curve: tuple[tuple[str, float, float], ...]
    drawn: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def __str__(self) -> str:
        read = ", ".join(f"{count} of {name}" for name, count in self.examples.items()) or "none"
        return (
            f"{self.method}\n  took {self.seconds:.2f} s ({self.engine}); examples read: {read}; "
            f"weights moved by {self.moved:.2%} of their norm, {self.touched:.1%} of them touched"
        )


@dataclass(frozen=True, eq=False)
class Unlearned:
    """An unlearned model, in evaluation mode, with its receipt."""

    model: nn.Module
    receipt: Receipt
