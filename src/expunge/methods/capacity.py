"""What training a language model takes on this machine: memory by its parts, and time.

Nothing is estimated from formulas of an architecture. The longest texts go through the very model
once, and what autograd keeps for the backward pass is counted; it grows with the rows of a
micro-batch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from expunge.core.batch import Batch, Data, Joined, Subset
from expunge.core.method import Method, words_of
from expunge.core.schedules import SGD
from expunge.core.selector import Everything
from expunge.core.term import Term
from expunge.engine.check import whole_set_terms
from expunge.engine.loop import SingleModel, course
from expunge.engine.memory import activation_checkpointing, apart, mixed_precision
from expunge.engine.run import Run, adapter_alone, compares, sharing
from expunge.engine.training import Train
from expunge.errors import TooLarge
from expunge.methods.cost import FORWARD_ALONE, bytes_in_words, time_in_words
from expunge.methods.selectors.places import Named
from expunge.methods.steps.adapter import Adapter, LoRA

if TYPE_CHECKING:
    from expunge.core.problem import Problem


@dataclass(frozen=True)
class Capacity:
    """Memory of one run at its height, in bytes, and its time.

    Args:
        weights: the model, which is in memory already.
        second: a copy of the original to compare with.
        gradients, optimiser: of the weights that move.
        activations: what the backward pass of the largest micro-batch needs, logits left out.
        logits: the same of the logits at scored tokens, and their gradients.
        free: what the machine has left, the model being in memory.
        rows: texts of each set in a micro-batch.
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
        parts = {
            "a second model": self.second,
            "gradients": self.gradients,
            "the optimiser's memory": self.optimiser,
            "activations": self.activations,
            "logits": self.logits,
        }
        listed = ", ".join(f"{what} {bytes_in_words(count)}" for what, count in parts.items())
        times = f" in each of {self.processes} processes" if self.processes > 1 else ""
        memory = (
            f"Memory beside the model ({bytes_in_words(self.weights)}): about "
            f"{bytes_in_words(self.needed)} ({listed}{times}); {bytes_in_words(self.free)} are "
            "free."
        )
        return f"{memory} Time: about {time_in_words(self.seconds)}." if self.seconds else memory

    def check(self) -> None:
        """Refuse what does not fit.

        Raises:
            TooLarge: with the numbers, and what would take less.
        """
        if self.needed <= self.free:
            return
        passing = self.processes * (self.activations + self.logits)
        single = self.needed - passing + passing / self.rows
        adapter = passing + self.weights * (self.processes - 1)
        raise TooLarge(
            f"{self} What takes less: one text at a time, --accumulate as large as --batch (about "
            f"{bytes_in_words(int(single))}); an adapter, --lora 8 (about "
            f"{bytes_in_words(adapter)}); --checkpointing; --bf16; a smaller --batch; shorter "
            "texts."
        )


def capacity(
    model: nn.Module, method: Method, problem: Problem, *, seed: int = 0, processes: int = 1
) -> Capacity:
    """Measure what a run of `unlearn(..., in_place=True)` will take, on the model itself.

    The model is left as it is. Steps that do not train are not counted.

    Args:
        model: a language model of transformers, where it will be trained.
        method: any.
        problem: with texts.
        seed: of the run.
        processes: that will train together.

    Raises:
        TooLarge: it cannot fit, so that not even one micro-batch is tried.
    """
    second = _bytes(model.parameters()) if compares(method) and not adapter_alone(method) else 0
    idle = Capacity(
        _bytes(model.parameters()), second, 0, 0, 0, 0, free(_device(model)), 1, processes
    )
    found = [
        _of_training(idle, model, train, lora, problem, seed) for train, lora in _trainings(method)
    ]
    if not found:
        return replace(idle, processes=1)
    largest = max(found, key=lambda one: one.needed)
    return replace(largest, seconds=sum(one.seconds for one in found))


def free(device: torch.device) -> int:
    """Return the bytes that a process can still take: of the accelerator, or of main memory."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    machine = int(lines["MemAvailable"].split()[0]) * 1024
    return min([machine, *_left_in_container(Path("/sys/fs/cgroup"))])


NO_MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "Cannot allocate")


@contextmanager
def explain_memory(during: str) -> Iterator[None]:
    """Turn running out of memory in the block into a sentence.

    Raises:
        TooLarge: what can be changed.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as fault:
        short = isinstance(fault, MemoryError | torch.OutOfMemoryError)
        if not short and not any(words in str(fault) for words in NO_MEMORY):
            raise
        raise TooLarge(
            f"The memory ran out while {during}. What takes less: a larger --accumulate, --lora 8, "
            "--checkpointing, --bf16, a smaller --batch, or shorter texts."
        ) from None


def _trainings(method: Method) -> list[tuple[Train, LoRA | None]]:
    """Every training of a method, and the adapter that it is on."""
    inside = {
        id(word): lora
        for lora in words_of(method.steps)
        if isinstance(lora, LoRA)
        for word in words_of(lora.steps)
    }
    words = [word for word in words_of(method.steps) if isinstance(word, Train)]
    return [(word, inside.get(id(word))) for word in words]


def _of_training(
    idle: Capacity, model: nn.Module, train: Train, lora: LoRA | None, problem: Problem, seed: int
) -> Capacity:
    """What one training takes; what does not fit is refused before a micro-batch is tried."""
    rows = math.ceil(train.batch / (train.accumulate * idle.processes))
    group = _probe(model, train, lora, _longest(problem, train, rows), seed)
    moving = _bytes(w for w in group.weights.values() if w.requires_grad)
    states = 2 if not isinstance(train.optimiser, SGD) else int(train.optimiser.momentum > 0)
    found = replace(idle, gradients=moving, optimiser=states * moving, rows=rows)
    found.check()
    activations, logits = _saved(train, group)
    found = replace(found, activations=rows * activations, logits=rows * logits)
    found.check()
    return replace(found, seconds=_seconds(train, group, problem, rows))


def _longest(problem: Problem, train: Train, rows: int) -> Problem:
    """The problem with the longest texts alone of every set that a training reads."""
    chosen = {}
    for name in train.objective.sets:
        data = problem.data(name)
        chosen[name] = Subset(data, _lengths(data).argsort(descending=True)[:rows])
    return replace(problem, sets={**problem.sets, **chosen})


def _lengths(data: Data) -> Tensor:
    """Tokens of each text of a set, int64 [n]; of two sets, one after the other."""
    if isinstance(data, Joined):
        return torch.cat([_lengths(data.first), _lengths(data.second)])
    if isinstance(data, Subset):
        return _lengths(data.base)[data.index]
    return data.token_counts()  # type: ignore[attr-defined]


def _probe(
    model: nn.Module, train: Train, lora: LoRA | None, problem: Problem, seed: int
) -> SingleModel:
    """A group over the model's own weights, whose gradients are not theirs."""
    run = Run(sharing(model).requires_grad_(True), sharing(model), problem, seed, "forecast")
    if lora:
        lora._adapted(run)
    group = Adapter(run) if lora else SingleModel(run)
    cheap = isinstance(train.where, Everything | Named)
    group.begin(train if cheap else replace(train, where=Everything(), slowed=None))
    return group


def _saved(train: Train, group: SingleModel) -> tuple[int, int]:
    """Bytes of one row that are alive between the passes: activations, and logits."""
    activations, logits = _saved_in_part(train, group)
    if not train.checkpointing:
        return activations, logits
    whole, _ = _saved_in_part(replace(train, checkpointing=False), group)
    layers = int(getattr(getattr(group.modules(), "config", None), "num_hidden_layers", 1) or 1)
    return activations + whole // layers, logits


def _saved_in_part(train: Train, group: SingleModel) -> tuple[int, int]:
    """The same of the part of the objective that keeps most, if no layer is computed again."""
    batches = _first_rows(train, group, 1)
    with _training_mode(train, group):
        parts = apart(train.objective, batches)
        return max((_saved_by(part, group, batches) for part in parts), key=sum)


def _saved_by(objective: Term, group: SingleModel, batches: dict[str, Batch]) -> tuple[int, int]:
    weights = {t.untyped_storage().data_ptr() for t in group.modules().state_dict().values()}
    model: Any = group.modules()
    vocabulary = int(model.get_input_embeddings().num_embeddings)
    seen: dict[int, tuple[int, bool]] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = (storage.nbytes(), tensor.shape[-1:] == (vocabulary,))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        group.losses(objective, batches, 0.0)
    read = (batches[name].scored for name in objective.sets)
    tokens = sum(int(scored.sum()) for scored in read if scored is not None)
    # beside what is kept: the logits of a teacher, or the gradients, whichever pass is on
    passing = (2 + len(objective.teachers)) * 4 * tokens * vocabulary
    activations = sum(size for size, logits in seen.values() if not logits)
    return activations, passing + sum(size for size, logits in seen.values() if logits)


def _first_rows(train: Train, group: SingleModel, rows: int) -> dict[str, Batch]:
    found = {}
    for name in train.objective.sets:
        data = group.runs[0].data(name)
        found[name] = data.batch(torch.arange(min(rows, len(data)))).to(_device(group.modules()))
    return found


@contextmanager
def _training_mode(train: Train, group: SingleModel) -> Iterator[None]:
    with (
        group.randomness(0),
        activation_checkpointing(group.modules(), train.checkpointing),
        mixed_precision(train.precision, _device(group.modules())),
    ):
        yield


def _seconds(train: Train, group: SingleModel, problem: Problem, rows: int) -> float:
    """Time of the whole training, from one micro-batch of the longest texts.

    The first one, of a single row, only warms up. Sets that are read whole go forward alone.
    """
    spent = 0.0
    for many in (1, rows):
        start = time.perf_counter()
        batches = _first_rows(train, group, many)
        moving = [w for w in group.weights.values() if w.requires_grad]
        for part in apart(train.objective, batches):
            with _training_mode(train, group):
                loss = group.losses(part, batches, 0.0)
            if loss.requires_grad:
                torch.autograd.grad(loss.sum(), moving, allow_unused=True)
        if _device(group.modules()).type == "cuda":
            torch.cuda.synchronize()
        spent = time.perf_counter() - start
    steps = course(train, {name: len(problem.data(name)) for name in train.objective.sets})[2]
    before = sum(term.reads(problem).total() for term in whole_set_terms(train))
    texts = len(train.objective.sets) * rows
    return spent * (steps * train.accumulate + FORWARD_ALONE * before / texts)


def _left_in_container(root: Path) -> Iterator[int]:
    """Bytes that a container's limit leaves, for both versions of control groups."""
    for most, now in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        files = root / most, root / now
        if all(file.is_file() for file in files):
            limit, used = (file.read_text().strip() for file in files)
            if limit.isdigit():
                yield max(0, int(limit) - int(used))


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)
