"""What would go wrong in silence is refused in a sentence."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tiny
from expunge import Problem, parse, unlearn
from expunge.errors import BadData, BadSentence, Unsupported
from expunge.parts import Part
from expunge.unlearn import Judged


def test_noise_on_convolutions_of_a_model_without_any() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    inputs, targets = torch.randn(12, 1, 2, 2), torch.arange(12) % 2
    problem = Problem.split((inputs, targets), [0, 1])
    with pytest.raises(Unsupported, match="no convolution"):
        unlearn(model, "Noise(0.1, Convs()), Train(CE('retain'))", problem)


def test_a_class_beyond_the_outputs() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    problem = Problem.split((torch.randn(12, 1, 2, 2), torch.arange(12) % 3), [0, 1])
    with pytest.raises(BadData, match="beyond the model's outputs"):
        unlearn(model, "Train(CE('retain'))", problem)


def test_more_turns_than_memory_holds() -> None:
    with pytest.raises(BadSentence, match="times between 1 and"):
        parse("Repeat((Noise(0.1),), times=1000000000)")


def test_the_tiny_net_has_convolutions() -> None:
    assert any(isinstance(module, nn.Conv2d) for module in tiny.net().modules())


def test_every_member_counts_what_a_shared_part_reads() -> None:
    memo: dict[Part, Judged] = {}
    counts = []
    for seed in (0, 1):
        run = tiny.run(seed=seed)
        run.memo = memo  # as members of one original share it
        run.mask(parse("Salient('forget', share=0.5)"))
        run.mask(parse("Salient('forget', share=0.5)"))
        counts.append(run.ledger.examples)
    assert counts[0] == counts[1] != {}
