"""The store: every product is a folder that is on disk whole or not at all.

A product is written beside its place and renamed into it, with a digest of each file. The rename
alone keeps processes apart, so many may share a store; a kill leaves a leftover and nothing torn.
There is no fsync: a power cut can tear a file, and then its digest tells. Nothing is removed or
written through a link, and nothing is removed that a store did not make.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from expunge.errors import StoreError

LAYOUT = "expunge store, layout 1"


# What reading a torn product raises; any other refusal, as of too many open files, may pass.
TORN = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


# Seconds after which a draft of another machine or container counts as left behind.
LEASE = 24 * 3600.0


# A draft: the machine's mark, the process and a token; drafts of the first edition have no mark.
DRAFT = re.compile(r"(?:(?P<machine>[0-9a-f]{12})-)?(?P<process>[0-9]+)-[0-9a-f]{32}")


# In bytes: most file systems allow 255, and a report adds its ending.
LONGEST_TITLE = 200


class Corrupt(StoreError):
    """A product whose bytes are not those that were written; it has been set aside."""


@dataclass(frozen=True)
class Job:
    """One product of the store: its kind, specification, seed and inputs.

    Args:
        kind: "problem", "original", "oracle", "shadow", "unlearned", "evidence", "memorisation",
            "score" ...
        spec: all that decides the product and is not in its inputs, in full.
        seed: of the run that makes it.
        inputs: the products that it is made from.
    """

    kind: str
    spec: str
    seed: int = 0
    inputs: tuple[Job, ...] = ()

    @cached_property
    def key(self) -> str:
        """A hash of kind, spec, seed and the inputs' keys."""
        said = [self.kind, self.spec, self.seed, [job.key for job in self.inputs]]
        return hashlib.blake2b(json.dumps(said).encode(), digest_size=16).hexdigest()


class Store:
    """A folder of products, addressed by their jobs.

    Raises:
        StoreError: the folder cannot be made or written, or holds something else.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        with explain_disk(self.root):
            for name in ("tmp", "locks", "reports", "corrupt"):
                _refuse_link(self.root / name)
            marked = self.root / "STORE"
            if not marked.exists() and self.root.exists() and any(self.root.iterdir()):
                raise StoreError(
                    f"{self.root} holds files but is not a store. Give --store an empty or new "
                    "folder, or one that expunge made."
                )
            (self.root / "tmp").mkdir(parents=True, exist_ok=True)
            for name in ("locks", "reports"):
                (self.root / name).mkdir(exist_ok=True)
            if not marked.exists():
                self._place_file(marked, LAYOUT.encode())
            said = marked.read_text(errors="replace")
        if said != LAYOUT:
            raise StoreError(f"{self.root} was written by another version: {said[:80]!r}.")

    def folder(self, job: Job) -> Path:
        """Where a product lies, or would lie."""
        return self.root / job.kind / job.key[:2] / job.key

    def has(self, job: Job) -> bool:
        """Whether the product has been made."""
        return (self.folder(job) / "job.json").exists()

    def write(
        self,
        job: Job,
        tensors: Mapping[str, Mapping[str, Tensor]] | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """Put a product in its place at once; if another process was first, keep the other's.

        Args:
            job: the product.
            tensors: name of a file -> name of a tensor -> the tensor.
            about: anything that JSON can hold, finite numbers only.
        """
        files = {
            f"{name}.safetensors": save_tensors({k: t.contiguous() for k, t in each.items()})
            for name, each in (tensors or {}).items()
        }
        record: dict[str, Any] = {
            "kind": job.kind,
            "spec": job.spec,
            "seed": job.seed,
            "inputs": [each.key for each in job.inputs],
            "digests": {name: _digest(data) for name, data in files.items()},
            "about": dict(about or {}),
        }
        record["digests"]["about"] = _digest(_json(record["about"]))
        files["job.json"] = _json(record)
        if self.folder(job).exists() and not self.has(job):
            self._set_aside(job, "its record is missing")
        with explain_disk(self.root):
            self._place_folder(self.folder(job), files)

    def about(self, job: Job) -> dict[str, Any]:
        """What was written about a product.

        Raises:
            Corrupt: the record cannot be read or was changed.
        """
        try:
            return self._record(job)["about"]
        except (ValueError, KeyError, TypeError, RecursionError, *TORN) as fault:
            raise self._set_aside(job, str(fault)) from None

    def _record(self, job: Job) -> Any:
        """The record of a product, checked to the last byte; the errors are those of `about`.

        Its text must be the one that `write` makes of what it says, its key must follow from its
        kind, spec, seed and inputs, and the rest has digests. This holds for stores of the first
        edition, too, whose records were written alike.
        """
        with explain_disk(self.root, *TORN):
            text = (self.folder(job) / "job.json").read_bytes()
        record = json.loads(text)
        said = [record["kind"], record["spec"], record["seed"], record["inputs"]]
        if _json(record) != text or _digest(json.dumps(said).encode()) != job.key:
            raise ValueError("the record was changed after it was written")
        if record["digests"]["about"] != _digest(_json(record["about"])):
            raise ValueError("the record was changed after it was written")
        return record

    def tensors(self, job: Job, name: str) -> dict[str, Tensor]:
        """The tensors of one file of a product, checked against the digest.

        Raises:
            Corrupt: the file is missing, torn or changed.
        """
        folder = self.folder(job)
        try:
            with explain_disk(self.root, *TORN):
                data = (folder / f"{name}.safetensors").read_bytes()
            digests = self._record(job)["digests"]
            if digests[f"{name}.safetensors"] != _digest(data):
                raise ValueError("its bytes are not those that were written")
            return load_tensors(data)
        except (ValueError, KeyError, TypeError, RecursionError, SafetensorError, *TORN) as fault:
            raise self._set_aside(job, str(fault)) from None

    def name(self, title: str, job: Job) -> None:
        """Let a title stand for a product of one kind; the newest comes last in `names`."""
        # Held while it is read and written: two processes would lose each other's titles.
        with self.claim("titles", wait=True), explain_disk(self.root):
            found = [entry for entry in self._titles() if entry[:2] != [job.kind, title]]
            entries = [*found, [job.kind, title, job.spec]]
            self._place_file(self.root / "titles.json", _json(entries))

    def names(self, kind: str) -> list[str]:
        """The titles of products of one kind, the newest last."""
        return [title for entry, title, _ in self._titles() if entry == kind]

    def named(self, kind: str, title: str) -> dict[str, Any]:
        """What was written about the product of this title."""
        specs = {entry[1]: entry[2] for entry in self._titles() if entry[0] == kind}
        return self.about(Job(kind, specs[title]))

    def _titles(self) -> list[list[str]]:
        try:
            found = json.loads((self.root / "titles.json").read_bytes())
            listed = [[kind, title, spec] for kind, title, spec in found]
        except (OSError, ValueError, TypeError, RecursionError):
            return []  # an index of what is there: without it nothing is lost
        # A title becomes the name of a file: a foreign store's must not lead out of its folder.
        return [
            entry
            for entry in listed
            if all(isinstance(e, str) for e in entry) and is_title(entry[1])
        ]

    @contextmanager
    def claim(self, name: str, wait: bool = False) -> Iterator[bool]:
        """Hold a piece of work so that no other process does it too; False if another holds it.

        The lock is the kernel's: it is gone when its process is, however that ended.
        """
        with explain_disk(self.root):
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
            handle = os.fdopen(os.open(self.root / "locks" / name, flags, 0o666), "w")
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                ours = True
            except BlockingIOError:
                ours = False
            yield ours

    def sweep(self) -> None:
        """Remove the drafts of processes that are no longer there.

        Of a process on this machine the machine knows whether it runs; a draft of another machine
        or container is left for `LEASE` seconds.
        """
        for leftover in (self.root / "tmp").iterdir():
            made = DRAFT.fullmatch(leftover.name)
            if made is None or leftover.is_symlink():
                continue  # a store did not make it
            with suppress(FileNotFoundError):
                waited = time.time() - leftover.stat().st_mtime
                ours = made["machine"] in (None, _machine())
                if _alive(int(made["process"])) if ours else waited < LEASE:
                    continue
                if leftover.is_dir():
                    shutil.rmtree(leftover, ignore_errors=True)
                else:
                    leftover.unlink(missing_ok=True)

    def _set_aside(self, job: Job, why: str) -> Corrupt:
        aside = self.root / "corrupt" / f"{job.kind}-{job.key}-{uuid.uuid4().hex[:8]}"
        with explain_disk(self.root):
            aside.parent.mkdir(exist_ok=True)
            try:
                os.rename(self.folder(job), aside)
            except FileNotFoundError:  # another process was first, or it was never made
                return Corrupt(f"The {job.kind} {job.key} is not in the store {self.root}.")
        return Corrupt(f"The {job.kind} {job.key} was corrupt ({why}); it was moved to {aside}.")

    def _place_folder(self, place: Path, files: Mapping[str, bytes]) -> None:
        for folder in (place.parent.parent, place.parent, place):
            _refuse_link(folder)
        draft = self._draft()
        draft.mkdir()
        try:
            for name, data in files.items():
                (draft / name).write_bytes(data)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.rename(draft, place)
        except OSError as fault:
            shutil.rmtree(draft, ignore_errors=True)
            if fault.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise

    def _draft(self) -> Path:
        return self.root / "tmp" / f"{_machine()}-{os.getpid()}-{uuid.uuid4().hex}"

    def _place_file(self, place: Path, data: bytes) -> None:
        draft = self._draft()
        try:
            draft.write_bytes(data)
            os.replace(draft, place)
        except OSError:
            draft.unlink(missing_ok=True)
            raise


def is_title(title: object) -> bool:
    """Whether a title can be printed, and be the name of a file without leading elsewhere."""
    if not isinstance(title, str) or not title.isprintable() or not title.strip():
        return False
    return "/" not in title and len(title.encode()) <= LONGEST_TITLE


@contextmanager
def explain_disk(root: Path, *let_through: type[OSError]) -> Iterator[None]:
    """Say in a sentence why the operating system refused."""
    try:
        yield
    except let_through:
        raise
    except OSError as fault:
        reasons = {
            errno.ENOSPC: "the disk is full. Free some room and run the same command again",
            errno.EFBIG: "a file grew over the limit that is set for this process",
            errno.EROFS: "it lies on a read-only disk. Give --store another folder",
            errno.EACCES: "this user may not write there. Give --store another folder",
            errno.ENOTDIR: "part of its path is a file. Give --store another folder",
        }
        why = reasons.get(fault.errno or 0, str(fault))
        raise StoreError(f"The store {root} could not be used: {why}. Nothing was lost.") from None


def model_state(tensors: Mapping[str, Tensor], model: torch.nn.Module) -> torch.nn.Module:
    """Load weights that fit exactly into a model, in evaluation mode."""
    model.load_state_dict(dict(tensors), strict=True)
    return model.eval().requires_grad_(False)


def _json(thing: Any) -> bytes:
    return json.dumps(thing, sort_keys=True, allow_nan=False).encode()


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _refuse_link(folder: Path) -> None:
    if folder.is_symlink():
        raise StoreError(
            f"{folder} is a link, and a store writes and removes nothing through a link. Put a "
            "folder in its place, or give --store another folder."
        )


@cache
def _machine() -> str:
    """A mark of this machine, boot and container: process numbers mean something within it."""
    said = [socket.gethostname()]
    for source in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        with suppress(OSError):
            linked = os.path.islink(source)
            said.append(os.readlink(source) if linked else Path(source).read_text("utf-8"))
    return hashlib.blake2b("\n".join(said).encode(), digest_size=6).hexdigest()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
