"""A small convolutional network, for experiments with hundreds of models on a CPU."""

from __future__ import annotations

from torch import nn

from expunge.models.layers import channels_last, check_sizes, conv3x3

STAGES = 4


def convnet(classes: int, channels: int, size: int, width: int = 16) -> nn.Sequential:
    """Return four strided 3x3 convolutions with BatchNorm, and a linear layer.

    At 32x32x3 and the default width it has 63 thousand weights and takes 0.85 million
    multiply-adds an image, since every convolution halves the picture.

    Args:
        classes: outputs.
        channels: of the input, 1 (grey) or 3 (colour).
        size: height and width of the input, pixels.
        width: channels after the first convolution; the later ones have 2, 4 and 4 times as many.
    """
    check_sizes("convnet", classes=classes, channels=channels, size=size, width=width)
    layers: list[nn.Module] = []
    for out in (width, 2 * width, 4 * width, 4 * width):
        layers += [conv3x3(channels, out, stride=2), nn.BatchNorm2d(out), nn.ReLU()]
        channels = out
    left = -(-size // 2**STAGES)  # each stride of 2 rounds up
    last = nn.Linear(channels * left * left, classes)
    return channels_last(nn.Sequential(*layers, nn.Flatten(), last))
