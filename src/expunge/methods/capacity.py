"""What training a language model will take, before it begins: memory by its parts, and time.

Nothing is guessed from formulas of an architecture. The longest texts go through the very model
once, and what autograd keeps for the backward pass is counted; it grows with the rows of a piece.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from expunge.core.batch import Batch, Data, Joined, Subset
from expunge.core.method import Method, words_of
from expunge.core.optimisers import SGD
from expunge.core.selector import Everything
from expunge.core.term import Term
from expunge.engine.group import SingleModel
from expunge.engine.loop import course
from expunge.engine.memory import activation_checkpointing, apart, mixed_precision
from expunge.engine.reference_model import adapter_alone, compares, sharing
from expunge.engine.requirements import whole_set_terms
from expunge.engine.training import Train
from expunge.errors import TooLarge
from expunge.methods.selectors.places import Named
from expunge.methods.steps.adapter import Adapter, LoRA

if TYPE_CHECKING:
    from expunge.core.problem import Problem


GIB = 2**30


@dataclass(frozen=True)
class Capacity:
    """Memory of one run at its height, bytes, and its time.

    Args:
        weights: the model, which is in memory already.
        second: a copy of the original to compare with.
        gradients, optimiser: of the weights that move.
        activations: what the backward pass of the largest piece needs, answers left out.
        logits: the same of the answers at scored tokens, and their slopes.
        free: what the machine has left, the model being in memory.
        rows: texts of each set in a piece.
        processes: that hold all of this, each.
        seconds: for the whole run; 0 where it was not timed.
    """

    weights: int
    second: int
    gradients: int
    optimiser: int
    activations: int
    logits: int
    free: int
    rows: int
    processes: int = 1
    seconds: float = 0.0

    @property
    def needed(self) -> int:
        """Bytes beside the model."""
        each = self.second + self.gradients + self.optimiser + self.activations + self.logits
        return each * self.processes + self.weights * (self.processes - 1)

    def __str__(self) -> str:
        named = ("second", "gradients", "optimiser", "activations", "logits")
        words = ("a second model", "gradients", "the optimiser's memory", "activations", "logits")
        parts = [f"{w} {size(getattr(self, n))}" for n, w in zip(named, words, strict=True)]
        times = f" in each of {self.processes} processes" if self.processes > 1 else ""
        said = (
            f"Memory beside the model ({size(self.weights)}): about {size(self.needed)} "
            f"({', '.join(parts)}{times}); {size(self.free)} are free."
        )
        return f"{said} Time: about {duration(self.seconds)}." if self.seconds else said

    def check(self) -> None:
        """Refuse what does not fit.

        Raises:
            TooLarge: with the numbers, and what would take less.
        """
        if self.needed <= self.free:
            return
        row = (self.activations + self.logits) / self.rows
        fixed = self.needed - self.processes * (self.activations + self.logits)
        adapter = self.processes * (self.activations + self.logits) + self.weights * (
            self.processes - 1
        )
        raise TooLarge(
            f"{self} What takes less: one text at a time, --accumulate as large as --batch (about "
            f"{size(int(fixed + self.processes * row))}); an adapter, --lora 8 (about "
            f"{size(adapter)}); --checkpointing; --bf16; a smaller --batch; shorter texts."
        )


def capacity(
    model: nn.Module, method: Method, problem: Problem, *, seed: int = 0, processes: int = 1
) -> Capacity:
    """What a run of `unlearn(..., in_place=True)` will take, worked out on the model itself.

    The model is left as it is. Steps that do not train are not counted.

    Raises:
        TooLarge: it cannot fit, so that not even a piece is tried.
    """
    second = _bytes(model.parameters()) if compares(method) and not adapter_alone(method) else 0
    found = [
        _of_train(model, train, lora, problem, seed, processes, second)
        for train, lora in trained(method)
    ]
    if not found:
        return Capacity(_bytes(model.parameters()), second, 0, 0, 0, 0, free(_device(model)), 1)
    largest = max(found, key=lambda one: one.needed)
    return replace(largest, seconds=sum(one.seconds for one in found))


def trained(method: Method) -> list[tuple[Train, LoRA | None]]:
    """Every training of a method, and the adapter that it is on."""
    inside = {
        id(word): lora
        for lora in words_of(method.steps)
        if isinstance(lora, LoRA)
        for word in words_of(lora.steps)
    }
    words = [word for word in words_of(method.steps) if isinstance(word, Train)]
    return [(word, inside.get(id(word))) for word in words]


def _of_train(
    model: nn.Module,
    train: Train,
    lora: LoRA | None,
    problem: Problem,
    seed: int,
    processes: int,
    second: int,
) -> Capacity:
    rows = math.ceil(train.batch / (train.accumulate * processes))
    group = probe(model, train, lora, longest(problem, train, rows), seed)
    moving = _bytes(w for w in group.weights.values() if w.requires_grad)
    states = 2 if not isinstance(train.optimiser, SGD) else int(train.optimiser.momentum > 0)
    told = Capacity(
        _bytes(model.parameters()),
        second,
        moving,
        states * moving,
        0,
        0,
        free(_device(model)),
        rows,
        processes,
    )
    told.check()
    kept = saved(train, group, 1)
    told = replace(told, activations=rows * kept[0], logits=rows * kept[1])
    told.check()
    return replace(told, seconds=_seconds(train, group, problem, rows, processes))


def longest(problem: Problem, train: Train, rows: int) -> Problem:
    """The longest texts of every set that a training reads, so many of each."""
    chosen = {}
    for name in train.objective.sets:
        data = problem.data(name)
        counts = lengths(data)
        chosen[name] = Subset(data, counts.argsort(descending=True)[:rows])
    return replace(problem, sets={**problem.sets, **chosen})


def lengths(data: Data) -> Tensor:
    """Tokens of each text of a set, int64 [n]; of two sets, one after the other."""
    if isinstance(data, Joined):
        return torch.cat([lengths(data.first), lengths(data.second)])
    if isinstance(data, Subset):
        return lengths(data.base)[data.index]
    return data.token_counts()  # type: ignore[attr-defined]


def probe(
    model: nn.Module, train: Train, lora: LoRA | None, problem: Problem, seed: int
) -> SingleModel:
    """A group over the model's own weights, whose gradients are not theirs."""
    from expunge.engine.run import Run

    run: Run = Run(sharing(model).requires_grad_(True), sharing(model), problem, seed, "forecast")
    if lora:
        lora._adapted(run)
    group = Adapter(run) if lora else SingleModel(run)
    cheap = isinstance(train.where, Everything | Named)
    group.begin(train if cheap else replace(train, where=Everything(), slowed=None))
    return group


def saved(train: Train, group: SingleModel, rows: int) -> tuple[int, int]:
    """Bytes that are alive between the passes of some rows: activations, and answers."""
    held = _held(train, group, rows)
    if not train.checkpointing:
        return held
    whole = _held(replace(train, checkpointing=False), group, rows)
    layers = int(getattr(getattr(group.modules(), "config", None), "num_hidden_layers", 1) or 1)
    return held[0] + whole[0] // layers, held[1]


def _held(train: Train, group: SingleModel, rows: int) -> tuple[int, int]:
    """The same without checkpoints thought of: of the part of the objective that holds most."""
    batches = _rows(train, group, rows)
    with _going(train, group):
        return max((_part(one, group, batches) for one in apart(train.objective, batches)), key=sum)


def _part(objective: Term, group: SingleModel, batches: dict[str, Batch]) -> tuple[int, int]:
    weights = {t.untyped_storage().data_ptr() for t in group.modules().state_dict().values()}
    words, seen = _vocabulary(group.modules()), dict[int, tuple[int, bool]]()

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = (storage.nbytes(), tensor.shape[-1:] == (words,))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        group.losses(objective, batches, 0.0)
    read = (batches[name].scored for name in objective.sets)
    answers = sum(int(scored.sum()) for scored in read if scored is not None)
    # beside what is kept: the answers of a teacher, or the slopes, whichever pass is on
    passing = (2 + len(objective.teachers)) * 4 * answers * words
    sizes = list(seen.values())
    return sum(n for n, logits in sizes if not logits), passing + sum(
        n for n, logits in sizes if logits
    )


def _rows(train: Train, group: SingleModel, rows: int) -> dict[str, Batch]:
    device = _device(group.modules())
    found = {}
    for name in train.objective.sets:
        data = group.runs[0].data(name)
        found[name] = data.batch(torch.arange(min(rows, len(data)))).to(device)
    return found


@contextmanager
def _going(train: Train, group: SingleModel) -> Iterator[None]:
    device = _device(group.modules())
    with (
        group.randomness(0),
        activation_checkpointing(group.modules(), train.checkpointing),
        mixed_precision(train.precision, device),
    ):
        yield


def _seconds(
    train: Train, group: SingleModel, problem: Problem, rows: int, processes: int
) -> float:
    """Time of the whole training, from one piece of the longest texts; a few rows go before it."""
    spent = 0.0
    for many in (1, rows):
        start = time.perf_counter()
        batches = _rows(train, group, many)
        moving = [w for w in group.weights.values() if w.requires_grad]
        for part in apart(train.objective, batches):
            with _going(train, group):
                loss = group.losses(part, batches, 0.0)
            if loss.requires_grad:
                torch.autograd.grad(loss.sum(), moving, allow_unused=True)
        if _device(group.modules()).type == "cuda":
            torch.cuda.synchronize()
        spent = time.perf_counter() - start
    sizes = {name: len(problem.data(name)) for name in train.objective.sets}
    steps = course(train, sizes)[2]
    before = sum(sum(term.reads(problem).values()) for term in whole_set_terms(train))
    texts = len(train.objective.sets) * rows
    return spent * (steps * train.accumulate + before / 3 / texts)


def free(device: torch.device) -> int:
    """Bytes that a process can still take: of the accelerator, or of the machine's memory."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    machine = int(lines["MemAvailable"].split()[0]) * 1024
    return min([machine, *_allowed(Path("/sys/fs/cgroup"))])


def _allowed(root: Path) -> Iterator[int]:
    """What a container's limit leaves."""
    for most, now in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        files = root / most, root / now
        if all(file.is_file() for file in files):
            limit, used = (file.read_text().strip() for file in files)
            if limit.isdigit():
                yield max(0, int(limit) - int(used))


@contextmanager
def explain_memory(during: str) -> Iterator[None]:
    """Turn running out of memory into a sentence.

    Raises:
        TooLarge: what can be changed.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as fault:
        said = str(fault)
        short = isinstance(fault, MemoryError | torch.OutOfMemoryError)
        if not short and not any(words in said for words in NO_MEMORY):
            raise
        raise TooLarge(
            f"The memory ran out while {during}. What takes less: a larger --accumulate, --lora 8, "
            "--checkpointing, --bf16, a smaller --batch, or shorter texts."
        ) from None


NO_MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "Cannot allocate")


def _vocabulary(model: Any) -> int:
    return int(model.get_input_embeddings().num_embeddings)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _bytes(tensors: Any) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def size(count: int) -> str:
    """Bytes, in the unit that reads best."""
    return f"{count / GIB:.2f} GiB" if count >= GIB / 10 else f"{count / 2**20:.1f} MiB"


def duration(seconds: float) -> str:
    """A time, roughly."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
