"""Towards what? A term is a scalar to minimise, of one model on one minibatch of each of its sets.

Terms add, subtract and take coefficients: `CE("retain") - 0.1 * CE("forget")`. They are written
for one model and for logits [b, *t, k], and average over the b (and t) scored targets.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from expunge.core.schedules import Schedule, value
from expunge.core.view import View
from expunge.core.vocabulary import word
from expunge.errors import BadSentence, did_you_mean

if TYPE_CHECKING:
    from expunge.core.batch import Batch
    from expunge.core.run import ProblemProtocol, RunProtocol


TEACHERS = ("original", "random", "oracle", "taught")


Coefficient = float | Schedule


class Term(ABC):
    """A scalar to minimise; abstract.

    A term may say `reads_labels`, the sets whose targets it uses (all of its sets, unless it
    does), and `draws = True` where its value depends on the run's seed.

    Args:
        reads_features: whether it asks for the inputs of the model's last linear layer.
        reads_lens: whether it asks for the logit lens of the model's layers.
        mean_over: "targets" or "examples" of its first set where it is a plain mean over them, so
            that a minibatch can be cut into micro-batches; empty where it is more than that.
    """

    reads_features: ClassVar[bool] = False
    reads_lens: ClassVar[bool] = False
    mean_over: ClassVar[str] = ""

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

    @property
    def reads_whole_sets(self) -> bool:
        """Whether it has `facts` of its own to compute before the training begins."""
        return type(self).facts is not Term.facts

    @property
    def asks(self) -> tuple[tuple[str, str], ...]:
        """Who answers which of its sets: "" for the model itself, or the name of a teacher."""
        return tuple((who, name) for who in ("", *self.teachers) for name in self.sets)

    @property
    def extra_passes(self) -> int:
        """Forward passes on inputs of its own, for each minibatch of its first set."""
        return 0

    def counted(self, batch: Batch) -> int:
        """How many targets or examples of a minibatch it is the mean over."""
        if self.mean_over == "examples" or batch.scored is None:
            return len(batch)
        return int(batch.scored.sum())

    @property
    def reads_layers(self) -> tuple[int, ...]:
        """The layers of a transformer whose outputs it asks for, counted from 0."""
        return ()

    @property
    def alters(self) -> str:
        """A name for what it does to the inputs that the terms inside it see; "" for nothing."""
        return ""

    def facts(self, run: RunProtocol) -> dict[str, Tensor]:
        """What it works out from whole sets and the original."""
        return {}

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        """Examples of each set that `facts` reads, once for each run."""
        return Counter()

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


class Around(Term):
    """Another term as it is, on minibatches that are altered; abstract."""

    term: Term

    @property
    def sets(self) -> tuple[str, ...]:
        return self.term.sets

    @property
    def teachers(self) -> tuple[str, ...]:
        return self.term.teachers

    @property
    def mean_over(self) -> str:  # type: ignore[override]
        return self.term.mean_over


@word
class Pooled(Term):
    """Two terms weighted by the sizes of their sets, as if minibatches came from both together.

    Code that shuffles the forget set and the retain set together minimises this on average: each
    example weighs the same, where `a + b` would give each set the same weight.

    Args:
        a: a term on one set.
        b: a term on another.
        share: of the examples of b's set that are put into the pool.
    """

    a: Term
    b: Term
    share: float = 1.0

    def check(self) -> None:
        if not 0 < self.share <= 1:
            raise BadSentence(f"Pooled: share must lie above 0 and at most at 1, got {self.share}.")
        if len(self.a.sets) != 1 or len(self.b.sets) != 1:
            raise BadSentence(f"Pooled: each term reads one set, got {self.a!r} and {self.b!r}.")

    def __call__(self, view: View) -> Tensor:
        ours, theirs = view.size(self.a.sets[0]), self.share * view.size(self.b.sets[0])
        weight = ours / (ours + theirs)
        return weight * self.a(view) + (1 - weight) * self.b(view)

    @property
    def sets(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.a.sets, *self.b.sets)))

    @property
    def teachers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.a.teachers, *self.b.teachers)))


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


def leaves(thing: Any) -> Iterator[Term]:
    """Yield the terms inside a term, or inside each of several, that hold no other term."""
    if isinstance(thing, tuple):
        for item in thing:
            yield from leaves(item)
    elif isinstance(thing, Term):
        yield from list(leaves(held_by(thing))) or [thing]


def held_by(word: Any) -> tuple[Any, ...]:
    """Return the values of a word's fields; none of a term that is no dataclass."""
    fields = dataclasses.fields(word) if dataclasses.is_dataclass(word) else ()
    return tuple(getattr(word, field.name) for field in fields)


def check_teacher(owner: Any) -> None:
    """Refuse a term whose teacher is not known."""
    if owner.teacher not in TEACHERS:
        known = ", ".join(TEACHERS)
        hint = did_you_mean(owner.teacher, TEACHERS)
        raise BadSentence(f"No teacher {owner.teacher!r}; expected one of {known}.{hint}")
