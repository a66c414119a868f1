"""Texts as data: token rows in memory, padded for each minibatch; prompts are never scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from expunge.core.batch import UNSCORED, Tokens
from expunge.errors import BadData


@dataclass(frozen=True, eq=False)
class TokenRow:
    """One text as token ids.

    Args:
        ids: int64 [t], prompt and answer, or a plain text.
        start: the first token that is scored; all before it are the prompt.
        prompt: the prompt as text; empty for a plain text.
        answer: the answer as text, or the plain text.
        subject: the first token of what the prompt is about, and the one after its last; (0, 0)
            where nobody said.
    """

    ids: Tensor
    start: int
    prompt: str
    answer: str
    subject: tuple[int, int] = (0, 0)

    def key(self) -> tuple[int, ...]:
        """A key that is equal for two rows that are the same example."""
        return (self.start, *self.ids.tolist())


@dataclass(frozen=True, eq=False)
class Texts:
    """Token sequences that fit in memory; made by `of_pairs`, `of_plain` and `read`.

    Args:
        made: the rows.
        pad: token id that fills shorter rows up; it is never looked at.
        side: "right" or "left", where the filling goes; it does not matter to any loss.
        instead: as many rows with the same prompts and other answers; empty for none.

    Raises:
        BadData: no row, a row without a scored token, or rows instead that do not match.
    """

    made: tuple[TokenRow, ...]
    pad: int = 0
    side: str = "right"
    instead: tuple[TokenRow, ...] = ()

    def __post_init__(self) -> None:
        if not self.made:
            raise BadData("There is no text; expected at least one.")
        if self.side not in ("right", "left"):
            raise BadData(f"Padding goes on the right or on the left, got {self.side!r}.")
        for number, row in enumerate((*self.made, *self.instead)):
            if max(row.start, 1) >= len(row.ids):
                raise BadData(f"Row {number} has no token to score: its answer is empty.")
        if self.instead and [r.prompt for r in self.instead] != [r.prompt for r in self.made]:
            raise BadData(
                f"Got {len(self.instead)} other answers for {len(self.made)} texts, or other "
                "prompts; expected one other answer to each prompt, in the same order."
            )

    def __len__(self) -> int:
        return len(self.made)

    def batch(self, positions: Tensor) -> Tokens:
        """The rows at `positions`, int64 [b], as wide as the longest of them."""
        other = self._padded(self.instead, positions, None) if self.instead else None
        return self._padded(self.made, positions, other)

    def _padded(
        self, rows: Sequence[TokenRow], positions: Tensor, instead: Tokens | None
    ) -> Tokens:
        chosen = [rows[place] for place in positions.tolist()]
        shape = (len(chosen), max(len(row.ids) for row in chosen))
        inputs, labels = torch.full(shape, self.pad), torch.full(shape, UNSCORED)
        mask = torch.zeros(shape, dtype=torch.bool)
        for place, row in enumerate(chosen):
            first = shape[1] - len(row.ids) if self.side == "left" else 0
            last = first + len(row.ids)
            inputs[place, first:last], mask[place, first:last] = row.ids, True
            labels[place, first + row.start : last] = row.ids[row.start :]
        return Tokens(inputs, mask, labels, positions, instead)

    def token_counts(self) -> Tensor:
        """Tokens of each row, prompt and all, int64 [n]."""
        return torch.tensor([len(row.ids) for row in self.made])

    def keys(self) -> list[tuple[int, ...]]:
        """What tells each row from others; equal for two rows that are the same example."""
        return [row.key() for row in self.made]

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompts as text."""
        return tuple(row.prompt for row in self.made)

    @property
    def answers(self) -> tuple[str, ...]:
        """The true answers as text."""
        return tuple(row.answer for row in self.made)


def pad_of(tokenizer: Any) -> int:
    """An id to fill rows with: the padding's, or else the one that ends a text, or else 0."""
    for name in ("pad_token_id", "eos_token_id"):
        if (found := getattr(tokenizer, name, None)) is not None:
            return int(found)
    return 0
