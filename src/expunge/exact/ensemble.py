"""Ensembles: one module from inputs to log-probabilities, so that metrics see one model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class MeanSoftmax(nn.Module):
    """The logarithm of the mean of the members' probabilities.

    Source: Bourtoule et al., arXiv 1912.03817; `--output_type softmax` in
    cleverhans-lab/machine-unlearning at 50a3ada.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs [b, ...] to log-probabilities [b, k]."""
        return _mean(_answers(self.members, inputs))


class Votes(nn.Module):
    """Each member votes for its likeliest class; the mean probabilities have one vote besides.

    That vote breaks ties and keeps every class's log-probability finite; it cannot overrule a
    majority of one.

    Source: Bourtoule et al., arXiv 1912.03817 (majority vote), the default of
    cleverhans-lab/machine-unlearning at 50a3ada.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs [b, ...] to log-probabilities [b, k]."""
        answers = _answers(self.members, inputs)
        chosen = nn.functional.one_hot(answers.argmax(-1), answers.shape[-1]).sum(0)
        votes = chosen.to(answers.dtype).log()
        return torch.logaddexp(votes, _mean(answers)) - math.log(len(self.members) + 1)


def _answers(members: nn.ModuleList, inputs: Tensor) -> Tensor:
    """Log-probabilities of each member, [m, b, k]."""
    return torch.stack([member(inputs).log_softmax(-1) for member in members])


def _mean(answers: Tensor) -> Tensor:
    return answers.logsumexp(0) - math.log(len(answers))
