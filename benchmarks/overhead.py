"""What `unlearn` costs beside hand-written loops that do the same passes, on 5,000 images.

Three loops: fine-tuning, two sets in one step (NegGrad+), and a fixed teacher (KL to the original).
Both sides do the same work on the same network from a private copy. The images are random numbers,
since no pixel changes the time. Turn by turn in one run, median ratio.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expunge import unlearn
from expunge.core.problem import Problem
from expunge.engine.training import Train
from expunge.methods.losses.answers import CE, KL
from expunge.problems.networks.classifiers import convnet

ROUNDS = 7
EPOCHS = 2
BATCH = 64
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


def by_hand(model: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss) -> nn.Module:
    """Train a copy for two epochs, as one would write it."""
    model = copy.deepcopy(model).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(targets)).split(BATCH):
            optimiser.zero_grad()
            loss(model, inputs[rows], targets[rows]).backward()
            optimiser.step()
    return model


def finetune(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy on the retain set."""
    return F.cross_entropy(model(inputs), targets)


def two_sets(inputs: Tensor, targets: Tensor) -> Loss:
    """NegGrad+: the retain set down, a batch of the forget set up."""
    order = _endless(len(targets))

    def loss(model: nn.Module, kept: Tensor, classes: Tensor) -> Tensor:
        rows = next(order)
        forget = F.cross_entropy(model(inputs[rows]), targets[rows])
        return 0.95 * F.cross_entropy(model(kept), classes) - 0.05 * forget

    return loss


def taught(teacher: nn.Module) -> Loss:
    """KL from a fixed teacher's answers on the retain set."""

    def loss(model: nn.Module, kept: Tensor, classes: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = teacher(kept).log_softmax(-1)
        mine = model(kept).log_softmax(-1)
        return F.kl_div(mine, wanted, log_target=True, reduction="batchmean")

    return loss


def _endless(size: int) -> Iterator[Tensor]:
    """Minibatches of a set, over and over."""
    while True:
        yield from torch.randperm(size).split(BATCH)


def seconds(work: object) -> float:
    """Wall-clock seconds of a call."""
    start = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - start


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=5000, help="a tenth is to be forgotten")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    torch.manual_seed(0)
    n, few = asked.examples, asked.examples // 10
    inputs, targets = torch.randn(n, 3, 32, 32), torch.randint(0, 10, (n,))
    problem = Problem.split((inputs, targets), range(few))
    kept, gone = (inputs[few:], targets[few:]), (inputs[:few], targets[:few])
    model = convnet(10, 3, 32)
    teacher = copy.deepcopy(model).eval()
    pairs = {
        "fine-tuning": (finetune, CE("retain")),
        "two sets": (two_sets(*gone), 0.95 * CE("retain") - 0.05 * CE("forget")),
        "a teacher": (taught(teacher), KL("retain")),
    }
    for name, (loss, objective) in pairs.items():
        method = Train(objective, epochs=EPOCHS, lr=0.01, batch=BATCH, over="retain")
        times = [
            (
                seconds(lambda loss=loss: by_hand(model, *kept, loss)),
                seconds(lambda method=method: unlearn(model, method, problem)),
            )
            for _ in range(asked.rounds)
        ]
        ratio = statistics.median(ours / hand for hand, ours in times)
        hand = statistics.median(first for first, _ in times)
        print(f"{name}: by hand {hand:.2f} s; unlearn takes {ratio:.3f} times as long")


if __name__ == "__main__":
    main()
