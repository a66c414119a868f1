"""Randomness by name: one seed a member, and a stream of its own for every place that draws.

The global generator of torch is neither read nor left changed, and a new draw in one place shifts
nothing elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derived(*names: object) -> int:
    """A seed from 0 to 2^63 - 1 that belongs to these names alone."""
    said = "/".join(str(name) for name in names)
    return int.from_bytes(hashlib.blake2b(said.encode(), digest_size=8).digest(), "big") >> 1


def stream(*names: object) -> torch.Generator:
    """A generator of its own for these names."""
    return torch.Generator().manual_seed(derived(*names))


@contextmanager
def isolated(*names: object) -> Iterator[None]:
    """Let code that draws from the global generator do so from a stream of its own."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(derived(*names))
        yield
