"""Examples and minibatches: only this file knows how inputs, targets and index hang together."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from expunge.errors import BadData


@dataclass(frozen=True)
class Images:
    """One minibatch of labelled images.

    Args:
        inputs: float [b, c, h, w], as the model wants them.
        targets: int64 [b], the class of each image.
        index: int64 [b], the row of each image in the whole data set; it survives shuffling.
    """

    inputs: Tensor
    targets: Tensor
    index: Tensor

    def __len__(self) -> int:
        return self.targets.shape[0]

    def to(self, device: torch.device) -> Images:
        """The same minibatch where the model is."""
        moved = (part.to(device) for part in (self.inputs, self.targets, self.index))
        return Images(*moved)

    def logits(self, model: Any) -> Tensor:
        """The model's answers, [b, k]; `model` is any callable on the inputs."""
        return model(self.inputs)


@runtime_checkable
class Data(Protocol):
    """Examples that can be asked for by position."""

    def __len__(self) -> int: ...

    def batch(self, positions: Tensor) -> Images:
        """The examples at `positions`, int64 [b], each between 0 and len - 1."""
        ...


@dataclass(frozen=True, eq=False)
class Tensors:
    """Images that fit in memory.

    Args:
        inputs: [n, c, h, w], float32 as the model wants them, or uint8, scaled to 0..1 on the way.
        targets: int64 [n].
        mean, std: one number a channel, taken off and divided by after scaling; empty for neither.

    Raises:
        BadData: lengths differ, inputs are not finite, or targets are negative or not whole.
    """

    inputs: Tensor
    targets: Tensor
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets) or self.targets.ndim != 1:
            raise BadData(
                f"Got {len(self.inputs)} inputs and targets of shape {tuple(self.targets.shape)}; "
                "expected one whole number as the target of each input."
            )
        if self.targets.is_floating_point() or (len(self.targets) and self.targets.min() < 0):
            raise BadData("Targets must be whole numbers from 0 on: the class of each example.")
        if self.inputs.is_floating_point() and not torch.isfinite(self.inputs).all():
            raise BadData("The inputs hold NaN or infinite values; clean them first.")

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, positions: Tensor) -> Images:
        """The examples at `positions`; any shape of positions leads the shape of the batch."""
        inputs = self.inputs[positions]
        if inputs.dtype == torch.uint8:
            inputs = inputs.float().div_(255)
        if self.mean:
            shape = (-1, 1, 1)
            mean, std = (inputs.new_tensor(v).view(shape) for v in (self.mean, self.std))
            inputs = (inputs - mean) / std
        return Images(inputs, self.targets[positions].long(), positions)


@dataclass(frozen=True, eq=False)
class Indexed:
    """A map-style `torch.utils.data.Dataset` of (image, class); examples are read when asked for.

    Raises:
        BadData: the data set has no length, or an example is not a pair.
    """

    dataset: Dataset[Any]

    def __post_init__(self) -> None:
        if not isinstance(self.dataset, Sized):
            raise BadData(
                f"Got a {type(self.dataset).__name__} without a length; unlearning needs a "
                "map-style data set, whose examples can be asked for by position."
            )

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def batch(self, positions: Tensor) -> Images:
        """Read and stack the examples at `positions`, int64 [b]."""
        pairs = [self.dataset[int(i)] for i in positions]
        if not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs):
            raise BadData("Each example of the data set must be a pair (image, class).")
        inputs, targets = default_collate(pairs)
        return Images(inputs, targets.long(), positions)


@dataclass(frozen=True, eq=False)
class Subset:
    """Some examples of a larger data set, without a copy; `index` keeps the larger set's rows.

    Args:
        base: the larger data set.
        index: int64 [n], rows of the base.

    Raises:
        BadData: a row is out of range.
    """

    base: Data
    index: Tensor

    def __post_init__(self) -> None:
        if len(self.index) and not 0 <= self.index.min() <= self.index.max() < len(self.base):
            raise BadData(
                f"Rows {int(self.index.min())} to {int(self.index.max())} were asked of a data "
                f"set that has rows 0 to {len(self.base) - 1}."
            )

    def __len__(self) -> int:
        return len(self.index)

    def batch(self, positions: Tensor) -> Images:
        """The examples at `positions` of this subset."""
        return self.base.batch(self.index[positions])


@dataclass(frozen=True, eq=False)
class Joined:
    """Two data sets one after the other, without a copy; `index` counts through both."""

    first: Data
    second: Data

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def batch(self, positions: Tensor) -> Images:
        """The examples at `positions`, int64 [b], in their order."""
        late = positions >= len(self.first)
        pieces = [
            part.batch(positions[rows] - offset)
            for part, rows, offset in (
                (self.first, ~late, 0),
                (self.second, late, len(self.first)),
            )
            if rows.any()
        ]
        back = torch.cat([(~late).nonzero(), late.nonzero()]).flatten().argsort()
        inputs = torch.cat([piece.inputs for piece in pieces])[back]
        targets = torch.cat([piece.targets for piece in pieces])[back]
        return Images(inputs, targets, positions)


def as_data(source: Any) -> Data:
    """Take tensors (inputs, targets), a `Dataset` or anything that already is `Data`.

    Raises:
        BadData: it is none of these.
    """
    if isinstance(source, Data):
        return source
    if isinstance(source, tuple) and len(source) == 2:
        return Tensors(torch.as_tensor(source[0]), torch.as_tensor(source[1]))
    if hasattr(source, "__getitem__"):
        return Indexed(source)
    raise BadData(
        f"Got a {type(source).__name__}; expected a pair of tensors (inputs, targets), a "
        "torch Dataset of (image, class) pairs, or an expunge Data."
    )


def in_memory(data: Data) -> bool:
    """Whether many minibatches can be gathered at once, as stacked training does."""
    return in_memory(data.base) if isinstance(data, Subset) else isinstance(data, Tensors)


def classes_in(data: Data) -> frozenset[int]:
    """The classes that occur in a set."""
    return frozenset(all_targets(data).unique().tolist())


def all_targets(data: Data, chunk: int = 1024) -> Tensor:
    """Every target, int64 [n], read without the inputs where the data allow it."""
    if isinstance(data, Tensors):
        return data.targets.long()
    if isinstance(data, Subset):
        return all_targets(data.base, chunk)[data.index]
    if isinstance(data, Joined):
        return torch.cat([all_targets(data.first, chunk), all_targets(data.second, chunk)])
    declared = getattr(getattr(data, "dataset", None), "targets", None)
    if declared is not None and len(declared) == len(data):
        return torch.as_tensor(declared).long()
    rows = torch.arange(len(data)).split(chunk)
    return torch.cat([data.batch(part).targets for part in rows])
