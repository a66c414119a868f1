"""Towards what: a term is a scalar to minimise, of one model on one minibatch of each of its sets.

Terms add, subtract and take coefficients: `CE("retain") - 0.1 * CE("forget")`. They are written
for one model and for logits [b, *t, k], and average over the b (and t) scored targets.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from expunge.errors import BadSentence, Unsupported, did_you_mean
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


def _check_teacher(owner: Any) -> None:
    if owner.teacher not in TEACHERS:
        known = ", ".join(TEACHERS)
        hint = did_you_mean(owner.teacher, TEACHERS)
        raise BadSentence(f"No teacher {owner.teacher!r}; expected one of {known}.{hint}")


@word
class CE(Term):
    """Cross-entropy with the true classes, nats."""

    set: str

    def __call__(self, view: View) -> Tensor:
        logits, targets = view.logits(self.set), view.batch(self.set).targets
        return F.cross_entropy(logits.flatten(0, -2), targets.flatten())


@word
class KL(Term):
    """Divergence of the model from a teacher on one set, KL(teacher || model), nats.

    Args:
        set: the set that both answer.
        teacher: "original" (the model before unlearning) or "random" (freshly initialised).
        temperature: both are softened by it, and the term is scaled by its square.

    Source: Hinton et al., Distilling the Knowledge in a Neural Network, arXiv 1503.02531, 2.
    """

    set: str
    teacher: str = "original"
    temperature: float = 1.0

    def check(self) -> None:
        _check_teacher(self)
        if self.temperature <= 0:
            raise BadSentence(f"KL: temperature must be above 0, got {self.temperature}.")

    def __call__(self, view: View) -> Tensor:
        ours = (view.logits(self.set) / self.temperature).log_softmax(-1)
        theirs = (view.teacher(self.teacher, self.set) / self.temperature).log_softmax(-1)
        return (theirs.exp() * (theirs - ours)).sum(-1).mean() * self.temperature**2


@word
class Uniform(Term):
    """Divergence of the model from the uniform distribution, KL(uniform || model), nats.

    Source: first stage of the winner of the NeurIPS 2023 challenge (fanchuan).
    """

    set: str

    def __call__(self, view: View) -> Tensor:
        logp = view.logits(self.set).log_softmax(-1)
        classes = torch.tensor(float(logp.shape[-1]))
        return -logp.mean() - torch.log(classes)


@word
class Relabel(Term):
    """Cross-entropy with a wrong class, drawn once for each example and member, nats.

    The draw is a hash of the example's index and the member's seed: it stays the same over epochs
    and under any order of the minibatches.
    """

    set: str

    def __call__(self, view: View) -> Tensor:
        logits, batch = view.logits(self.set), view.batch(self.set)
        if logits.ndim != 2:
            raise Unsupported("Relabel draws one wrong class an image; on tokens there is none.")
        others = logits.shape[-1] - 1
        if others < 1:
            raise Unsupported("Relabel needs a wrong class to draw, and the model knows one class.")
        shift = 1 + hashed(batch.index, view.seed) % others
        return F.cross_entropy(logits, (batch.targets + shift) % (others + 1))


def hashed(index: Tensor, seed: int | Tensor) -> Tensor:
    """A whole number from 0 to 2^31 - 1 for each index and seed, the same on every machine.

    Source: the finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) on wrapping int64.
    """
    wrapping = torch.as_tensor(seed, device=index.device)  # a plain int would not wrap but overflow
    mixed = index * 0x1E3779B97F4A7C15 + wrapping * 0x3C6EF372FE94F82B + 0x2545F4914F6CDD1D
    mixed = (mixed ^ ((mixed >> 30) & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
    mixed = (mixed ^ ((mixed >> 27) & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
    return (mixed >> 33) & 0x7FFFFFFF


@word
class Repel(Term):
    """Drives the answers on one set away from those on another, by a contrastive loss, nats.

    The mean of -log softmax over the similarities z z'^T / temperature; the answers on `against`
    carry no gradient.

    Source: forget rounds of the winner of the NeurIPS 2023 challenge (fanchuan).
    """

    set: str
    against: str
    temperature: float = 1.15

    def check(self) -> None:
        if self.temperature <= 0:
            raise BadSentence(f"Repel: temperature must be above 0, got {self.temperature}.")

    def __call__(self, view: View) -> Tensor:
        ours, theirs = view.logits(self.set), view.logits(self.against).detach()
        if ours.ndim != 2:
            raise Unsupported(
                f"Repel compares one answer an example, [b, k]; got {tuple(ours.shape)}. "
                "On tokens there are many answers an example."
            )
        return -(ours @ theirs.T / self.temperature).log_softmax(-1).mean()


@word
class Entropy(Term):
    """Entropy of the model's answers, nats; minimise its negative to make the model unsure."""

    set: str

    def __call__(self, view: View) -> Tensor:
        logp = view.logits(self.set).log_softmax(-1)
        return -(logp.exp() * logp).sum(-1).mean()


@word
class MSE(Term):
    """Squared distance of the logits from a teacher's, mean over classes and examples."""

    set: str
    teacher: str = "original"

    def check(self) -> None:
        _check_teacher(self)

    def __call__(self, view: View) -> Tensor:
        return F.mse_loss(view.logits(self.set), view.teacher(self.teacher, self.set))


@word
class L1(Term):
    """Sum of the sizes of all weights that may move.

    Source: Jia et al., Model Sparsity Can Simplify Machine Unlearning, arXiv 2304.04934, eq. 4.
    """

    def __call__(self, view: View) -> Tensor:
        return sum((w.abs().sum() for w in view.weights.values()), torch.tensor(0.0))
