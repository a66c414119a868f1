"""Rows of unequal length: one row a token sequence, so that no padding enters a metric."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from expunge.errors import BadEvidence

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of unequal length, one behind the other; a row without a value is refused.

    Args:
        flat: float64 [value], the rows one behind the other.
        lengths: int64 [row], each at least 1.

    Raises:
        BadEvidence: an empty row, lengths that do not add up, values that are NaN or infinite.
    """

    flat: Floats
    lengths: Ints

    def __post_init__(self) -> None:
        if self.flat.ndim != 1 or self.lengths.ndim != 1 or self.lengths.sum() != len(self.flat):
            raise BadEvidence(
                f"Got {self.flat.shape} values for rows of {self.lengths.sum()} in all; expected "
                "one axis each, and as many values as the lengths add up to."
            )
        if (self.lengths < 1).any():
            row = int(np.argmax(self.lengths < 1))
            # Scoring it 0 would say something of the model, and dropping it would shift all rows.
            raise BadEvidence(
                f"Row {row} is empty; leave examples without an answer token out before scoring."
            )
        if not np.isfinite(self.flat).all():
            row = int(np.searchsorted(self.stops, np.argmin(np.isfinite(self.flat)), "right"))
            raise BadEvidence(f"Row {row} holds NaN or infinity; leave models that diverged out.")

    @classmethod
    def of(cls, rows: Iterable[ArrayLike]) -> Ragged:
        """Make it of one array a row."""
        arrays = [np.asarray(row, dtype=np.float64).reshape(-1) for row in rows]
        flat = np.concatenate(arrays) if arrays else np.empty(0)
        return cls(flat, np.array([len(row) for row in arrays], dtype=np.int64))

    @classmethod
    def padded(cls, values: ArrayLike, mask: ArrayLike) -> Ragged:
        """Make it of padded rows; what the mask leaves out is never looked at.

        Args:
            values: float [row, place].
            mask: bool [row, place], where a value counts.

        Raises:
            BadEvidence: shapes that differ or have not two axes, or as for the class.
        """
        full, kept = np.asarray(values, dtype=np.float64), np.asarray(mask, dtype=np.bool_)
        if full.shape != kept.shape or full.ndim != 2:
            raise BadEvidence(
                f"Got values {full.shape} and a mask {kept.shape}; expected [row, place] twice."
            )
        return cls(full[kept], kept.sum(axis=1, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def stops(self) -> Ints:
        """Where each row ends, int64 [row]."""
        return np.cumsum(self.lengths)

    @property
    def starts(self) -> Ints:
        """Where each row starts, int64 [row]."""
        return self.stops - self.lengths

    def rows(self) -> list[Floats]:
        """Return one array a row."""
        return list(np.split(self.flat, self.stops[:-1])) if len(self) else []

    def sums(self) -> Floats:
        """Return the sum of each row, float64 [row]."""
        return np.add.reduceat(self.flat, self.starts) if len(self) else np.empty(0)

    def means(self) -> Floats:
        """Return the mean of each row, float64 [row]."""
        return self.sums() / self.lengths

    def lowest(self, share: float) -> Floats:
        """Return the mean of the lowest share of each row, of one value at least, float64 [row]."""
        kept = np.maximum(1, np.floor(self.lengths * share + 1e-9).astype(np.int64))
        row_of = np.repeat(np.arange(len(self)), self.lengths)
        rising = self.flat[np.lexsort((self.flat, row_of))]
        place = np.arange(len(rising)) - np.repeat(self.starts, self.lengths)
        few = place < np.repeat(kept, self.lengths)
        return np.bincount(row_of[few], rising[few], minlength=len(self)) / kept

    def take(self, index: Ints | Sequence[int]) -> Ragged:
        """Return some of the rows, in the order asked for."""
        rows = self.rows()
        return Ragged.of([rows[place] for place in index])

    def like(self, other: Ragged) -> bool:
        """Whether both have the same lengths."""
        return np.array_equal(self.lengths, other.lengths)


@dataclass(frozen=True, eq=False)
class Nested:
    """Several answers an example, each of several tokens: [example][answer][token].

    Args:
        tokens: one row an answer, those of the first example first.
        counts: int64 [example], how many answers each has, at least 1.

    Raises:
        BadEvidence: counts below 1, or that do not add up to the answers.
    """

    tokens: Ragged
    counts: Ints

    def __post_init__(self) -> None:
        if (self.counts < 1).any() or self.counts.sum() != len(self.tokens):
            raise BadEvidence(
                f"Got {len(self.tokens)} answers for counts of {self.counts.sum()} in all; "
                "expected at least 1 an example, and as many as the counts add up to."
            )

    @classmethod
    def of(cls, examples: Iterable[Sequence[ArrayLike]]) -> Nested:
        """Make it of one list of arrays an example."""
        answers = [list(one) for one in examples]
        tokens = Ragged.of([answer for one in answers for answer in one])
        return cls(tokens, np.array([len(one) for one in answers], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.counts)

    def means(self) -> Ragged:
        """Return the mean per token of every answer, one row an example."""
        return Ragged(self.tokens.means(), self.counts)

    def take(self, index: Ints | Sequence[int]) -> Nested:
        """Return some of the examples, in the order asked for."""
        stops = np.cumsum(self.counts)
        places = [np.arange(stops[one] - self.counts[one], stops[one]) for one in index]
        chosen = np.concatenate(places) if places else np.empty(0, dtype=np.int64)
        return Nested(self.tokens.take(chosen), self.counts[np.asarray(index, dtype=np.int64)])
