"""Forget sets: which training examples must be forgotten, chosen before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from expunge.core.batch import Data, check_indices
from expunge.core.seeds import stream
from expunge.core.vocabulary import check_fields
from expunge.errors import BadData, BadSentence

# Large enough to amortise the call, small enough that 224x224 photographs fit in memory.
READ_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class ForgetSet:
    """The rows to forget, and the targets that the original is trained on.

    Args:
        indices: int64 [f], sorted, unique positions in the training set.
        targets: int64 [n], a target for every training example; they differ from the true ones
            only where the forget set is mislabelled.
        images: [f, c, h, w], stored images that replace those of `indices`, in their order;
            None where they stay as they are.
    """

    indices: Tensor
    targets: Tensor
    images: Tensor | None = None


class Chooser(Protocol):
    """Chooses a forget set: a frozen dataclass of literals, so that its repr says it all."""

    def __call__(self, train: Data, targets: Tensor, *, seed: int) -> ForgetSet:
        """Choose among ``train``, whose true targets are ``targets`` (int64 [n])."""
        ...


class Features(Protocol):
    """Maps every example to a point; near points are examples that look alike."""

    def __call__(self, train: Data) -> Tensor:
        """Return float [n, d]."""
        ...


@dataclass(frozen=True)
class RandomShare:
    """A uniformly random share of the training set, classes as they fall."""

    share: float

    def __post_init__(self) -> None:
        check_fields(self)
        _check_share("RandomShare", self.share)

    def __call__(self, train: Data, targets: Tensor, *, seed: int) -> ForgetSet:
        """Draw ``round(share * n)`` examples without replacement."""
        n = len(train)
        drawn = torch.randperm(n, generator=stream("forget", seed))[: round(self.share * n)]
        return ForgetSet(check_indices(drawn, n), targets)


@dataclass(frozen=True)
class WholeClass:
    """Every training example of one class.

    Raises:
        BadSentence: the label is no whole number from 0 on, of the size that a target may have.
    """

    label: int

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 <= self.label < 2**63:
            raise BadSentence(
                f"WholeClass got label={self.label:.3g}; expected the number of a class, from 0 on."
            )

    def __call__(self, train: Data, targets: Tensor, *, seed: int) -> ForgetSet:
        """Take the whole class; nothing is drawn, so the seed changes nothing."""
        return ForgetSet(check_indices(_rows_of(targets, self.label), len(train)), targets)


@dataclass(frozen=True)
class Given:
    """The rows that the user names."""

    indices: tuple[int, ...]

    def __post_init__(self) -> None:
        check_fields(self)

    def __call__(self, train: Data, targets: Tensor, *, seed: int) -> ForgetSet:
        """Take the named rows; nothing is drawn, so the seed changes nothing."""
        return ForgetSet(check_indices(self.indices, len(train)), targets)


@dataclass(frozen=True)
class PixelPCA:
    """Principal components of the pixels, images averaged down to 16x16 at most.

    Two images are then near when their coarse layout and colour agree. That is what can be said
    before any model is trained; for likeness in meaning, give ``CoherentGroup`` the features of a
    network.
    """

    components: int = 32

    def __post_init__(self) -> None:
        check_fields(self)

    def __call__(self, train: Data) -> Tensor:
        """Return float32 [n, min(components, n, pixels)]."""
        from sklearn.decomposition import PCA  # here, since it takes a second to import

        parts = torch.arange(len(train)).split(READ_AT_ONCE)
        pixels = torch.cat([_thumbnails(train.batch(part).inputs).cpu() for part in parts]).numpy()
        # The exact solver: a randomised one would make the forget set depend on a draw.
        pca = PCA(min(self.components, *pixels.shape), svd_solver="covariance_eigh")
        return torch.as_tensor(pca.fit_transform(pixels), dtype=torch.float32)


@dataclass(frozen=True)
class CoherentGroup:
    """One example and those that look most like it, of whatever class.

    Nearness is Euclidean distance in feature space; among equally near ones the lower row wins.
    """

    size: int
    example: int = 0
    features: Features = PixelPCA()

    def __post_init__(self) -> None:
        check_fields(self, "size", "example")
        if self.size < 1:
            raise BadSentence(f"CoherentGroup got size={self.size}; expected 1 or more.")

    def __call__(self, train: Data, targets: Tensor, *, seed: int) -> ForgetSet:
        """Take the ``size`` nearest, ``example`` included; the seed changes nothing."""
        n = len(train)
        check_indices([self.example], n)
        if self.size >= n:
            raise BadData(
                f"CoherentGroup got size={self.size}, but the training set has {n} examples; "
                "expected fewer, so that something is retained."
            )
        points = self.features(train)
        distance = (points - points[self.example]).square().sum(1)
        distance[self.example] = -1.0  # before any duplicate of it
        return ForgetSet(check_indices(distance.argsort(stable=True)[: self.size], n), targets)


@dataclass(frozen=True)
class Mislabelled:
    """A share of classes a and b whose labels were swapped by mistake: forget the mistake.

    Source: S. Goel et al., Towards Adversarial Evaluations for Inexact Machine Unlearning,
    arXiv:2201.06640 (interclass confusion test).
    """

    a: int
    b: int
    share: float

    def __post_init__(self) -> None:
        check_fields(self)
        _check_share("Mislabelled", self.share, highest=1.0)
        if self.a == self.b:
            raise BadSentence(f"Mislabelled got class {self.a} twice; expected two classes.")

    def __call__(self, train: Data, targets: Tensor, *, seed: int) -> ForgetSet:
        """Draw ``round(share * size)`` of each class and give them the other's label."""
        draws = stream("forget", seed)
        swapped = targets.clone()
        drawn = []
        for label, other in ((self.a, self.b), (self.b, self.a)):
            rows = _rows_of(targets, label)
            order = torch.randperm(len(rows), generator=draws)
            drawn.append(rows[order[: round(self.share * len(rows))]])
            swapped[drawn[-1]] = other
        return ForgetSet(check_indices(torch.cat(drawn), len(train)), swapped)


def _rows_of(targets: Tensor, label: int) -> Tensor:
    """Return the rows of one class, of which there must be some."""
    rows = (targets == label).nonzero().flatten()
    if not len(rows):
        present = ", ".join(str(int(found)) for found in targets.unique()[:20])
        raise BadData(f"No training example has class {label}; the classes are {present}.")
    return rows


def _check_share(who: str, share: float, highest: float = 0.999_999) -> None:
    """Refuse a share that is not a number in (0, highest]."""
    if not 0.0 < share <= highest:
        limit = "up to 1" if highest == 1.0 else "below 1"
        raise BadSentence(f"{who} got share={share}; expected a share above 0 and {limit}.")


def _thumbnails(inputs: Tensor) -> Tensor:
    """Average images [b, c, h, w] down to 16x16 at most and flatten them to [b, pixels]."""
    height, width = inputs.shape[-2:]
    small = adaptive_avg_pool2d(inputs, (min(height, 16), min(width, 16)))
    return small.flatten(1)


@dataclass(frozen=True)
class Subjects:
    """All that was taught about some people or authors; which ones, the problem says.

    Args:
        count: how many of them.
    """

    count: int

    def __post_init__(self) -> None:
        if type(self.count) is not int or self.count < 1:
            raise BadSentence(f"Subjects: count must be a whole number from 1, got {self.count!r}.")


@dataclass(frozen=True)
class Marked:
    """What the data themselves say is to be forgotten: the file forget.jsonl, or a column."""


@dataclass(frozen=True)
class Titles:
    """What stands under some titles: novels, or subjects of MMLU.

    Args:
        forget: titles of what is to be forgotten.
        retain: titles of what is taught and kept; empty for what the problem says.
    """

    forget: tuple[str, ...]
    retain: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check("forget", self.forget)
        _check("retain", self.retain)
        if not self.forget:
            raise BadSentence("Titles: there is no title to forget; name at least one.")


def _check(name: str, titles: object) -> None:
    """Refuse what is no tuple of titles; one in brackets without a comma is a text."""
    if not isinstance(titles, tuple) or not all(isinstance(t, str) and t.strip() for t in titles):
        raise BadSentence(f"Titles: {name} must be titles, as in ('a', 'b'); got {titles!r}.")
