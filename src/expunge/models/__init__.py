"""Small reference networks, in modules that every part of the toolkit understands."""

from __future__ import annotations

from expunge.models.convnet import convnet
from expunge.models.digits import digits_net
from expunge.models.resnet import resnet9, resnet18

__all__ = ["convnet", "digits_net", "resnet9", "resnet18"]
