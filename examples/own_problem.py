"""Your own network, tensors and one-line method, scored against 32 retrained oracles."""

from __future__ import annotations

import torch
from torch import nn

from expunge import compare, parse
from expunge.core.method import Method
from expunge.core.problem import Problem

x = torch.randn(600, 20, generator=torch.Generator().manual_seed(0))
y = (x[:, :3].sum(1) + 0.5 * x[:, 3] > 0).long()
problem = Problem.split(
    (x[:400], y[:400]),
    forget=range(40),
    test=(x[400:], y[400:]),
    architecture=lambda: nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 2)),
    recipe=Method("recipe", (parse("Train(CE('train'), epochs=30, lr=0.1, batch=32)"),)),
)
print(compare(problem, {"mine": "Noise(0.1), Train(CE('retain'), epochs=5, lr=0.1)"}, members=32))
