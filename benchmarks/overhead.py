"""What `unlearn` costs beside a hand-written loop: fine-tuning on 5,000 images of 32x32x3.

Both do the same work on the same network: a private copy, two epochs of SGD on the retain set. The
images are random numbers, since no pixel changes the time. Turn by turn in one run, median ratio.
"""

from __future__ import annotations

import copy
import statistics
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expunge import Problem, unlearn
from expunge.models import convnet
from expunge.steps import Train
from expunge.terms import CE

ROUNDS = 9


def by_hand(model: nn.Module, inputs: Tensor, targets: Tensor) -> nn.Module:
    """Fine-tune a copy for two epochs, as one would write it."""
    model = copy.deepcopy(model).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for _ in range(2):
        for rows in torch.randperm(len(targets)).split(64):
            optimiser.zero_grad()
            F.cross_entropy(model(inputs[rows]), targets[rows]).backward()
            optimiser.step()
    return model


def seconds(work: object) -> float:
    """Wall-clock seconds of a call."""
    start = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - start


def main() -> None:
    """Print the ratio."""
    torch.manual_seed(0)
    inputs, targets = torch.randn(5000, 3, 32, 32), torch.randint(0, 10, (5000,))
    problem = Problem.split((inputs, targets), range(500))
    kept = inputs[500:], targets[500:]
    model, method = convnet(10, 3, 32), Train(CE("retain"), epochs=2, lr=0.01)
    by_hand(model, *kept)
    pairs = [
        (seconds(lambda: by_hand(model, *kept)), seconds(lambda: unlearn(model, method, problem)))
        for _ in range(ROUNDS)
    ]
    ratio = statistics.median(ours / hand for hand, ours in pairs)
    hand = statistics.median(pair[0] for pair in pairs)
    print(f"by hand {hand:.2f} s; unlearn takes {ratio:.3f} times as long")


if __name__ == "__main__":
    main()
