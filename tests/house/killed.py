"""Run as a child: makes the tiny experiment again and again, killed -9 in the middle of writing.

Usage: killed.py STORE looped|stacked SEED. Prints what each death left, as JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from house_tools import LOOPED, ONE, STACKED, bits, plan, timed, torn

from expunge.core.store import Store
from expunge.experiments.graph import make
from expunge.experiments.plan import Plan

PER_LIFE = 14


def deadly(point: int) -> None:
    """Let this process die at its `point`-th operation on a file: before, after or halfway."""
    count = 0
    write, rename = Path.write_bytes, os.rename

    def counted(operation: Callable[..., Any], half: Callable[..., Any]) -> Callable[..., Any]:
        def replaced(*args: Any) -> Any:
            nonlocal count
            count += 1
            if count == point:
                half(*args)
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*args)

        return replaced

    def halfway(path: Path, data: bytes) -> None:
        write(path, data[: len(data) // 2])

    before_or_after = rename if point % 2 else (lambda *_: None)
    Path.write_bytes = counted(write, halfway)  # type: ignore[method-assign]
    os.rename = counted(rename, before_or_after)


def life(made: Plan, root: Path, point: int) -> bool:
    """Go on with the experiment in a child that may die; whether it came to the end."""
    child = os.fork()
    if child == 0:
        store = Store(root)
        deadly(point)
        for _ in make(made, store):
            continue
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        return os.WEXITSTATUS(status) == 0
    assert os.WTERMSIG(status) == signal.SIGKILL
    return False


def main() -> None:
    torch.set_num_threads(1)
    root, engine, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    draws = random.Random(seed)
    made = plan(methods=ONE, members=2)
    timed(made, Store(root), {"looped": LOOPED, "stacked": STACKED}[engine])
    deaths, found, ended, grown = 0, [], False, []
    while not ended and deaths < 200:
        ended = life(made, root, draws.randint(1, PER_LIFE))
        deaths += not ended
        found += torn(root)
        grown.append(len(bits(root)))
    life(made, root, 10**9)  # sweeps
    left = [each.name for each in (root / "tmp").iterdir()]
    sys.stdout.write(json.dumps([deaths, found, left, grown]))


main()
