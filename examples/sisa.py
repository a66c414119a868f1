"""An ensemble that can forget exactly: forecast, train, delete, and check."""

from __future__ import annotations

import torch

from expunge.core.method import Method
from expunge.core.problem import Problem
from expunge.experiments.experiment import parse
from expunge.methods.exact.deletions import Layout, forecast_deletions
from expunge.methods.exact.sisa import Sisa
from expunge.problems.images.loaders import digits
from expunge.problems.networks.classifiers import digits_net

pool = digits()
problem = Problem.split(
    pool.train,
    forget=[10, 20, 30],
    test=pool.test,
    architecture=digits_net,
    recipe=Method("recipe", (parse("Train(CE('train'), epochs=6, lr=Cosine(0.1), batch=32)"),)),
)
for shards in (2, 5, 10):  # before anything is trained
    cost = forecast_deletions(Layout(len(pool.train), shards, slices=3), requests=3)
    print(f"{shards} shards: expected {cost.expected:.0%}, worst case {cost.worst:.0%}")

ensemble = Sisa(problem, shards=5, slices=3)
print(f"these rows: {ensemble.forecast([10, 20, 30]):.0%}")
deletion = ensemble.forget([10, 20, 30])
print(f"{deletion}; it took {deletion.stages} of 15 stages")

twin = Sisa(problem, shards=5, slices=3, without=[10, 20, 30])  # never saw the rows
images, labels = pool.test.inputs, pool.test.targets
ours, theirs = ensemble.model()(images), twin.model()(images)
print("bit for bit the same answers as without the rows:", torch.equal(ours, theirs))
print(f"test accuracy {(ours.argmax(1) == labels).float().mean():.1%}")
print(ensemble.guarantee)
