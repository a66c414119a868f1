"""What the reference networks share: a convolution that knows how it is initialised."""

from __future__ import annotations

import torch
from torch import nn

from expunge.errors import BadSentence


class KaimingConv2d(nn.Conv2d):
    """A convolution whose ``reset_parameters`` draws Kaiming-normal weights.

    The initialisation sits in ``reset_parameters``, not in the network's constructor, so that
    resetting a layer later draws from the very distribution it was first drawn from.

    Source: K. He et al., Delving Deep into Rectifiers, arXiv:1502.01852, equation 14 (fan out).
    """

    def reset_parameters(self) -> None:
        """Draw the weights anew; a bias, if there is one, starts at zero."""
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)


def conv3x3(channels_in: int, channels_out: int, stride: int = 1) -> KaimingConv2d:
    """Return a 3x3 convolution that keeps the size (at stride 1); a BatchNorm is to follow it."""
    return KaimingConv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)


def channels_last(network: nn.Sequential) -> nn.Sequential:
    """Lay the kernels out so that convolutions run over the channels of a pixel.

    Measured on two cores: a training step takes 0.7 to 0.95 of the time (docs/performance.md). The
    inputs may stay as they are: torch lays the answers out like the kernels.
    """
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def check_sizes(network: str, **sizes: int) -> None:
    """Refuse a network with no classes, channels, width or pixels.

    Raises:
        BadSentence: a size below 1, named.
    """
    for name, size in sizes.items():
        if size < 1:
            raise BadSentence(f"{network} got {name}={size}; expected 1 or more.")
