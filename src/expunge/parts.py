"""To which weights: a part is a yes or no for every weight, judged on the original model.

Parts join with `|`, meet with `&` and turn over with `~`. Judged on the original, a part means the
same weights all along a method; only `Random` draws anew each time.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from expunge.errors import BadSentence, Unsupported
from expunge.words import word

if TYPE_CHECKING:
    from expunge.unlearn import Run

Mask = dict[str, Tensor]


class Part(ABC):
    """Which weights; abstract."""

    @abstractmethod
    def mask(self, run: Run) -> Mask:
        """Name of a parameter -> bool tensor of its shape, True where the weight is in the part."""

    @property
    def redraws(self) -> bool:
        """Whether the part belongs to one member and one moment, so that it is never remembered."""
        return False

    def __or__(self, other: object) -> Either:
        return Either(self, other) if isinstance(other, Part) else NotImplemented

    def __and__(self, other: object) -> Both:
        return Both(self, other) if isinstance(other, Part) else NotImplemented

    def __invert__(self) -> Outside:
        return Outside(self)


@word
class Either(Part):
    """The weights of one part or the other; written `a | b`."""

    a: Part
    b: Part

    def mask(self, run: Run) -> Mask:
        a, b = run.mask(self.a), run.mask(self.b)
        return {name: a[name] | b[name] for name in a}

    @property
    def redraws(self) -> bool:
        return self.a.redraws or self.b.redraws

    def __repr__(self) -> str:
        return f"({self.a!r} | {self.b!r})"


@word
class Both(Part):
    """The weights of both parts; written `a & b`."""

    a: Part
    b: Part

    def mask(self, run: Run) -> Mask:
        a, b = run.mask(self.a), run.mask(self.b)
        return {name: a[name] & b[name] for name in a}

    @property
    def redraws(self) -> bool:
        return self.a.redraws or self.b.redraws

    def __repr__(self) -> str:
        return f"({self.a!r} & {self.b!r})"


@word
class Outside(Part):
    """The weights that are not in the part; written `~part`."""

    part: Part

    def mask(self, run: Run) -> Mask:
        return {name: ~inside for name, inside in run.mask(self.part).items()}

    @property
    def redraws(self) -> bool:
        return self.part.redraws

    def __repr__(self) -> str:
        return f"~{self.part!r}"


@word
class Everything(Part):
    """All weights."""

    def mask(self, run: Run) -> Mask:
        return whole_tensors(run.original, lambda name: True)


@word
class Last(Part):
    """The last `layers` layers: each a weight matrix or kernel with its bias and normalisation."""

    layers: int = 1

    def check(self) -> None:
        _at_least_one("Last", self.layers)

    def mask(self, run: Run) -> Mask:
        chosen = _chosen(run.original, slice(-self.layers, None), self.layers)
        return whole_tensors(run.original, chosen.__contains__)


@word
class First(Part):
    """The first `layers` layers: each a weight matrix or kernel with its bias and normalisation."""

    layers: int = 1

    def check(self) -> None:
        _at_least_one("First", self.layers)

    def mask(self, run: Run) -> Mask:
        chosen = _chosen(run.original, slice(None, self.layers), self.layers)
        return whole_tensors(run.original, chosen.__contains__)


@word
class Convs(Part):
    """The kernels of all convolutions, without their biases."""

    def mask(self, run: Run) -> Mask:
        kinds = nn.Conv1d | nn.Conv2d | nn.Conv3d
        modules = run.original.named_modules()
        names = {f"{name}.weight".lstrip(".") for name, m in modules if isinstance(m, kinds)}
        if not names:
            raise Unsupported("The model has no convolution, so Convs() would be empty.")
        return whole_tensors(run.original, names.__contains__)


@word
class Named(Part):
    """The parameters whose names match a regular expression somewhere (`re.search`)."""

    pattern: str

    def check(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as fault:
            raise BadSentence(
                f"Named: {self.pattern!r} is no regular expression: {fault}."
            ) from None

    def mask(self, run: Run) -> Mask:
        names = [name for name, _ in run.original.named_parameters()]
        found = {name for name in names if re.search(self.pattern, name)}
        if not found:
            raise BadSentence(
                f"No parameter matches {self.pattern!r}; there are {', '.join(names)}."
            )
        return whole_tensors(run.original, found.__contains__)


@word
class Smallest(Part):
    """The `share` of all kernels' and matrices' weights that are smallest in size (L1 pruning)."""

    share: float

    def check(self) -> None:
        _is_share("Smallest", self.share)

    def mask(self, run: Run) -> Mask:
        sizes = {n: w.detach().abs() for n, w in run.original.named_parameters() if w.ndim > 1}
        return _lowest(run.original, sizes, self.share)


@word
class Salient(Part):
    """The `share` of all weights on which the loss on one set depends most.

    Source: Fan et al., SalUn, arXiv 2310.12508, equation 3 (authors' share 0.5); gradient of the
    mean cross-entropy, taken in evaluation mode.
    """

    set: str = "forget"
    share: float = 0.5

    def check(self) -> None:
        _is_share("Salient", self.share)

    def mask(self, run: Run) -> Mask:
        gradient = run.gradient(self.set)
        sizes = {name: -g.abs() for name, g in gradient.items()}
        return _lowest(run.original, sizes, self.share)


@word
class Similar(Part):
    """In each kernel or matrix, the `share` of weights whose gradients on two sets differ least.

    As many examples of the set `a` are drawn as the set `b` holds, anew for each member, which
    gives the unlearned models the run-to-run variance that retrained ones have.

    Source: second prize of the NeurIPS 2023 challenge (Kookmin Y): gradient of the cross-entropy on
    random retain examples minus that on the forget set, smallest 30 % of each convolution.
    """

    a: str = "retain"
    b: str = "forget"
    share: float = 0.3

    def check(self) -> None:
        _is_share("Similar", self.share)

    @property
    def redraws(self) -> bool:
        return True

    def mask(self, run: Run) -> Mask:
        size, available = len(run.data(self.b)), len(run.data(self.a))
        drawn = torch.randperm(available, generator=run.stream("similar"))[:size]
        theirs, ours = run.gradient(self.a, drawn), run.gradient(self.b)
        parts = whole_tensors(run.original, lambda name: False)
        for name in (n for n, inside in parts.items() if inside.ndim > 1):
            difference = (theirs[name] - ours[name]).abs()
            parts[name] = difference <= _quantile(difference, self.share)
        return parts


@word
class Random(Part):
    """A `share` of all weights, drawn anew for each member and each time."""

    share: float

    def check(self) -> None:
        _is_share("Random", self.share)

    @property
    def redraws(self) -> bool:
        return True

    def mask(self, run: Run) -> Mask:
        stream = run.stream("random part")
        shapes = {name: w.shape for name, w in run.original.named_parameters()}
        drawn = {name: torch.rand(s, generator=stream) for name, s in shapes.items()}
        device = next(run.original.parameters()).device
        return {name: (u < self.share).to(device) for name, u in drawn.items()}


def layers(model: nn.Module) -> list[list[str]]:
    """Names of the parameters, layer by layer, in the order in which the model defines them."""
    found: list[list[str]] = []
    for name, weight in model.named_parameters():
        if weight.ndim > 1 or not found:
            found.append([])
        found[-1].append(name)
    return found


def whole_tensors(model: nn.Module, wanted: Callable[[str], bool]) -> Mask:
    """A mask that takes whole parameters, by name."""
    ones = {name: torch.ones_like(w, dtype=torch.bool) for name, w in model.named_parameters()}
    return {name: one if wanted(name) else ~one for name, one in ones.items()}


def _chosen(model: nn.Module, rows: slice, wanted: int) -> set[str]:
    there = layers(model)
    if wanted > len(there):
        raise Unsupported(f"The model has {len(there)} layers; {wanted} were asked for.")
    return {name for layer in there[rows] for name in layer}


def _lowest(model: nn.Module, sizes: Mask, share: float) -> Mask:
    """The entries with the lowest sizes, over all tensors together."""
    if not sizes:
        raise Unsupported("The model has no kernel or matrix to choose weights from.")
    limit = _quantile(torch.cat([size.flatten() for size in sizes.values()]), share)
    nothing = {n: torch.zeros_like(w, dtype=torch.bool) for n, w in model.named_parameters()}
    return nothing | {name: size <= limit for name, size in sizes.items()}


def _quantile(sizes: Tensor, share: float) -> Tensor:
    """The size that a `share` of the entries do not exceed (exact, for tensors of any length)."""
    rank = max(1, round(share * sizes.numel()))
    return sizes.flatten().kthvalue(rank).values


def _is_share(owner: str, share: float) -> None:
    if not 0 < share <= 1:
        raise BadSentence(f"{owner}: share must lie above 0 and at most at 1, got {share}.")


def _at_least_one(owner: str, layers: int) -> None:
    if layers < 1:
        raise BadSentence(f"{owner}: layers must be 1 or more, got {layers}.")
