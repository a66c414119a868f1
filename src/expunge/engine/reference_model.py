"""The original model that a run compares with, and how far the unlearned one has moved from it.

The original is never changed, so it can share its weights with the caller's model and takes no
memory. Where the caller gives the model away (`in_place`), a copy is kept only if the method
compares with it; the weights that the receipt needs wait on disk.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from expunge.core.method import Method, words_of

Lookup = Callable[[str], Tensor]


# Numbers compared at once: a whole vocabulary in double precision would set a run's peak memory.
PIECE = 2**20


def sharing(model: nn.Module) -> nn.Module:
    """A twin in evaluation mode without gradients that shares the model's weights; no copy."""
    memo: dict[int, Any] = {id(w): nn.Parameter(w.detach(), False) for w in model.parameters()}
    memo |= {id(buffer): buffer.detach() for buffer in model.buffers()}
    return copy.deepcopy(model, memo).eval()


def compares(method: Method) -> bool:
    """Whether a method looks at the original's weights or answers while the model changes.

    What terms compute from the original before training (`facts`) does not count.
    """
    return any(
        getattr(word, "sees_original", False) or "original" in getattr(word, "teachers", ())
        for word in words_of(method.steps)
    )


def adapter_alone(method: Method) -> bool:
    """Whether every step writes new weights, so that a run may share the original's."""
    return bool(method.steps) and all(getattr(s, "writes_new_weights", False) for s in method.steps)


def weights_of(model: nn.Module) -> Lookup:
    """Name of a weight or buffer -> what it is now."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}.__getitem__


@contextmanager
def on_disk(model: nn.Module) -> Iterator[Lookup]:
    """Keep a model's weights in a temporary file while the block runs; yield a lookup by name.

    Buffers are small and are copied.
    """
    buffers = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    with tempfile.TemporaryDirectory(prefix="expunge-") as folder:
        file = Path(folder) / "before.safetensors"
        save_file({n: w.detach().contiguous() for n, w in model.named_parameters()}, file)

        def before(name: str) -> Tensor:
            if name in buffers:
                return buffers[name]
            # opened each time, since what was read of an open file stays mapped into memory
            with safe_open(file, "pt") as kept:
                return kept.get_tensor(name)

        yield before


@torch.no_grad()
def change(before: Lookup, after: nn.Module) -> tuple[float, float, float]:
    """How far the weights moved: share of their norm, share of them, and the largest change.

    The largest change counts running statistics too (not counters of minibatches); the other two
    are of weights alone. Tensors are compared one after another, to save memory.
    """
    size, distance, largest, other, count = 0.0, 0.0, 0.0, 0, 0
    for name, new in after.named_parameters():
        pieces = zip(new.flatten().split(PIECE), before(name).flatten().split(PIECE), strict=True)
        for now, was in pieces:
            old = was.to(now.device)
            step = now.double() - old.double()
            size += float(old.double().square().sum())
            distance += float(step.square().sum())
            largest = max(largest, float(step.abs().max()) if step.numel() else 0.0)
            other, count = other + int((now != old).sum()), count + now.numel()
    for name, now in after.named_buffers():
        if now.is_floating_point() and now.numel():
            was = before(name).to(now.device)
            largest = max(largest, float((now.double() - was.double()).abs().max()))
    moved = (distance / size) ** 0.5 if size > 0 else float(distance > 0)
    return moved, other / count, largest
