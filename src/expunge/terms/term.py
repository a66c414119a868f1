"""Towards what: a term is a scalar to minimise, of one model on one minibatch of each of its sets.

Terms add, subtract and take coefficients: `CE("retain") - 0.1 * CE("forget")`. They are written
for one model and for logits [b, *t, k], and average over the b (and t) scored targets.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from expunge.errors import BadSentence, did_you_mean
from expunge.schedules import Schedule, value
from expunge.view import View
from expunge.words import word

TEACHERS = ("original", "random")
Coefficient = float | Schedule


class Term(ABC):
    """A scalar to minimise; abstract."""

    @abstractmethod
    def __call__(self, view: View) -> Tensor: ...

    @property
    def sets(self) -> tuple[str, ...]:
        """The sets that the term reads a minibatch of."""
        named = (getattr(self, name, None) for name in ("set", "against"))
        return tuple(name for name in named if name)

    @property
    def teachers(self) -> tuple[str, ...]:
        """The fixed models that the term compares with."""
        name = getattr(self, "teacher", None)
        return (name,) if name else ()

    def __add__(self, other: object) -> Sum:
        if not isinstance(other, Term):
            return NotImplemented
        return Sum((*_weighted(self), *_weighted(other)))

    def __sub__(self, other: object) -> Sum:
        return self + (-other) if isinstance(other, Term) else NotImplemented

    def __mul__(self, factor: Coefficient) -> Term:
        if isinstance(factor, bool) or not isinstance(factor, int | float | Schedule):
            return NotImplemented
        return _simplest(tuple((_product(factor, c), term) for c, term in _weighted(self)))

    __rmul__ = __mul__

    def __neg__(self) -> Term:
        return self * -1.0


def _weighted(term: Term) -> tuple[tuple[Coefficient, Term], ...]:
    return term.parts if isinstance(term, Sum) else ((1.0, term),)


def _simplest(parts: tuple[tuple[Coefficient, Term], ...]) -> Term:
    alone = len(parts) == 1 and parts[0][0] == 1.0
    return parts[0][1] if alone else Sum(parts)


def _product(a: Coefficient, b: Coefficient) -> Coefficient:
    if isinstance(a, Schedule) and isinstance(b, Schedule):
        raise BadSentence(f"{a!r} times {b!r}: a term takes one schedule at the most.")
    if isinstance(a, Schedule):
        return a.scaled(float(b))  # type: ignore[arg-type]
    return b.scaled(float(a)) if isinstance(b, Schedule) else float(a) * float(b)


@word
class Sum(Term):
    """A weighted sum of terms; written with + - and *, never by name."""

    parts: tuple[tuple[Coefficient, Term], ...]

    def check(self) -> None:
        alone = len(self.parts) == 1 and self.parts[0][0] == 1.0
        if not self.parts or alone or any(isinstance(term, Sum) for _, term in self.parts):
            raise BadSentence("Sum: write sums with +, - and *, as in CE('retain') - 0.1 * L1().")

    def __call__(self, view: View) -> Tensor:
        return sum((value(c, view.progress) * t(view) for c, t in self.parts), torch.tensor(0.0))

    @property
    def sets(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for _, term in self.parts for name in term.sets))

    @property
    def teachers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for _, term in self.parts for name in term.teachers))

    def __repr__(self) -> str:
        first, *rest = self.parts
        return _signed(first, "", "-") + "".join(_signed(part, " + ", " - ") for part in rest)


def _signed(part: tuple[Coefficient, Term], plus: str, minus: str) -> str:
    """One addend with its sign; coefficients print exactly, so that they parse back exactly."""
    coefficient, term = part
    if isinstance(coefficient, Schedule):
        return f"{plus}{coefficient!r} * {term!r}"
    size = "" if abs(coefficient) == 1 else f"{abs(coefficient)!r} * "
    return f"{minus if coefficient < 0 else plus}{size}{term!r}"


def leaves(term: Term) -> Iterator[Term]:
    """The terms that a sum is made of."""
    for _, part in _weighted(term):
        yield part


def check_teacher(owner: Any) -> None:
    """Refuse a term whose teacher is not known."""
    if owner.teacher not in TEACHERS:
        known = ", ".join(TEACHERS)
        hint = did_you_mean(owner.teacher, TEACHERS)
        raise BadSentence(f"No teacher {owner.teacher!r}; expected one of {known}.{hint}")
