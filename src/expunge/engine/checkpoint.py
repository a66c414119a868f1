"""Checkpoint and resume an unlearning run.

A checkpoint holds the weights that training changes, the optimisers' states, the random stream and
the place in the sentence, as safetensors and JSON. It is written beside the last one and renamed
into its place, so that it is there whole or not at all. What follows from the sentence and the seed
alone (orders, masks, references of the original) is computed again, the same bit for bit.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from expunge.core.batch import Batch, Data, Tokens
from expunge.core.method import Method, Step
from expunge.core.vocabulary import in_full
from expunge.engine.loop import TrainingSettings, optimiser_place
from expunge.engine.training import Plan, unrolled
from expunge.errors import Diverged, StoreError

if TYPE_CHECKING:
    from expunge.core.run import RunProtocol
    from expunge.engine.loop import ModelGroup


LAYOUT = "expunge checkpoint, layout 2"


# Of the first edition, without digests: read as it is.
FIRST_LAYOUT = "expunge checkpoint, layout 1"


Identity = dict[str, str]


class Checkpointer:
    """Writes checkpoints of one run to a folder, and resumes the run from the newest one.

    Args:
        folder: holds the newest checkpoint and nothing else; made when the first one is due.
        every: seconds between two checkpoints; 0 writes one before each minibatch.
        writes: whether this process writes; of several that train together, one does.
    """

    def __init__(self, folder: str | Path, *, every: float = 600.0, writes: bool = True) -> None:
        self.folder, self.every, self.writes = Path(folder), every, writes
        self.identity: Identity = {}
        self.place: dict[str, Any] = {}
        self.tensors: dict[str, Tensor] = {}
        self.plan: Plan = []
        self.outer: dict[str, torch.optim.Optimizer] = {}
        self.step, self.number, self.able = 0, -1, False
        self.last = time.monotonic()
        self.begun = clocks()

    def open(self, run: RunProtocol, method: Method, processes: int = 1) -> None:
        """Read the newest checkpoint of this run, if there is one.

        Raises:
            StoreError: the folder holds another run's checkpoint, or something else.
        """
        self.identity = identity(run, method, processes)
        self.plan, self.outer = unrolled(method.steps, seed=run.seed), run.optimisers
        newest = self._newest()
        if newest is None:
            return
        self.place, self.tensors = read(newest)
        refuse_another(self.folder, self.place["asked"], self.identity)

    # What the training loop asks

    def already_done(self, run: RunProtocol, number: int, step: Step) -> bool:
        """Whether the checkpoint was written after this step of the sentence was finished."""
        self.step, self.number = number, -1
        before = [one for _, _, one in self.plan[:number]]
        settled = all(one.settled or one.resumable(run.seed) for one in before)
        self.able = settled and step.resumable(run.seed)
        return bool(self.place) and number < self.place["step"]

    def resumed_progress(
        self, group: ModelGroup, train: TrainingSettings, total: int
    ) -> tuple[int, Tensor]:
        """Minibatches done before the checkpoint, and their epoch's summed losses, [1]."""
        self.number += 1
        fresh = torch.zeros(1)
        if not self.place:
            return 0, fresh
        if not self.place.get("weights are back"):
            copy_weights(group.runs[0].model, self.tensors)
            self.place["weights are back"] = True
        # a later step of a `Repeat` goes on with the optimiser of its turn before
        self._optimiser(group, train)
        if not self.able or self.step > self.place["step"]:
            return 0, fresh
        if self.number != self.place["number"]:
            return (total if self.number < self.place["number"] else 0), fresh
        return self.place["done"], self.tensors["summed"].clone()

    def save_if_due(self, group: ModelGroup, done: int, summed: Tensor) -> None:
        """Restore the counts and the random stream where the checkpoint is, or write one if due."""
        at = (self.step, self.number, done)
        if self.place and at == tuple(self.place[n] for n in ("step", "number", "done")):
            self._restore(group.runs[0])
        elif self.able and self.writes and time.monotonic() - self.last >= self.every:
            self._save(group, done, summed)

    def _optimiser(self, group: ModelGroup, train: TrainingSettings) -> None:
        """Make the optimiser of this place with the state that it had."""
        place = optimiser_place(group.runs[0].place)
        prefix = f"optimiser{place}:"
        mine = {n[len(prefix) :]: t for n, t in self.tensors.items() if n.startswith(prefix)}
        if place in group.optimisers or not mine:
            return
        # once: an adapter that a later turn makes again begins without a state
        self.tensors = {n: t for n, t in self.tensors.items() if not n.startswith(prefix)}
        made = group.optimiser(train)
        fresh = made.state_dict()
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in mine.items():
            number, _, key = name.partition(".")
            state.setdefault(int(number), {})[key] = tensor.clone()
        made.load_state_dict({**fresh, "state": state})

    def _restore(self, run: RunProtocol) -> None:
        kept = self.place["ledger"]
        run.counts.examples.clear()
        run.counts.examples |= kept["examples"]
        run.counts.curve[:] = [(at, number, loss) for at, number, loss in kept["curve"]]
        run.counts.earlier = (self.place["spent"][0], self.place["spent"][1])
        torch.set_rng_state(self.tensors["random"])
        if "random.cuda" in self.tensors:
            torch.cuda.set_rng_state(self.tensors["random.cuda"])

    def _save(self, group: ModelGroup, done: int, summed: Tensor) -> None:
        run = group.runs[0]
        kept = {"random": torch.get_rng_state(), "summed": summed.clone()}
        if next(run.model.parameters()).is_cuda:
            kept["random.cuda"] = torch.cuda.get_rng_state()
        waiting = {n: t for n, t in self.tensors.items() if n.startswith("optimiser")}
        kept |= changed(run) | waiting | optimiser_states({**self.outer, **group.optimisers})
        place = {
            "layout": LAYOUT,
            "asked": self.identity,
            "step": self.step,
            "number": self.number,
            "done": done,
            "spent": [
                before + now - then
                for before, now, then in zip(run.counts.earlier, clocks(), self.begun, strict=True)
            ],
            "ledger": {"examples": run.counts.examples, "curve": run.counts.curve},
        }
        refuse_infinite(run)
        with explain_disk(self.folder):
            write(self.folder, kept, place)
        self.last = time.monotonic()

    def _newest(self) -> Path | None:
        found = sorted(path for path in self.folder.glob("at-*") if path.is_dir())
        if not found and self.folder.exists() and any(self.folder.iterdir()):
            others = [
                p.name for p in self.folder.iterdir() if not p.name.startswith(("draft-", "lock"))
            ]
            if others:
                raise StoreError(
                    f"{self.folder} holds {others[0]}, which is no checkpoint. Choose another "
                    "folder to write, or move it away."
                )
        return found[-1] if found else None

    def finish(self) -> None:
        """Remove the checkpoint, once the result is written."""
        if self.writes:
            shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Lock the folder, so that no second command works on the same run.

        Raises:
            StoreError: another command works on it.
        """
        with explain_disk(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = open(self.folder / "lock", "w")  # noqa: SIM115
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StoreError(
                    f"Another command is at work on the same run, with its checkpoints in "
                    f"{self.folder}. Wait for it, or write to another folder."
                ) from None
            try:
                yield
            finally:
                if not any(self.folder.glob("at-*")):
                    shutil.rmtree(self.folder, ignore_errors=True)


def clocks() -> tuple[float, float]:
    """Seconds of wall-clock time, and of processor time."""
    return time.perf_counter(), time.process_time()


def changed(run: RunProtocol) -> dict[str, Tensor]:
    """Weights and buffers that are the run's own, without those it shares with the original."""
    shared = set()
    if run.original is not run.model:
        shared = {t.data_ptr() for t in run.original.state_dict().values()}
    state = run.model.state_dict()
    own = {f"model:{n}": t for n, t in state.items() if t.data_ptr() not in shared}
    # tied weights are one tensor under two names, which the file holds once
    seen: dict[int, str] = {}
    return {n: t for n, t in own.items() if seen.setdefault(t.data_ptr(), n) == n}


def optimiser_states(memory: Mapping[str, torch.optim.Optimizer]) -> dict[str, Tensor]:
    """The state of every optimiser, by place in the sentence."""
    return {
        f"optimiser{place}:{number}.{key}": tensor
        for place, optimiser in memory.items()
        for number, each in optimiser.state_dict()["state"].items()
        for key, tensor in each.items()
        if isinstance(tensor, Tensor)
    }


@torch.no_grad()
def copy_weights(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy a checkpoint's weights and buffers into a model."""
    state = model.state_dict()
    for name, tensor in tensors.items():
        head, _, rest = name.partition(":")
        if head == "model":
            state[rest].copy_(tensor)


def refuse_infinite(run: RunProtocol) -> None:
    """Refuse losses that JSON cannot hold and from which no run can go on."""
    if any(not -1e300 < loss < 1e300 for _, _, loss in run.counts.curve):
        raise Diverged("A loss is infinite or not a number; no checkpoint was written.")


def write(folder: Path, tensors: Mapping[str, Tensor], place: Mapping[str, Any]) -> None:
    """Write a whole checkpoint, then remove the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    before = sorted(folder.glob("at-*"))
    for leftover in folder.glob("draft-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    number = 1 + int(before[-1].name.removeprefix("at-")) if before else 1
    draft = folder / f"draft-{number:06}"
    try:
        draft.mkdir()
        save_file({n: t.detach().cpu().contiguous() for n, t in tensors.items()}, draft / "tensors")
        digest = _digest(draft / "tensors", place)
        (draft / "place.json").write_text(_json({**place, "digest": digest}), "utf-8")
        for name in ("tensors", "place.json"):
            with open(draft / name, "rb") as file:
                os.fsync(file.fileno())
        os.rename(draft, folder / f"at-{number:06}")
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    for path in before:
        shutil.rmtree(path, ignore_errors=True)


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a checkpoint: its place and its tensors.

    Raises:
        StoreError: it cannot be read.
    """
    try:
        text = (path / "place.json").read_text("utf-8")
        place = json.loads(text)
        digest, first = place.pop("digest", None), place["layout"] == FIRST_LAYOUT
        if place["layout"] != LAYOUT and not (first and digest is None):
            raise ValueError(f"it is of layout {place['layout']!r}")
        same = text == _json({**place, "digest": digest})
        if not first and not (same and digest == _digest(path / "tensors", place)):
            raise ValueError("its bytes are not those that were written")
        with safe_open(path / "tensors", "pt") as file:
            return place, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as fault:
        raise StoreError(
            f"The checkpoint {path} cannot be read ({fault}). Remove {path.parent} to start again."
        ) from None


def _json(place: Mapping[str, Any]) -> str:
    return json.dumps(place, allow_nan=False)


def _digest(tensors: Path, place: Mapping[str, Any]) -> str:
    """A hash of both files of a checkpoint; the larger one is read in pieces."""
    with open(tensors, "rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
    found.update(_json(place).encode())
    return found.hexdigest()


def identity(run: RunProtocol, method: Method, processes: int) -> Identity:
    """Everything that decides a run's result, bit for bit: name -> a sentence or a digest."""
    device = next(run.model.parameters()).device.type
    sets = {f"the {name} set": digest_of_data(run.data(name)) for name in method.sets}
    return {
        "method": in_full(method.steps),
        "seed": str(run.seed),
        "model": digest_of_model(run.model),
        **sets,
        "processes": str(processes),
        "machine": f"{device}, torch {torch.__version__}, {torch.get_num_threads()} threads",
    }


def refuse_another(folder: Path, before: Identity, now: Identity) -> None:
    """Refuse to resume a run that was started differently.

    Raises:
        StoreError: naming what differs.
    """
    other = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if not other:
        return
    what = ", ".join(f"another {name.removeprefix('the ')}" for name in other)
    short = [name for name in other if len(now.get(name, "")) < 80 and name in before]
    was = "; ".join(f"{name}: {before[name]}" for name in short if name in ("seed", "machine"))
    raise StoreError(
        f"{folder} holds a run that was started with {what}{f' ({was})' if was else ''}. Run the "
        f"command that it was started with to resume it, or remove {folder} to start again."
    )


def digest_of_model(model: nn.Module) -> str:
    """Hash all weights and buffers of a model, by name."""
    found = hashlib.blake2b(digest_size=16)
    for name, tensor in model.state_dict().items():
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        _add(found, tensor)
    return found.hexdigest()


def digest_of_data(data: Data) -> str:
    """Hash all examples of a set, in order."""
    found = hashlib.blake2b(digest_size=16)
    for rows in torch.arange(len(data)).split(256):
        for part in parts_of(data.batch(rows)):
            found.update(str(tuple(part.shape)).encode())
            _add(found, part)
    return found.hexdigest()


def parts_of(batch: Batch) -> Iterator[Tensor]:
    """The tensors of a minibatch, those of other answers too."""
    if isinstance(batch, Tokens):
        yield from (batch.inputs, batch.mask, batch.labels)
        yield from parts_of(batch.instead) if batch.instead else ()
    else:
        yield from (batch.inputs, batch.targets)
    yield batch.index


def _add(found: Any, tensor: Tensor) -> None:
    flat = tensor.detach().cpu().contiguous().flatten()
    if flat.numel():
        found.update(flat.view(torch.uint8).numpy())


@contextmanager
def explain_disk(folder: Path) -> Iterator[None]:
    """Say in a sentence why the disk refused a checkpoint."""
    try:
        yield
    except (OSError, SafetensorError) as fault:
        full = getattr(fault, "errno", None) == errno.ENOSPC or "No space" in str(fault)
        why = "the disk is full; free some room" if full else f"{fault}"
        raise StoreError(
            f"A checkpoint could not be written to {folder}: {why}. The one before, if there is "
            "any, is unharmed: run the same command to resume from it."
        ) from None
