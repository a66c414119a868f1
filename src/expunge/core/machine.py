"""The machine: versions, hardware, devices, worker processes, and optional packages."""

from __future__ import annotations

__version__ = "0.1.0"

import importlib
import os
import platform
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import torch

from expunge.errors import Unsupported


@cache
def hardware() -> dict[str, str | int]:
    """Processor, cores, memory and accelerator, as the operating system names them."""
    about: dict[str, str | int] = {
        "processor": _processor(),
        "cores": cores(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if torch.cuda.is_available():
        about["accelerator"] = torch.cuda.get_device_name(0)
    return about


def cores() -> int:
    """How many processes there is room for: the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def device() -> torch.device:
    """Where experiments train: an accelerator where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


Result = TypeVar("Result")


def settle(parent: int) -> None:
    """Set this process up as a worker: one thread, and an end once its parent is gone.

    One thread a process, so that results do not depend on how many there are. Without the second a
    killed command would leave its workers behind.

    Args:
        parent: number of the process that works are taken from.
    """
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def submit(
    pool: ProcessPoolExecutor, task: Callable[..., Result], *arguments: object
) -> Future[Result]:
    """Hand a task to a process that is free.

    A terminal sends Ctrl-C to all: workers are born deaf to it, and this process ends them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(task, *arguments)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def stop(pool: ProcessPoolExecutor) -> None:
    """End the processes now: what they had not finished was not yet in the store."""
    for process in list((pool._processes or {}).values()):
        process.terminate()
    pool.shutdown(wait=True, cancel_futures=True)


def transformers() -> ModuleType:
    """The package transformers.

    Raises:
        Unsupported: it is not installed; the message says how it is.
    """
    try:
        return importlib.import_module("transformers")
    except ImportError:
        raise missing("transformers") from None


def peft() -> ModuleType:
    """The package peft.

    Raises:
        Unsupported: as for `transformers`.
    """
    try:
        return importlib.import_module("peft")
    except ImportError:
        raise missing("peft") from None


def missing(name: str) -> Unsupported:
    """What to say where a package of the extra is not there."""
    return Unsupported(
        f"Language models need the package {name}. Install it with: pip install 'expunge[lm]'"
    )
