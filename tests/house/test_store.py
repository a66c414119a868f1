"""A product is on disk whole or not at all, whatever befalls the process, the disk or the bytes."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from house_tools import torn
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.core.store import LEASE, Corrupt, Job, Store
from expunge.errors import StoreError

JOB = Job("original", "Train()", 3)
WEIGHTS = {"model": {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([7])}}
ABOUT = {"seconds": 0.5, "words": ["é", 'quote"']}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def filled(store: Store) -> Path:
    store.write(JOB, WEIGHTS, ABOUT)
    return store.folder(JOB)


def test_what_is_written_is_read(store: Store) -> None:
    assert not store.has(JOB)
    filled(store)
    assert store.has(JOB)
    assert store.about(JOB) == ABOUT
    read = store.tensors(JOB, "model")
    assert all(torch.equal(read[name], WEIGHTS["model"][name]) for name in ("a", "b"))
    assert torn(store.root) == []
    assert list((store.root / "tmp").iterdir()) == []


def test_a_view_of_a_larger_tensor_is_written_alone(store: Store) -> None:
    column = torch.arange(20.0).reshape(4, 5)[:, 2]
    store.write(JOB, {"model": {"a": column}})
    assert torch.equal(store.tensors(JOB, "model")["a"], torch.tensor([2.0, 7.0, 12.0, 17.0]))


@given(st.text(), st.text(), st.integers(), st.booleans())
@settings(deadline=None, derandomize=True)
def test_equal_jobs_alone_share_a_key(kind: str, spec: str, seed: int, deep: bool) -> None:
    inputs = (Job("problem", spec),) if deep else ()
    job = Job(kind, spec, seed, inputs)
    assert job.key == Job(kind, spec, seed, inputs).key
    others = [
        Job(kind + "x", spec, seed, inputs),
        Job(kind, spec + "x", seed, inputs),
        Job(kind, spec, seed + 1, inputs),
        Job(kind, spec, seed, (*inputs, Job("problem", "other"))),
    ]
    assert len({job.key, *(other.key for other in others)}) == 5


def test_a_key_does_not_confuse_its_parts() -> None:
    assert Job("ab", "c").key != Job("a", "bc").key
    one, two = Job("x", "1"), Job("x", "2")
    assert Job("y", "", 0, (one, two)).key != Job("y", "", 0, (two, one)).key


def test_a_key_stays_what_it_is() -> None:
    # Golden: a change here makes every store of every user empty.
    assert Job("a", "b", 1, (Job("c", "d"),)).key == "892a109a1650dd51e9375aef80045782"


def test_the_first_of_two_writers_stays(store: Store) -> None:
    filled(store)
    store.write(JOB, WEIGHTS, {"seconds": 9})
    assert store.about(JOB) == ABOUT
    assert list((store.root / "tmp").iterdir()) == []


DAMAGE: dict[str, Any] = {
    "a bit turned": lambda f: _edited(
        f / "model.safetensors", lambda d: d[:-1] + bytes([d[-1] ^ 1])
    ),
    "truncated": lambda f: _edited(f / "model.safetensors", lambda d: d[:-3]),
    "empty": lambda f: (f / "model.safetensors").write_bytes(b""),
    "missing": lambda f: (f / "model.safetensors").unlink(),
    "longer": lambda f: _edited(f / "model.safetensors", lambda d: d + b"\0"),
    "a folder": lambda f: ((f / "model.safetensors").unlink(), (f / "model.safetensors").mkdir()),
    "garbage for a record": lambda f: (f / "job.json").write_bytes(b"\xff\xfe{"),
    "a deep record": lambda f: (f / "job.json").write_text("[" * 100_000),
    "a list for a record": lambda f: (f / "job.json").write_text("[]"),
    "a record without digests": lambda f: (f / "job.json").write_text('{"about": {}}'),
}
RECORD_DAMAGE = {
    "changed about": lambda f: _changed(f / "job.json", "about", {"seconds": 0.1}),
    "no about": lambda f: _changed(f / "job.json", "about", None),
    "garbage": DAMAGE["garbage for a record"],
    "deep": DAMAGE["a deep record"],
    "missing": lambda f: (f / "job.json").unlink(),
}


def _edited(file: Path, change: Any) -> None:
    file.write_bytes(change(file.read_bytes()))


def _changed(file: Path, key: str, value: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_torn_tensors_are_set_aside_and_made_again(store: Store, damage: Any) -> None:
    other = Job("original", "Train()", 4)
    store.write(other, WEIGHTS, ABOUT)
    damage(filled(store))
    with pytest.raises(Corrupt, match="corrupt") as told:
        store.tensors(JOB, "model")
    aside = list((store.root / "corrupt").iterdir())
    assert len(aside) == 1
    assert str(aside[0]) in str(told.value)
    assert not store.has(JOB)
    assert store.about(other) == ABOUT
    filled(store)
    assert torch.equal(store.tensors(JOB, "model")["a"], WEIGHTS["model"]["a"])


@pytest.mark.parametrize("damage", RECORD_DAMAGE.values(), ids=RECORD_DAMAGE)
def test_a_torn_record_is_set_aside_and_made_again(store: Store, damage: Any) -> None:
    damage(filled(store))
    with pytest.raises(Corrupt, match="corrupt"):
        store.about(JOB)
    assert not store.folder(JOB).exists()
    filled(store)
    assert store.about(JOB) == ABOUT


def test_a_product_whose_record_is_missing_is_written_again(store: Store) -> None:
    (filled(store) / "job.json").unlink()
    assert not store.has(JOB)
    filled(store)
    assert store.about(JOB) == ABOUT
    assert len(list((store.root / "corrupt").iterdir())) == 1


def test_what_was_never_made_is_not_said_to_have_been_moved(store: Store) -> None:
    with pytest.raises(Corrupt, match="is not in the store"):
        store.about(JOB)


def test_too_many_open_files_is_no_reason_to_set_a_product_aside(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(store)

    def refuse(self: Path) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)
        for read in (lambda: store.about(JOB), lambda: store.tensors(JOB, "model")):
            with pytest.raises(StoreError, match="Too many open files"):
                read()
    assert store.about(JOB) == ABOUT


def test_a_folder_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(StoreError, match="holds files but is not a store"):
        Store(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_empty_folder_becomes_a_store_and_opens_again(tmp_path: Path) -> None:
    Store(tmp_path).write(JOB, WEIGHTS, ABOUT)
    assert Store(tmp_path).about(JOB) == ABOUT


@pytest.mark.parametrize("said", [b"expunge store, layout 0", b"", b"\xff\xfe", b"\x1b[31m"])
def test_a_store_of_another_version_is_refused_in_a_sentence(tmp_path: Path, said: bytes) -> None:
    (tmp_path / "STORE").write_bytes(said)
    with pytest.raises(StoreError, match="another version") as told:
        Store(tmp_path)
    assert "\x1b" not in str(told.value)


@pytest.mark.parametrize("name", ["file", "file/below", "file/deep/below"])
def test_a_store_under_a_file_is_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreError, match="part of its path is a file"):
        Store(tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_store_where_the_marker_is_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "STORE").mkdir()
    with pytest.raises(StoreError, match="could not be used"):
        Store(tmp_path)


def test_a_path_that_no_disk_takes_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="could not be used"):
        Store(tmp_path / ("x" * 300))


def test_the_kernels_own_files_cannot_hold_a_store() -> None:
    # /proc is read-only for everybody, root too, whom permissions do not bind.
    with pytest.raises(StoreError, match="could not be used"):
        Store("/proc/self/store")


REFUSALS = {
    errno.ENOSPC: "the disk is full",
    errno.EROFS: "read-only disk",
    errno.EACCES: "may not write",
    errno.EIO: "Input/output error",
}


@pytest.mark.parametrize("number", REFUSALS)
@pytest.mark.parametrize("where", ["write", "second write", "rename"])
def test_a_refused_write_leaves_nothing_behind(
    store: Store, monkeypatch: pytest.MonkeyPatch, number: int, where: str
) -> None:
    calls = []
    really = Path.write_bytes

    def refuse_write(self: Path, data: bytes) -> int:
        calls.append(self)
        if where == "write" or len(calls) == 2:
            really(self, data[: len(data) // 2])
            raise OSError(number, os.strerror(number))
        return really(self, data)

    def refuse_rename(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        if where == "rename":
            patch.setattr(os, "rename", refuse_rename)
        else:
            patch.setattr(Path, "write_bytes", refuse_write)
        with pytest.raises(StoreError, match=REFUSALS[number]):
            filled(store)
    assert not store.has(JOB)
    assert list((store.root / "tmp").iterdir()) == []
    assert torn(store.root) == []
    filled(store)
    assert store.about(JOB) == ABOUT


def test_a_limit_on_the_size_of_files_is_told_and_leaves_nothing(store: Store) -> None:
    # For real: the kernel refuses, and Python has the signal that goes with it ignored.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(StoreError, match="over the limit"):
            store.write(JOB, {"model": {"a": torch.zeros(100_000)}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((store.root / "tmp").iterdir()) == []
    assert torn(store.root) == []
    filled(store)
    assert store.has(JOB)


def test_numbers_that_json_lacks_are_refused_before_anything_is_written(store: Store) -> None:
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            store.write(JOB, WEIGHTS, {"value": value})
    assert not store.has(JOB)
    assert list((store.root / "tmp").iterdir()) == []


def _dead_process() -> int:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    return gone.pid


def test_only_what_the_dead_left_is_swept(store: Store) -> None:
    dead, tmp, mine = _dead_process(), store.root / "tmp", store._draft().name
    machine, token = mine.partition("-")[0], "0" * 32
    kept = [mine, f"{os.getpid()}-{token}", f"{'f' * 12}-{dead}-{token}", "no-draft", f"{dead}-my"]
    gone = [f"{machine}-{dead}-{token}", f"{dead}-{token}", f"{'e' * 12}-{os.getpid()}-{token}"]
    for name in kept + gone:
        (tmp / name).mkdir()
        (tmp / name / "model.safetensors").write_text("half")
    long_ago = time.time() - 2 * LEASE
    os.utime(tmp / gone[2], (long_ago, long_ago))  # another machine's, past its lease
    (tmp / f"{machine}-{dead}-{'1' * 32}").write_text("half")
    store.sweep()
    assert sorted(each.name for each in tmp.iterdir()) == sorted(kept)


@pytest.mark.parametrize("name", ["tmp", "locks", "reports", "corrupt"])
def test_a_store_removes_and_writes_nothing_through_a_link(tmp_path: Path, name: str) -> None:
    store, mine = Store(tmp_path / "store"), tmp_path / "mine"
    mine.mkdir()
    (mine / f"{_dead_process()}-{'0' * 32}").write_text("thesis")
    if (store.root / name).exists():
        (store.root / name).rmdir() if name != "locks" else shutil.rmtree(store.root / name)
    (store.root / name).symlink_to(mine)
    with pytest.raises(StoreError, match=f"{name} is a link, and a store writes and removes"):
        Store(store.root)
    assert [file.read_text() for file in mine.iterdir()] == ["thesis"]


def test_a_draft_that_is_a_link_and_a_lock_that_is_a_link_are_left_alone(store: Store) -> None:
    mine = store.root.parent / "mine"
    mine.write_text("thesis")
    (store.root / "tmp" / f"{_dead_process()}-{'0' * 32}").symlink_to(mine)
    (store.root / "locks" / "work").symlink_to(mine)
    store.sweep()
    with pytest.raises(StoreError), store.claim("work"):
        pass
    assert mine.read_text() == "thesis"


def test_a_product_is_not_written_through_a_link(store: Store) -> None:
    elsewhere = store.root.parent / "elsewhere"
    elsewhere.mkdir()
    (store.root / JOB.kind).symlink_to(elsewhere)
    with pytest.raises(StoreError, match="is a link"):
        store.write(JOB, WEIGHTS, ABOUT)
    assert list(elsewhere.iterdir()) == []


def test_no_flipped_byte_of_a_record_is_used_in_silence(store: Store) -> None:
    store.write(JOB, WEIGHTS, ABOUT)
    path = store.folder(JOB) / "job.json"
    text = path.read_bytes()
    for place in range(len(text)):
        store.folder(JOB).mkdir(parents=True, exist_ok=True)
        path.write_bytes(text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :])
        (store.folder(JOB) / "model.safetensors").write_bytes(b"")
        # of the digest of another file, reading that file tells
        try:
            assert store.about(JOB) == ABOUT
        except Corrupt:
            continue
        with pytest.raises(Corrupt):
            store.tensors(JOB, "model")


def test_a_product_of_another_job_is_set_aside_and_made_again(store: Store) -> None:
    other = Job("original", "Train(epochs=9)", 3)
    store.write(other, WEIGHTS, {"of": "another"})
    store.folder(JOB).parent.mkdir(parents=True, exist_ok=True)
    os.rename(store.folder(other), store.folder(JOB))
    with pytest.raises(Corrupt, match="moved to"):
        store.about(JOB)
    store.write(JOB, WEIGHTS, ABOUT)
    assert store.about(JOB) == ABOUT
