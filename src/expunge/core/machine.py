"""The machine and its packages: what a result was measured on, and what is installed."""

from __future__ import annotations

__version__ = "0.1.0"

import importlib
import os
import platform
from functools import cache
from pathlib import Path
from types import ModuleType

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
