"""Datasets and minibatches of images and of texts.

A minibatch holds `Images`, one answer each, or `Tokens`, one answer a token. The shift of language
models, by which the answer at one token is scored by the next, happens here and only here.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.utils.data import Dataset, default_collate

from expunge.errors import BadData, Unsupported

UNSCORED = -100


@dataclass(frozen=True)
class Images:
    """One minibatch of labelled images.

    Args:
        inputs: float [b, c, h, w], as the model wants them.
        targets: int64 [b], the class of each image.
        index: int64 [b], the row of each image in the whole dataset; it survives shuffling.
    """

    inputs: Tensor
    targets: Tensor
    index: Tensor

    def __len__(self) -> int:
        return self.targets.shape[0]

    def to(self, device: torch.device) -> Images:
        """The same minibatch where the model is."""
        return Images(*(part.to(device) for part in (self.inputs, self.targets, self.index)))

    @property
    def scored(self) -> Tensor | None:
        """Which targets count; None, since each image's does."""
        return None

    def rows(self, some: slice) -> Images:
        """Some of the examples."""
        return Images(self.inputs[some], self.targets[some], self.index[some])

    def logits(self, model: Any) -> Tensor:
        """The model's answers, [b, k]; `model` is any callable on the inputs."""
        return model(self.inputs)

    def answers(self, model: Any) -> Tensor:
        """The model's answers that are scored, [n, k]: all of them."""
        logits = self.logits(model)
        if logits.shape[:-1] != self.targets.shape:
            shape = tuple(logits.shape)
            raise Unsupported(f"Images got answers {shape}, expected [b, k]: are they for tokens?")
        return logits.flatten(0, -2)

    def spread(self, values: Tensor) -> Tensor:
        """Values of the scored targets, [n, ...], in their places, [b, *t, ...]."""
        return values.reshape(*self.targets.shape, *values.shape[1:])


@dataclass(frozen=True)
class Tokens:
    """One minibatch of token sequences, padded to one length on either side.

    Args:
        inputs: int64 [b, t], token ids; those where `mask` is False never matter.
        mask: bool [b, t], True for a token and False for padding. It is explicit, since the id
            that pads may be one that also ends a text.
        labels: int64 [b, t], each token's own id where it is scored, UNSCORED where it is not: in
            prompts and in padding.
        index: int64 [b], the row of each example in its dataset; it survives shuffling.
        instead: the same prompts with other answers, row by row; None where there are none.
    """

    inputs: Tensor
    mask: Tensor
    labels: Tensor
    index: Tensor
    instead: Tokens | None = None

    def __len__(self) -> int:
        return self.index.shape[0]

    @property
    def targets(self) -> Tensor:
        """The next token, which each answer is scored by, int64 [b, t - 1], or UNSCORED.

        The first token of a text follows nothing, so that no answer is scored by it, and after
        padding on the left neither.
        """
        return torch.where(self.mask[:, :-1] & self.mask[:, 1:], self.labels[:, 1:], UNSCORED)

    @property
    def scored(self) -> Tensor:
        """Which targets count, bool [b, t - 1]."""
        return self.targets != UNSCORED

    def to(self, device: torch.device) -> Tokens:
        """The same minibatch where the model is."""
        inputs, mask, labels = (p.to(device) for p in (self.inputs, self.mask, self.labels))
        other = self.instead.to(device) if self.instead else None
        return Tokens(inputs, mask, labels, self.index.to(device), other)

    def rows(self, some: slice) -> Tokens:
        """Some of the examples, without columns that are padding in all of them."""
        used = self.mask[some].any(0).nonzero().flatten()
        columns = slice(int(used.min()), int(used.max()) + 1) if len(used) else slice(0, 1)
        inputs, mask, labels = (p[some, columns] for p in (self.inputs, self.mask, self.labels))
        other = self.instead.rows(some) if self.instead else None
        return Tokens(inputs, mask, labels, self.index[some], other)

    def logits(self, model: Any) -> Tensor:
        """The model's answers in single precision or better, [b, t - 1, k], one for each target.

        `model` takes input_ids and attention_mask by name, as causal language models of
        transformers do, and position_ids where there is padding on the left.
        """
        answers = model(**self._named()).logits[:, :-1]
        return answers.to(torch.promote_types(answers.dtype, torch.float32))

    def _named(self) -> dict[str, Any]:
        named = {"input_ids": self.inputs, "attention_mask": self.mask.long(), "use_cache": False}
        if not bool(self.mask[:, 0].all()):
            named["position_ids"] = (self.mask.cumsum(1) - 1).clamp_min(0)
        return named

    def answers(self, model: Any) -> Tensor:
        """The model's answers that are scored, [n, k], row by row; n over the whole minibatch.

        The layer that gives the answers, a product with the whole vocabulary, sees no other token.
        """
        head = _head(model)
        if head is None:
            return self.logits(model)[self.scored]
        chosen = self.scored.nonzero(as_tuple=True)
        with head.register_forward_pre_hook(lambda _, inputs: (inputs[0][chosen][None],)):
            answers = model(**self._named()).logits[0]
        return answers.to(torch.promote_types(answers.dtype, torch.float32))

    def spread(self, values: Tensor) -> Tensor:
        """Values of the scored targets, [n, ...], in their places, [b, t - 1, ...]; 0 elsewhere."""
        wide = values.new_zeros(*self.scored.shape, *values.shape[1:])
        return wide.index_put(self.scored.nonzero(as_tuple=True), values)

    def aligned(self, states: Tensor) -> Tensor:
        """Of states at every token, [b, t, d], those that answer a target, [b, t - 1, d]."""
        return states[:, :-1]

    def widened(self, width: int) -> Tokens:
        """The same minibatch with padding on the right up to a width."""
        more = (0, width - self.inputs.shape[1])
        inputs, labels = pad(self.inputs, more), pad(self.labels, more, value=UNSCORED)
        return Tokens(inputs, pad(self.mask, more), labels, self.index, self.instead)


Batch = Images | Tokens


def _head(model: Any) -> nn.Module | None:
    """The layer of a language model that gives its answers; None where it does not say."""
    head = getattr(model, "get_output_embeddings", lambda: None)()
    return head if isinstance(head, nn.Module) else None


def stacked(pieces: Sequence[Batch], order: Tensor, index: Tensor) -> Batch:
    """Minibatches one under the other, their rows then put in an order, under a new index.

    Raises:
        BadData: some are of images and some of tokens.
    """
    images = [piece for piece in pieces if isinstance(piece, Images)]
    tokens = [piece for piece in pieces if isinstance(piece, Tokens)]
    if images and tokens:
        raise BadData("One set holds images and the other tokens; no model reads both.")
    if images:
        inputs = torch.cat([piece.inputs for piece in images])[order]
        return Images(inputs, torch.cat([piece.targets for piece in images])[order], index)
    others = [piece.instead for piece in tokens if piece.instead]
    other = stacked(others, order, index) if len(others) == len(tokens) else None
    width = max(piece.inputs.shape[1] for piece in tokens)
    wide = [piece.widened(width) for piece in tokens]
    inputs, mask, labels = (
        torch.cat([getattr(piece, name) for piece in wide])[order]
        for name in ("inputs", "mask", "labels")
    )
    return Tokens(inputs, mask, labels, index, other if isinstance(other, Tokens) else None)


@runtime_checkable
class Data(Protocol):
    """Examples that can be asked for by position."""

    def __len__(self) -> int: ...

    def batch(self, positions: Tensor) -> Batch:
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
        BadData: the dataset has no length, or an example is not a pair.
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
    """Some examples of a larger dataset, without a copy; `index` keeps the larger set's rows.

    Args:
        base: the larger dataset.
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

    def batch(self, positions: Tensor) -> Batch:
        """The examples at `positions` of this subset."""
        return self.base.batch(self.index[positions])


@dataclass(frozen=True, eq=False)
class Joined:
    """Two datasets one after the other, without a copy; `index` counts through both."""

    first: Data
    second: Data

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def batch(self, positions: Tensor) -> Batch:
        """The examples at `positions`, int64 [b], in their order."""
        late = positions >= len(self.first)
        parts = (self.first, ~late, 0), (self.second, late, len(self.first))
        pieces = [part.batch(positions[some] - at) for part, some, at in parts if some.any()]
        back = torch.cat([(~late).nonzero(), late.nonzero()]).flatten().argsort()
        return stacked(pieces, back, positions)


def as_data(source: Any) -> Data:
    """Take tensors (inputs, targets), a `Dataset` or anything that already is `Data`.

    Raises:
        BadData: it is none of these.
    """
    if isinstance(source, Data):
        return source
    if isinstance(source, tuple) and len(source) == 2:
        return Tensors(torch.as_tensor(source[0]), torch.as_tensor(source[1]))
    if hasattr(source, "__getitem__") and not isinstance(source, tuple | str):
        return Indexed(source)
    many = f" of {len(source)}" if isinstance(source, tuple) else ""
    raise BadData(
        f"Got a {type(source).__name__}{many}; expected a pair of tensors (inputs, targets), a "
        "torch Dataset of (image, class) pairs, or an expunge Data."
    )


def in_memory(data: Data) -> bool:
    """Whether many minibatches can be gathered at once, as stacked training does."""
    return in_memory(data.base) if isinstance(data, Subset) else isinstance(data, Tensors)


def holds_tokens(data: Data) -> bool:
    """Whether the examples are token sequences."""
    if isinstance(data, Joined):
        return holds_tokens(data.first)
    inner = getattr(data, "base", None) or getattr(data, "data", None)
    return holds_tokens(inner) if isinstance(inner, Data) else hasattr(data, "token_counts")


def scored_in(data: Data, positions: Tensor) -> int:
    """How many targets of some examples are scored: one an image, and every token of an answer."""
    if not holds_tokens(data):
        return len(positions)
    return sum(int(data.batch(rows).targets.ne(UNSCORED).sum()) for rows in positions.split(256))


def chunk_of(data: Data, images: int) -> int:
    """How many examples to answer at once: texts, with an answer a token, are fewer."""
    return min(images, 16) if holds_tokens(data) else images


def classes_in(data: Data) -> frozenset[int]:
    """The classes that occur in a set."""
    return frozenset(all_targets(data).unique().tolist())


def all_targets(data: Data, chunk: int = 1024) -> Tensor:
    """Every target, int64 [n], read without the inputs where the data allow it.

    Raises:
        Unsupported: the examples are texts, which have no class.
    """
    if holds_tokens(data):
        raise Unsupported("Classes were asked for, and texts have none.")
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


def check_indices(indices: Sequence[int] | Tensor | np.ndarray, n: int) -> Tensor:
    """A forget set's rows, sorted, as int64 [f] on the CPU.

    Args:
        indices: positions in the training set, any order.
        n: examples in the training set.

    Raises:
        BadData: none, all of them, twice the same, outside 0..n-1, or not integers.
    """
    rows = _whole_numbers(indices)
    outside = rows[(rows < 0) | (rows >= n)]
    if len(outside):
        raise BadData(
            f"The forget set names row {outside[0]}, but the training set has rows 0 to {n - 1}."
        )
    unique, counts = np.unique(rows, return_counts=True)
    if len(unique) < len(rows):
        raise BadData(
            f"The forget set names row {unique[counts > 1][0]} more than once; name each row once."
        )
    if len(unique) == n:
        raise BadData(f"The forget set names all {n} rows; expected at least one to retain.")
    return torch.as_tensor(unique.astype(np.int64))


def _whole_numbers(indices: Sequence[int] | Tensor | np.ndarray) -> np.ndarray:
    """Return the indices as a flat integer array, or say what else they are."""
    plain = indices.detach().cpu().tolist() if isinstance(indices, Tensor) else indices
    try:
        rows = np.asarray(plain)
    except ValueError as error:
        raise BadData("The forget set is a ragged list; expected a flat list of rows.") from error
    if rows.ndim != 1:
        raise BadData(f"The forget set has shape {rows.shape}; expected a flat list of rows.")
    if not len(rows):
        raise BadData("The forget set is empty; name at least one row to forget.")
    if rows.dtype == bool:
        raise BadData("The forget set is a mask of booleans; give the rows (mask.nonzero()).")
    if rows.dtype.kind not in "iu":
        raise BadData(f"The forget set holds {rows.dtype} values; expected whole row numbers.")
    return rows
