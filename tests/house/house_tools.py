"""A problem so small that a whole experiment on it takes a second, and how to look into a store."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

import expunge
from expunge.comparison import named
from expunge.core.batch import Tensors
from expunge.core.problem import Problem
from expunge.core.store import Store
from expunge.engine.stacking import Timing
from expunge.experiments.classification import CLASSIFICATION
from expunge.experiments.experiment import Experiment
from expunge.experiments.graph import make
from expunge.experiments.make import timing_job
from expunge.experiments.plan import Plan, problem_spec
from expunge.methods.sentences import as_method

RECIPE = "Train(CE('train'), epochs=2, lr=0.1, batch=16)"
METHODS = {
    "finetune": "Train(CE('retain'), epochs=1, lr=0.05, batch=16)",
    "ascent": "Train(-CE('forget'), epochs=1, lr=0.05, batch=2)",
}
ONE = {"finetune": METHODS["finetune"]}
# An experiment that the command line can carry out in about two seconds.
DIGITS = """
name = "tiny"
problem = "digits"
forget = "RandomShare(0.01)"
members = 2
recipe = "Train(CE('train'), epochs=1, lr=0.1, batch=128)"
[methods]
finetune = "Train(CE('retain'), epochs=0.3, lr=0.1, batch=128)"
"""
NO_PRODUCTS = ("tmp", "locks", "corrupt", "reports")
LOOPED, STACKED = Timing(1.0, None, "said by a test"), Timing(1.0, 0.5)


def environment() -> dict[str, str]:
    """For a child in any folder: it finds this source, and one thread is enough."""
    source = str(Path(expunge.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}


def net() -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)
    )


def pictures(n: int, seed: int) -> Tensors:
    """Three noisy classes of 4x4 pictures, far enough apart to be learned and not perfectly."""
    draws = torch.Generator().manual_seed(seed)
    targets = torch.arange(n) % 3
    inputs = torch.randn(n, 1, 4, 4, generator=draws)
    inputs[torch.arange(n), 0, targets, targets] += 2.0
    return Tensors(inputs, targets)


def problem(test: bool = True, **changes: Any) -> Problem:
    rest = {"architecture": net, "recipe": as_method(RECIPE, "recipe"), **changes}
    if test:
        rest["test"] = pictures(30, 2)
    rows = torch.arange(5)
    return Problem.split(pictures(60, 1), rows, name="tiny", val=pictures(9, 3), **rest)


def plan(task: Problem | None = None, methods: Any = METHODS, **changes: Any) -> Plan:
    task = problem() if task is None else task
    assert task.recipe is not None
    changes = {"members": 4, **changes}
    experiment = Experiment("tiny", task.recipe, named(methods), problem="tiny", **changes)
    return Plan(experiment, task, problem_spec(task), CLASSIFICATION)


def timed(made: Plan, store: Store, timing: Timing = LOOPED) -> None:
    """Say how members are trained, so that two stores hold the same bits."""
    store.write(timing_job(made), about=dataclasses.asdict(timing))


def carried_out(made: Plan, store: Store) -> Store:
    timed(made, store)
    for _ in make(made, store):
        continue
    return store


def products(root: Path) -> list[Path]:
    """Every product's folder."""
    kinds = [kind for kind in root.iterdir() if kind.is_dir() and kind.name not in NO_PRODUCTS]
    return sorted(place for kind in kinds for place in kind.glob("*/*"))


def torn(root: Path) -> list[str]:
    """What is in its place and not whole: checked here by hand, and not by the store itself."""
    return [str(place.relative_to(root)) for place in products(root) if not _whole(place)]


def _whole(place: Path) -> bool:
    if not (place / "job.json").is_file():
        return False
    record = json.loads((place / "job.json").read_bytes())
    about = json.dumps(record["about"], sort_keys=True).encode()
    found = {file.name: _digest(file.read_bytes()) for file in place.iterdir()}
    del found["job.json"]
    return record["digests"] == {**found, "about": _digest(about)}


def bits(root: Path) -> dict[str, str]:
    """A digest of every tensor file, by kind and key."""
    files = root.glob("*/*/*/*.safetensors")
    kept = [file for file in files if file.relative_to(root).parts[0] not in NO_PRODUCTS]
    return {str(file.relative_to(root)): _digest(file.read_bytes()) for file in kept}


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
