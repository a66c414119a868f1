"""Many processes share a store: claims, titles, and writers of one product."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from house_tools import environment, products, torn

from expunge.core.store import Job, Store
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


def test_threads_that_write_one_product_all_end_well(store: Store) -> None:
    together = threading.Barrier(8)

    def one(number: int) -> None:
        together.wait()
        store.write(JOB, WEIGHTS, {"by": number})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(8)))
    assert store.about(JOB)["by"] in range(8)
    assert torn(store.root) == []
    assert list((store.root / "tmp").iterdir()) == []


def _write_many(root: Path, number: int) -> None:
    own = Store(root)
    for seed in range(40):
        job = Job("original", "x", seed)
        own.write(job, {"model": {"a": torch.full((50,), float(seed))}}, {"by": number})
        own.name(f"by {number} {seed}", job)


@pytest.mark.slow
def test_processes_that_write_the_same_products_all_end_well(store: Store) -> None:
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_write_many, args=(store.root, n)) for n in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len(products(store.root)) == 40
    assert torn(store.root) == []
    for seed in range(40):
        read = store.tensors(Job("original", "x", seed), "model")["a"]
        assert torch.equal(read, torch.full((50,), float(seed)))
    # No title of one process was lost to the other.
    assert sorted(store.names("original")) == sorted(
        f"by {n} {s}" for n in (0, 1) for s in range(40)
    )


def test_titles_written_by_many_threads_are_all_kept(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: store.name(f"title {n}", JOB), range(40)))
    assert sorted(store.names("original")) == sorted(f"title {n}" for n in range(40))


def test_the_newest_title_comes_last(store: Store) -> None:
    for title in ("first", "second", "first"):
        store.name(title, JOB)
    assert store.names("original") == ["second", "first"]
    assert store.names("summary") == []


@pytest.mark.parametrize("where", ["write_bytes", "replace"])
def test_a_refused_title_keeps_the_old_ones(
    store: Store, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    store.name("old", JOB)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(Path if where == "write_bytes" else os, where, refuse)
        with pytest.raises(StoreError, match="disk is full"):
            store.name("new", JOB)
    assert store.names("original") == ["old"]
    assert list((store.root / "tmp").iterdir()) == []


HOSTILE = ["../out", "a/b", "/etc/x", "", "  ", "\x1b[31mred", "line\nfeed", "‮evil", "x" * 300]


@pytest.mark.parametrize("title", HOSTILE)
def test_a_foreign_title_that_leads_elsewhere_is_not_listed(store: Store, title: str) -> None:
    entries = [["summary", title, "spec"], ["summary", "good", "spec"]]
    (store.root / "titles.json").write_text(json.dumps(entries))
    assert store.names("summary") == ["good"]


@pytest.mark.parametrize(
    "text", ["", "{", "3", "[1]", "[[1, 2]]", "[[1, 2, 3]]", '"x"', "[" * 99_999]
)
def test_a_garbage_index_is_an_empty_one(store: Store, text: str) -> None:
    (store.root / "titles.json").write_text(text)
    assert store.names("summary") == []
    store.name("new", JOB)
    assert store.names("original") == ["new"]


def test_a_claim_keeps_others_out_and_ends(store: Store) -> None:
    with store.claim("work") as mine:
        assert mine
        with store.claim("work") as other:
            assert not other
        with store.claim("other work") as free:
            assert free
    with store.claim("work") as again:
        assert again


def test_a_claim_is_free_after_an_error_and_the_error_is_its_own(store: Store) -> None:
    # A missing picture is not to be told as a store that could not be used.
    with pytest.raises(FileNotFoundError, match="picture"), store.claim("work"):
        raise FileNotFoundError("picture.png")
    with store.claim("work") as again:
        assert again


HOLDER = """
import sys, time
from expunge.core.store import Store
with Store(sys.argv[1]).claim("work") as mine:
    print(mine, flush=True)
    time.sleep(60)
"""


def test_a_claim_of_a_killed_process_is_free(store: Store) -> None:
    command = [sys.executable, "-c", HOLDER, str(store.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        with store.claim("work") as mine:
            assert not mine
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with store.claim("work") as mine:
            assert mine


def test_one_who_waits_is_let_in_when_the_holder_ends(store: Store) -> None:
    order = []

    def waits() -> None:
        with store.claim("work", wait=True) as mine:
            order.append(("second", mine))

    with store.claim("work"):
        thread = threading.Thread(target=waits)
        thread.start()
        thread.join(0.2)
        order.append(("first", True))
    thread.join()
    assert order == [("first", True), ("second", True)]
