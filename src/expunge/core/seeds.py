"""Randomness by name: a stream for every place that draws, and how fresh weights are drawn.

The global generator of torch is neither read nor left changed, and a new draw in one place shifts
nothing elsewhere.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from expunge.core.vocabulary import word
from expunge.errors import Unsupported

if TYPE_CHECKING:
    from expunge.core.run import RunProtocol


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


class Draw(ABC):
    """Where fresh weights come from; abstract."""

    @abstractmethod
    def weights(
        self, run: RunProtocol, chosen: Mapping[str, Tensor], fresh: Callable[[], nn.Module]
    ) -> dict[str, Tensor]:
        """A fresh tensor in the place of each chosen weight.

        Args:
            run: whose random streams are used.
            chosen: name -> weight as it is now.
            fresh: makes a newly initialised model from the run's stream.

        Raises:
            Unsupported: a weight that the rule says nothing about.
        """


@word
class Own(Draw):
    """The layer's own initialisation."""

    def weights(
        self, run: RunProtocol, chosen: Mapping[str, Tensor], fresh: Callable[[], nn.Module]
    ) -> dict[str, Tensor]:
        made = dict(fresh().named_parameters())
        return {name: made[name] for name in chosen}


@word
class KaimingFanOut(Draw):
    """Normal with variance 2 / (outputs times kernel size): kernels and matrices alone.

    Source: He et al., Delving Deep into Rectifiers, arXiv 1502.01852, equation 14; torchvision's
    ResNet draws so, and the second prize of the NeurIPS 2023 challenge with it.
    """

    def weights(
        self, run: RunProtocol, chosen: Mapping[str, Tensor], fresh: Callable[[], nn.Module]
    ) -> dict[str, Tensor]:
        _need_fans("KaimingFanOut", chosen)
        return {
            name: _normal(run, name, weight) * math.sqrt(2 / weight[:, 0].numel())
            for name, weight in chosen.items()
        }


@word
class UniformFanIn(Draw):
    """Uniform between -b and b with b = 1 / sqrt(inputs times kernel size).

    Source: the default of torch's nn.Linear and nn.Conv2d; the fourth prize of the NeurIPS 2023
    challenge (Sebastian Oleszko) draws pruned weights so.
    """

    def weights(
        self, run: RunProtocol, chosen: Mapping[str, Tensor], fresh: Callable[[], nn.Module]
    ) -> dict[str, Tensor]:
        _need_fans("UniformFanIn", chosen)
        return {
            name: (2 * _uniform(run, name, weight) - 1) / math.sqrt(weight[0].numel())
            for name, weight in chosen.items()
        }


def _normal(run: RunProtocol, name: str, weight: Tensor) -> Tensor:
    return torch.randn(weight.shape, generator=run.stream(f"draw {name}")).to(weight)


def _uniform(run: RunProtocol, name: str, weight: Tensor) -> Tensor:
    return torch.rand(weight.shape, generator=run.stream(f"draw {name}")).to(weight)


def _need_fans(owner: str, chosen: Mapping[str, Tensor]) -> None:
    """Refuse biases and the weights of normalisation: they have no fan."""
    for name, weight in chosen.items():
        if weight.ndim < 2:
            raise Unsupported(
                f"{owner} draws kernels and matrices, and {name} has shape {tuple(weight.shape)}. "
                "Leave it out of the part, as in Reset(Convs(), draw=...), or draw it as Own()."
            )
