"""Data-parallel training on the CPU: several processes, each with its share of every minibatch.

All hold the whole model and draw the same minibatches; each cuts a minibatch into as many pieces as
there are processes, and takes its own. A piece weighs as much as the scored targets in it, counted
over the whole minibatch, so that the sum of all gradients is that of one process. They talk over
the loopback device of this machine alone (torch.distributed, gloo), and find each other by a file.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from expunge.core.method import Method, words_of
from expunge.engine.memory import check_microbatches
from expunge.engine.training import Descent, Train
from expunge.errors import BadSentence, ExpungeError, Unsupported

T = TypeVar("T")


LOOPBACK, PATIENCE = "GLOO_SOCKET_IFNAME", timedelta(hours=12)


# A few processes may be tried out on any machine.
FEWEST_CORES = 4


class Team:
    """This process among several that train one model together.

    Args:
        rank: its number, from 0 on; number 0 prints and writes.
        size: how many there are.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    def share(self, pieces: Iterable[T]) -> Iterator[T]:
        """This process's share of the micro-batches of a minibatch."""
        return itertools.islice(pieces, self.rank, None, self.size)

    def gather(self, weights: Iterable[Tensor], losses: Tensor) -> Tensor:
        """Sum the gradients of all processes, in place; return the sum of their losses."""
        moving = [weight for weight in weights if weight.requires_grad]
        there = torch.tensor([float(weight.grad is not None) for weight in moving])
        dist.all_reduce(there)
        # what has no gradient anywhere must not get one: weight decay would move it
        for weight, any_has in zip(moving, there.tolist(), strict=True):
            if any_has:
                weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
                dist.all_reduce(weight.grad)
        total = losses.detach().clone()
        dist.all_reduce(total)
        return total

    def wait(self) -> None:
        """Wait until all processes are here."""
        dist.barrier()


def check_team(method: Method, team: Team) -> None:
    """Wait for all processes, and refuse a method whose minibatches they cannot share.

    Raises:
        Unsupported: a step that descends in a way of its own.
        BadSentence: a term that is no mean over examples or targets.
    """
    for word in words_of(method.steps):
        if isinstance(word, Train):
            check_microbatches(word.objective, team.size)
        elif isinstance(word, Descent):
            raise Unsupported(
                f"{type(word).__name__} looks at gradients of a whole minibatch, so several "
                "processes cannot share it; leave out --processes."
            )
    # none may write a checkpoint that another has still to read
    team.wait()


def together(size: int, work: Callable[[Team], T]) -> T:
    """Run the same work in several processes; return what the one of rank 0 gives.

    Args:
        size: processes, this one among them.
        work: a function of a module, or a `partial` of one, which another process can import.

    Raises:
        BadSentence: fewer than one process, or many more than there are cores.
        Unsupported: another process broke off.
    """
    most = max(FEWEST_CORES, os.cpu_count() or 1)
    if not 1 <= size <= most:
        raise BadSentence(
            f"Got {size} processes; expected 1 to {most}: this machine has {os.cpu_count()} cores, "
            "and each process holds the whole model."
        )
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="expunge-") as folder, loopback():
        meeting = str(Path(folder) / "meeting")
        others = [
            spawn.Process(target=_process, args=(rank, size, meeting, work), daemon=True)
            for rank in range(1, size)
        ]
        for other in others:
            other.start()
        try:
            return _joined(0, size, meeting, work)
        except RuntimeError as fault:
            raise Unsupported(f"A process broke off, so that all stop: {_first(fault)}") from None
        finally:
            for other in others:
                other.join(timeout=5)
                other.kill()
                other.join()


def _joined(rank: int, size: int, meeting: str, work: Callable[[Team], T]) -> T:
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // size))
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=size, timeout=PATIENCE
    )
    try:
        return work(Team(rank, size))
    finally:
        dist.destroy_process_group()
        torch.set_num_threads(threads)


def _process(rank: int, size: int, meeting: str, work: Callable[[Team], object]) -> None:
    """What another process does; its errors are those of rank 0, which prints them."""
    try:
        _joined(rank, size, meeting, work)
    except (ExpungeError, KeyboardInterrupt, RuntimeError):
        sys.exit(1)


def _first(fault: BaseException) -> str:
    return str(fault).splitlines()[0] if str(fault) else type(fault).__name__


@contextmanager
def loopback() -> Iterator[None]:
    """Let gloo listen on the loopback device alone while the block runs."""
    before = os.environ.get(LOOPBACK)
    os.environ[LOOPBACK] = "lo"
    try:
        yield
    finally:
        if before is None:
            del os.environ[LOOPBACK]
        else:
            os.environ[LOOPBACK] = before
