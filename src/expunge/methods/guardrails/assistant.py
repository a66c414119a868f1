"""A guard that subtracts the logits of a small model that remembers what is forbidden (ULD)."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from expunge.core.optimisers import AdamW
from expunge.core.schedules import Warmup
from expunge.core.view import blocks
from expunge.core.vocabulary import word
from expunge.engine.training import Train
from expunge.engine.unlearning import unlearn
from expunge.errors import BadSentence, Unsupported
from expunge.methods.guardrails.guard import Guard, GuardSetting, Mechanism, asked
from expunge.methods.losses.answers import CE, Uniform
from expunge.methods.steps.adapter import LoRA


@word
class ULD(Guard):
    """Subtract the logits of an assistant that was trained to remember the forget set alone.

    The assistant is a copy of the first layers with an adapter, trained on the forget set, and to
    answer evenly on the retain set. Answers are base - weight * assistant, where the base gives a
    token at least `floor` times the probability of its likeliest one; elsewhere those of the base.

    Args:
        train: how the assistant is trained; the authors' training by default.
        layers: of the model, from the first on, that the assistant has.
        weight: of the assistant's logits.
        floor: share of the likeliest token's probability; 0 subtracts the assistant everywhere.
        rank, alpha: of the adapter.

    Source: Ji et al., Reversing the Forget-Retain Objectives, arXiv 2406.08607;
    UCSB-NLP-Chang/ULD@858608c, contrastllm.py, bashes/tofu/uld_train.sh (TOFU, Llama-2-7B: weight
    0.8, floor 0.01), whose writing shuts unlikely tokens out and whose likelihoods do not; here
    both are as its likelihoods. Its paraphrases and perturbed answers are left to the data.
    """

    train: Train = Train(
        CE("forget") + 5.0 * Uniform("retain"),
        epochs=10,
        lr=Warmup(0.001, 0.1),
        batch=16,
        optimiser=AdamW(weight_decay=0.01),
        over="forget",
        accumulate=2,
    )
    layers: int = 8
    weight: float = 0.8
    floor: float = 0.01
    rank: int = 16
    alpha: float = 32.0

    def check(self) -> None:
        if self.layers < 1 or self.weight <= 0 or not 0 <= self.floor < 1:
            raise BadSentence(
                "ULD: layers must be 1 or more, weight above 0, and floor 0 or more and below 1."
            )

    def made(self, setting: GuardSetting) -> Mechanism:
        method = LoRA((self.train,), rank=self.rank, alpha=self.alpha)
        small = first_layers(setting.model, self.layers)
        done = unlearn(small, method, setting.problem, seed=setting.seed, in_place=True)
        setting.counts.add(done.receipt.examples)
        return _Contrast(done.model, self.weight, self.floor)


class _Contrast(Mechanism):
    """A model's logits less those of an assistant, where the model finds a token likely."""

    def __init__(self, assistant: nn.Module, weight: float, floor: float) -> None:
        super().__init__()
        self.assistant, self.weight, self.floor = assistant, weight, floor

    def forward(self, base: nn.Module, inputs: Tensor, mask: Tensor) -> Tensor:
        ours, theirs = (asked(m, mask, input_ids=inputs) for m in (base, self.assistant))
        return contrast(ours, theirs, self.weight, self.floor)


def contrast(ours: Tensor, theirs: Tensor, weight: float, floor: float) -> Tensor:
    """Return ours - weight * theirs, where ours makes a token `floor` times as likely as its best.

    As many of the likeliest tokens as are the share `floor` of all count as likely in any case.

    Args:
        ours: logits of the model, [..., k].
        theirs: logits of the assistant, [..., k].
    """
    taken = ours - weight * theirs
    if floor == 0:
        return taken
    least = ours.amax(-1, keepdim=True) + math.log(floor)
    if (kept := int(floor * ours.shape[-1])) > 0:
        least = torch.minimum(least, ours.topk(kept).values[..., -1:])
    return torch.where(ours >= least, taken, ours)


def first_layers(model: nn.Module, count: int) -> nn.Module:
    """Copy a transformer so that it ends after so many layers.

    Raises:
        Unsupported: it has fewer, or its layers are not known.
    """
    there = len(blocks(model))
    if count > there:
        raise Unsupported(f"ULD: {count} layers were asked for; the model has {there}.")
    small = copy.deepcopy(model)
    del blocks(small)[count:]
    small.config.num_hidden_layers = count  # type: ignore[union-attr]
    return small
