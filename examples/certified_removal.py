"""A linear head with a certificate: remove rows until the noise covers no more, then retrain."""

from __future__ import annotations

import time

from torch import nn

from expunge.errors import BudgetSpent
from expunge.methods.exact.certified import CertifiedHead, RemovalConstants, UnitRows, unit_rows
from expunge.problems.images.loaders import digits

pool = digits()
head = CertifiedHead(
    unit_rows(pool.train.inputs.flatten(1).double()),
    pool.train.targets,
    statement="The features are the pixels, each image scaled by itself; nothing was trained.",
    classes=10,
    constants=RemovalConstants(lam=0.01, std=1.0, epsilon=1.0, delta=1e-4),
)


def accuracy() -> float:
    model = head.model(nn.Sequential(nn.Flatten(), UnitRows()))
    return float((model(pool.test.inputs).argmax(1) == pool.test.targets).float().mean())


start = time.perf_counter()
print(f"{head.forget(range(5))}; it took {time.perf_counter() - start:.2f} s")
print(f"test accuracy {accuracy():.1%}")
try:
    head.forget(range(5, 200))
except BudgetSpent as spent:
    print(spent)
    head.retrain(range(5, 200))  # with fresh noise: the budget is whole again
print(f"test accuracy after retraining {accuracy():.1%}")
print(head.guarantee)
