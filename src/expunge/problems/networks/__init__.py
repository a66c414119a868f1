"""Small networks, made of modules that every part of the toolkit understands."""

from __future__ import annotations

from expunge.problems.networks.classifiers import convnet, digits_net, resnet9, resnet18
from expunge.problems.networks.language import tiny_llama, word_tokenizer

__all__ = [
    "convnet",
    "digits_net",
    "resnet9",
    "resnet18",
    "tiny_llama",
    "word_tokenizer",
]
