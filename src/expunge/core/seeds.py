"""Named random streams: one integer seed a run, and a stream for every place that draws.

The global generator of torch is neither read nor left changed, and a new draw in one place shifts
nothing elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derived(*names: object) -> int:
    """Derive a seed from 0 to 2^63 - 1 from names."""
    said = "/".join(str(name) for name in names)
    return int.from_bytes(hashlib.blake2b(said.encode(), digest_size=8).digest(), "big") >> 1


def stream(*names: object) -> torch.Generator:
    """A random generator for these names alone."""
    return torch.Generator().manual_seed(derived(*names))


@contextmanager
def isolated(*names: object) -> Iterator[None]:
    """Seed the global generator from these names while the block runs, and restore it after."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(derived(*names))
        yield
