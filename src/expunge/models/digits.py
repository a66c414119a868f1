"""The small convolutional network of the embedded default: 8x8 grey images, 10 classes."""

from __future__ import annotations

from torch import nn


def digits_net(classes: int = 10, width: int = 8) -> nn.Sequential:
    """Two strided convolutions with batch normalisation and one linear layer.

    Strides in the place of pooling keep it small enough that stacking many of them pays.
    """
    return nn.Sequential(
        nn.Conv2d(1, width, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * width, classes),
    )
