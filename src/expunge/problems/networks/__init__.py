"""Small reference networks, in modules that every part of the toolkit understands."""

from __future__ import annotations

from expunge.problems.networks.classifiers import convnet, digits_net, resnet9, resnet18

__all__ = ["convnet", "digits_net", "resnet9", "resnet18"]
