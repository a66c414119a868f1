"""Executors: run tasks in this process or in a pool of worker processes, with the same results.

A task is a callable of one argument, the workplace: whatever tasks share, such as a plan with its
store. A worker process builds a workplace of its own once, so tasks and results are all that
travels. A pool takes three things upon itself: one thread a process, so that results do not depend
on how many there are; workers that Ctrl-C does not reach, because this process ends them; and
workers that end when this process is killed.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, Generic, TypeVar

import torch

from expunge.errors import StoreError

Workplace = TypeVar("Workplace")


Result = TypeVar("Result")


class Executor(ABC, Generic[Workplace]):
    """Runs tasks; abstract.

    Attributes:
        in_hand: how many tasks to submit before waiting for one to end.
    """

    in_hand: int

    @abstractmethod
    def submit(self, task: Callable[[Workplace], Result]) -> Future[Result]:
        """Run a task, now or as soon as a worker is free."""


class SerialExecutor(Executor[Workplace]):
    """Runs tasks in this process, one after the other.

    Args:
        workplace: what tasks are called with.
    """

    in_hand = 1

    def __init__(self, workplace: Workplace) -> None:
        self.workplace = workplace

    def submit(self, task: Callable[[Workplace], Result]) -> Future[Result]:
        """Run a task at once; what it raises is raised here."""
        future: Future[Result] = Future()
        future.set_result(task(self.workplace))
        return future


class ProcessExecutor(Executor[Workplace]):
    """Runs tasks in single-threaded worker processes.

    Args:
        build: makes the workplace of one worker; it is pickled, so a `partial` of a function.
        count: processes.
    """

    def __init__(self, build: Callable[[], Workplace], count: int) -> None:
        self.in_hand = 2 * count
        self.pool = ProcessPoolExecutor(
            count,
            mp_context=get_context("spawn"),
            initializer=_start_worker,
            initargs=(build, os.getpid()),
        )

    def submit(self, task: Callable[[Workplace], Result]) -> Future[Result]:
        """Run a task as soon as a worker is free.

        A terminal sends Ctrl-C to all processes; workers inherit that it is blocked.
        """
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return self.pool.submit(_run_in_worker, task)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def stop(self) -> None:
        """End the processes now; what they had not finished is not in the store yet."""
        for process in list((self.pool._processes or {}).values()):
            process.terminate()
        self.pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def executor(
    workplace: Workplace, build: Callable[[], Workplace], jobs: int
) -> Iterator[Executor[Workplace]]:
    """This process for one job, a pool for more; its processes end with the block.

    Args:
        workplace: what tasks are called with in this process.
        build: makes the same in a worker process.
        jobs: how many tasks run at a time.

    Raises:
        StoreError: a worker process died.
    """
    if jobs == 1:
        yield SerialExecutor(workplace)
        return
    pool = ProcessExecutor(build, jobs)
    try:
        yield pool
    except BrokenProcessPool:
        raise StoreError(
            "A worker process died, perhaps for want of memory. What was made is in the store; "
            "run the same command again, with --jobs 1 if it dies again."
        ) from None
    finally:
        pool.stop()


def completed(
    executor: Executor[Workplace], tasks: Sequence[Callable[[Workplace], Result]]
) -> Iterator[tuple[int, Result]]:
    """Run tasks, a few in hand at a time; yield (position, result) of each as it ends."""
    left = list(enumerate(tasks))
    running: dict[Future[Result], int] = {}
    while left or running:
        while left and len(running) < executor.in_hand:
            place, task = left.pop(0)
            running[executor.submit(task)] = place
        ended, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in ended:
            yield running.pop(future), future.result()


_WORKPLACE: list[Any] = []


def _start_worker(build: Callable[[], Any], parent: int) -> None:
    """Set this process up as a worker: one thread, its workplace, an end when its parent ends."""
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _WORKPLACE.append(build())


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _run_in_worker(task: Callable[[Any], Result]) -> Result:
    return task(_WORKPLACE[0])
