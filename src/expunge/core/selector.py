"""To which weights? A selector says yes or no for every weight of the original model.

Selectors combine with `|`, `&` and `~`. Computed on the original, a selector means the same weights
all along a method; only `Random` draws again each time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from expunge.core.vocabulary import word
from expunge.errors import BadSentence, Unsupported

if TYPE_CHECKING:
    from expunge.core.run import ProblemProtocol, RunProtocol


Mask = dict[str, Tensor]


class Selector(ABC):
    """Chooses weights; abstract.

    Args:
        sees_original: whether the original's weights decide, and not their names and shapes alone.
    """

    sees_original: ClassVar[bool] = True

    @abstractmethod
    def mask(self, run: RunProtocol) -> Mask:
        """Name of a parameter -> bool tensor of its shape, True where the weight is chosen."""

    @property
    def redraws(self) -> bool:
        """Whether it chooses other weights for each seed and time, so that no mask is kept."""
        return False

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        """Count the examples of each set that its mask reads, without those of selectors inside."""
        return Counter()

    def __or__(self, other: object) -> Either:
        return Either(self, other) if isinstance(other, Selector) else NotImplemented

    def __and__(self, other: object) -> Both:
        return Both(self, other) if isinstance(other, Selector) else NotImplemented

    def __invert__(self) -> Outside:
        return Outside(self)


@word
class Either(Selector):
    """The weights that one selector or the other chooses; written `a | b`."""

    sees_original: ClassVar[bool] = False
    a: Selector
    b: Selector

    def mask(self, run: RunProtocol) -> Mask:
        a, b = run.mask(self.a), run.mask(self.b)
        return {name: a[name] | b[name] for name in a}

    @property
    def redraws(self) -> bool:
        return self.a.redraws or self.b.redraws

    def __repr__(self) -> str:
        return f"({self.a!r} | {self.b!r})"


@word
class Both(Selector):
    """The weights that both selectors choose; written `a & b`."""

    sees_original: ClassVar[bool] = False
    a: Selector
    b: Selector

    def mask(self, run: RunProtocol) -> Mask:
        a, b = run.mask(self.a), run.mask(self.b)
        return {name: a[name] & b[name] for name in a}

    @property
    def redraws(self) -> bool:
        return self.a.redraws or self.b.redraws

    def __repr__(self) -> str:
        return f"({self.a!r} & {self.b!r})"


@word
class Outside(Selector):
    """The weights that a selector does not choose; written `~part`."""

    sees_original: ClassVar[bool] = False
    part: Selector

    def mask(self, run: RunProtocol) -> Mask:
        return {name: ~inside for name, inside in run.mask(self.part).items()}

    @property
    def redraws(self) -> bool:
        return self.part.redraws

    def __repr__(self) -> str:
        return f"~{self.part!r}"


def whole_tensors(model: nn.Module, wanted: Callable[[str], bool]) -> Mask:
    """A mask of whole parameters, chosen by name."""
    ones = {name: torch.ones_like(w, dtype=torch.bool) for name, w in model.named_parameters()}
    return {name: one if wanted(name) else ~one for name, one in ones.items()}


def lowest(model: nn.Module, sizes: Mask, share: float) -> Mask:
    """The mask of the entries with the lowest sizes, over all tensors together."""
    if not sizes:
        raise Unsupported("The model has no kernel or matrix to choose weights from.")
    limit = quantile(torch.cat([size.flatten() for size in sizes.values()]), share)
    nothing = {n: torch.zeros_like(w, dtype=torch.bool) for n, w in model.named_parameters()}
    return nothing | {name: size <= limit for name, size in sizes.items()}


def quantile(sizes: Tensor, share: float) -> Tensor:
    """The size that a `share` of the entries do not exceed (exact, for tensors of any length)."""
    rank = max(1, round(share * sizes.numel()))
    return sizes.flatten().kthvalue(rank).values


def is_share(owner: str, share: float) -> None:
    """Refuse a share that is not above 0 and at most 1."""
    if not 0 < share <= 1:
        raise BadSentence(f"{owner}: share must lie above 0 and at most at 1, got {share}.")


@word
class Everything(Selector):
    """All weights."""

    sees_original: ClassVar[bool] = False

    def mask(self, run: RunProtocol) -> Mask:
        return whole_tensors(run.original, lambda name: True)
