"""Models per minute: expunge's way to train many members against a plain loop with a DataLoader.

The plain loop is what one writes first: one model after the other, `DataLoader(num_workers=0)`,
all threads. expunge: members stacked, one single-threaded process a core. Both train the digits
network by the same recipe for the same epochs, in float32, turn by turn in one run; the ratio is of
medians.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from expunge.core.machine import hardware
from expunge.core.store import Store
from expunge.engine.training import from_scratch
from expunge.experiments.experiment import load
from expunge.experiments.graph import MakeBlock, ProcessExecutor, _finished
from expunge.experiments.make import STACK, Block, block_size, choose_engine, make_problem
from expunge.experiments.plan import Plan
from expunge.experiments.planning import plan_for

EPOCHS = 10
BATCH = 32
ROUNDS = 3
PLAIN = 4
STACKS = 4


def plain_model(plan: Plan) -> torch.nn.Module:
    """Train one model the plain way, on the retain set."""
    retain = plan.problem.sets["retain"]
    batch = retain.batch(torch.arange(len(retain)))
    data = TensorDataset(batch.inputs, batch.targets)
    loader = DataLoader(data, batch_size=BATCH, shuffle=True, num_workers=0)
    model = plan.problem.untrained("plain")
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS * len(loader))
    for _ in range(EPOCHS):
        for inputs, targets in loader:
            optimiser.zero_grad()
            F.cross_entropy(model(inputs), targets).backward()
            optimiser.step()
            schedule.step()
    return model


def plain_rate(plan: Plan) -> float:
    """Models a minute of the plain loop, with all threads."""
    torch.set_num_threads(int(hardware()["cores"]))
    start = time.perf_counter()
    for _ in range(PLAIN):
        plain_model(plan)
    return 60 * PLAIN / (time.perf_counter() - start)


def expunge_rate(plan: Plan, store: Store, team: ProcessExecutor, first: int, cores: int) -> float:
    """Models a minute of the pool, once its processes are up."""
    timing = choose_engine(plan, store)
    size = block_size(timing)
    method = from_scratch(plan.problem, "retain", "oracle")
    seeds = range(first, first + size * STACKS * cores)
    groups = [tuple(seeds[i : i + size]) for i in range(0, len(seeds), size)]
    tasks = [MakeBlock(Block("oracle", method, group), timing) for group in groups]
    start = time.perf_counter()
    for _ in _finished(team, list(tasks), False):
        continue
    return 60 * len(seeds) / (time.perf_counter() - start)


def main() -> None:
    """Print both rates and their ratio."""
    cores = int(hardware()["cores"])
    plan = plan_for(replace(load("digits"), members=STACK))
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")
        make_problem(plan, store)
        timing = choose_engine(plan, store)
        team = ProcessExecutor(plan, store, cores)
        try:
            expunge_rate(plan, store, team, 10_000_000, cores)  # starts the processes
            rates = []
            for turn in range(ROUNDS):
                first = 1_000 * turn
                rates.append((plain_rate(plan), expunge_rate(plan, store, team, first, cores)))
        finally:
            team.stop()
    plain, ours = (statistics.median(side) for side in zip(*rates, strict=True))
    ratios = [b / a for a, b in rates]
    print(f"hardware: {hardware()}")
    print(f"one step, one member: looped {timing.looped:.2e} s, stacked {timing.vmapped} s")
    print(f"plain loop: {plain:.1f} models a minute; expunge: {ours:.1f}")
    print(f"ratio: {ours / plain:.1f} (rounds: {', '.join(f'{r:.1f}' for r in ratios)})")


if __name__ == "__main__":
    main()
