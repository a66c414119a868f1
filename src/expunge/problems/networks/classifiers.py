"""Small convolutional networks for classifying images, from a CPU's digits to ResNet-18."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from expunge.errors import BadSentence


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


class KaimingConv2d(nn.Conv2d):
    """A convolution whose ``reset_parameters`` draws Kaiming-normal weights.

    The initialisation sits in ``reset_parameters``, not in the network's constructor, so that
    resetting a layer later draws from the very distribution it was first drawn from.

    Source: K. He et al., Delving Deep into Rectifiers, arXiv:1502.01852, equation 14 (fan out).
    """

    def reset_parameters(self) -> None:
        """Draw the weights again; a bias, if there is one, starts at zero."""
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


STAGES = 4


def convnet(classes: int, channels: int, size: int, width: int = 16) -> nn.Sequential:
    """Return four strided 3x3 convolutions with BatchNorm, and a linear layer.

    At 32x32x3 and the default width it has 63 thousand weights and takes 0.85 million
    multiply-adds an image, since every convolution halves the image.

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


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, and a shortcut that is projected where the shape changes.

    Source: K. He et al., Deep Residual Learning, arXiv:1512.03385, figure 2 and shortcut option B.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels_in, channels_out, stride)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = conv3x3(channels_out, channels_out)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.shortcut = _shortcut(channels_in, channels_out, stride)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map [b, channels_in, h, w] to [b, channels_out, h / stride, w / stride]."""
        hidden = relu(self.bn1(self.conv1(inputs)))
        hidden = self.bn2(self.conv2(hidden))
        return relu(hidden + self.shortcut(inputs))


class Residual(nn.Module):
    """Two convolution stages whose output is added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stage1 = _stage(channels, channels)
        self.stage2 = _stage(channels, channels)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map [b, channels, h, w] to the same shape."""
        return inputs + self.stage2(self.stage1(inputs))


def resnet18(classes: int, channels: int = 3) -> nn.Sequential:
    """Return ResNet-18 in its 32x32 form: 11.2 million weights, 0.56 billion multiply-adds.

    Args:
        classes: outputs.
        channels: of the input.

    Source: K. He et al., arXiv:1512.03385, table 1; the 3x3 stem without max-pooling is the
    common CIFAR form, which papers on unlearning use.
    """
    check_sizes("resnet18", classes=classes, channels=channels)
    parts: OrderedDict[str, nn.Module] = OrderedDict(
        conv=conv3x3(channels, 64), bn=nn.BatchNorm2d(64), relu=nn.ReLU()
    )
    before = 64
    for number, (out, stride) in enumerate(((64, 1), (128, 2), (256, 2), (512, 2)), start=1):
        parts[f"layer{number}"] = nn.Sequential(
            BasicBlock(before, out, stride), BasicBlock(out, out)
        )
        before = out
    parts.update(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(512, classes))
    return channels_last(nn.Sequential(parts))


def resnet9(classes: int, channels: int = 3) -> nn.Sequential:
    """Return ResNet-9: 6.6 million weights, trains on CIFAR-10 in a few epochs.

    Args:
        classes: outputs.
        channels: of the input, whose sides are 8 pixels at least.

    Source: D. Page, How to Train Your ResNet (DAWNBench, 2018), without its scaling of the logits.
    """
    check_sizes("resnet9", classes=classes, channels=channels)
    parts: OrderedDict[str, nn.Module] = OrderedDict(
        prepare=_stage(channels, 64),
        layer1=nn.Sequential(_stage(64, 128, pool=True), Residual(128)),
        layer2=_stage(128, 256, pool=True),
        layer3=nn.Sequential(_stage(256, 512, pool=True), Residual(512)),
        pool=nn.AdaptiveMaxPool2d(1),
        flatten=nn.Flatten(),
        fc=nn.Linear(512, classes),
    )
    return channels_last(nn.Sequential(parts))


def _shortcut(channels_in: int, channels_out: int, stride: int) -> nn.Module:
    """Return the identity, or a 1x1 projection where channels or size change."""
    if stride == 1 and channels_in == channels_out:
        return nn.Identity()
    project = KaimingConv2d(channels_in, channels_out, 1, stride=stride, bias=False)
    return nn.Sequential(project, nn.BatchNorm2d(channels_out))


def _stage(channels_in: int, channels_out: int, pool: bool = False) -> nn.Sequential:
    """Return convolution, BatchNorm, ReLU and, where asked for, a halving max-pool."""
    layers = [conv3x3(channels_in, channels_out), nn.BatchNorm2d(channels_out), nn.ReLU()]
    return nn.Sequential(*layers, *([nn.MaxPool2d(2)] if pool else []))
