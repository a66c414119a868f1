"""A few processes that share a ground and a store; each task is carried out by one of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from expunge.core import machine as workers
from expunge.core.store import Store
from expunge.errors import StoreError
from expunge.experiments.experiment import Experiment
from expunge.experiments.tuning.held_out import held_out
from expunge.experiments.tuning.held_out_answers import Bench

Task = Callable[[Bench], Any]


Ended = tuple[int, Any]


class SerialWorkers:
    """Carries tasks out in this process, one after the other."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def each(self, tasks: Sequence[Task]) -> Iterator[Ended]:
        """Number and result of each task, as they end."""
        for number, task in enumerate(tasks):
            yield number, task(self.bench)


class WorkerProcesses:
    """Carries tasks out in single-threaded processes, one a core.

    Args:
        experiment, oracles, forget: what `held_out` makes the ground from, in each process anew.
        root: the store.
        count: processes.
    """

    def __init__(
        self, experiment: Experiment, oracles: int, forget: str, root: Path, count: int
    ) -> None:
        self.pool = ProcessPoolExecutor(
            count,
            mp_context=get_context("spawn"),
            initializer=_begin,
            initargs=(experiment, oracles, forget, root, os.getpid()),
        )

    def each(self, tasks: Sequence[Task]) -> Iterator[Ended]:
        """Number and result of each task, as they end."""
        numbers = {
            workers.submit(self.pool, _carry_out, task): number for number, task in enumerate(tasks)
        }
        for future in as_completed(numbers):
            yield numbers[future], future.result()


Team = SerialWorkers | WorkerProcesses


_WORKER: list[Bench] = []


@contextmanager
def team(
    experiment: Experiment, oracles: int, forget: str, bench: Bench, jobs: int
) -> Iterator[Team]:
    """Processes that end with the block; with one job, this process alone.

    Raises:
        StoreError: a process died.
    """
    # One thread a process, so that results do not depend on how many processes there are.
    torch.set_num_threads(1)
    if jobs == 1:
        yield SerialWorkers(bench)
        return
    processes = WorkerProcesses(experiment, oracles, forget, bench.store.root, jobs)
    try:
        yield processes
    except BrokenProcessPool:
        raise StoreError(
            "A worker process died, perhaps for want of memory. What was judged is in the store; "
            "run the same command again, with --jobs 1 if it dies again."
        ) from None
    finally:
        workers.stop(processes.pool)


def _begin(experiment: Experiment, oracles: int, forget: str, root: Path, parent: int) -> None:
    """Set a worker up: one thread, its own view of the data, and an end when its parent ends."""
    workers.settle(parent)
    _WORKER.append(Bench(held_out(experiment, oracles, forget), Store(root)))


def _carry_out(task: Task) -> Any:
    return task(_WORKER[0])
