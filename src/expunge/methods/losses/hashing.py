"""Random numbers made by hashing: the same for an example, a seed and a moment on every machine.

A loss that needs noise takes it from here, so that it changes with no order of the examples.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from expunge.core.view import View


def hashed(index: Tensor, seed: int | Tensor) -> Tensor:
    """Hash each index with a seed into a whole number from 0 to 2^31 - 1.

    Args:
        index: int64 [b].
        seed: one for all, or an int64 scalar where seeds are stacked.

    Source: the finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) on wrapping int64.
    """
    wrapping = torch.as_tensor(seed, device=index.device)  # a plain int would not wrap but overflow
    mixed = index * 0x1E3779B97F4A7C15 + wrapping * 0x3C6EF372FE94F82B + 0x2545F4914F6CDD1D
    mixed = (mixed ^ ((mixed >> 30) & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
    mixed = (mixed ^ ((mixed >> 27) & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
    return (mixed >> 33) & 0x7FFFFFFF


def hashed_now(view: View, name: str) -> Tensor:
    """Hash each example of a minibatch into a whole number that is new at every minibatch.

    Args:
        view: gives the seed and the progress.
        name: the set whose minibatch it is.

    Returns:
        int64 [b].
    """
    moment = int(view.progress * 2**40)
    return hashed(hashed(view.batch(name).index, view.seed), moment)


def gaussian(index: Tensor, like: Tensor, seed: int | Tensor, salt: int) -> Tensor:
    """Make standard normal noise for each example, from a hash of its index, the seed and a salt.

    Args:
        index: int64 [b].
        like: float [b, ...], whose shape and dtype the noise has.
        seed: of the run.
        salt: another salt gives other noise.

    Source: Box and Muller, Annals of Mathematical Statistics 29, 1958.
    """
    rows = hashed(hashed(index, seed), salt)
    cells = torch.arange(math.prod(like.shape[1:]), device=index.device)
    keys = (rows[:, None] << 31) + cells
    size, angle = ((hashed(keys, which).to(like) + 1) / 2**31 for which in (1, 2))
    normal = torch.sqrt(-2 * torch.log(size)) * torch.cos(2 * math.pi * angle)
    return normal.reshape(like.shape)


def gumbel(view: View, name: str, logits: Tensor) -> Tensor:
    """Make Gumbel noise for each example and class, new at every minibatch.

    Args:
        view: gives the seed and the progress.
        name: the set whose minibatch it is.
        logits: float [b, k], whose shape and dtype the noise has.
    """
    classes = torch.arange(logits.shape[-1], device=logits.device)
    numbers = hashed(hashed_now(view, name)[:, None] + classes, 0)
    # in double precision, since in single the largest shares would round to 1 and the noise to inf
    even = (numbers.double() + 0.5) / 2**31
    return -(-even.log()).log().to(logits)
