"""Models per minute: expunge's way to train many members against a plain loop with a DataLoader.

The plain loop is what one writes first: one model after the other, `DataLoader(num_workers=0)`,
all threads. expunge: members stacked, one single-threaded process a core. Both train the digits
network by the same recipe for the same epochs, in float32, turn by turn in one run; the ratio is of
medians.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from expunge.core.machine import hardware
from expunge.core.store import Store
from expunge.engine.stacking import Timing
from expunge.engine.training import from_scratch
from expunge.experiments.executors import Executor, completed, executor
from expunge.experiments.experiment import load
from expunge.experiments.graph import MakeBlock, Workplace, build_workplace, run_task
from expunge.experiments.make import STACK, Block, block_size, choose_engine, make_problem
from expunge.experiments.plan import Plan
from expunge.experiments.planning import plan_for

EPOCHS = 10
BATCH = 32


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


def plain_rate(plan: Plan, models: int) -> float:
    """Models a minute of the plain loop, with all threads."""
    torch.set_num_threads(int(hardware()["cores"]))
    start = time.perf_counter()
    for _ in range(models):
        plain_model(plan)
    return 60 * models / (time.perf_counter() - start)


def expunge_rate(
    plan: Plan, timing: Timing, pool: Executor[Workplace], first: int, groups: int
) -> float:
    """Models a minute of the pool, once its processes are up."""
    size = block_size(timing)
    method = from_scratch(plan.problem, "retain", "oracle")
    tasks = []
    for start in range(first, first + size * groups, size):
        block = Block("oracle", method, tuple(range(start, start + size)))
        tasks.append(partial(run_task, MakeBlock(block, timing), False))
    begun = time.perf_counter()
    for _, outcome in completed(pool, tasks):
        assert outcome == "made"
    return 60 * size * groups / (time.perf_counter() - begun)


def main() -> None:
    """Print both rates and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plain", type=int, default=4, help="models of the plain loop, a round")
    parser.add_argument("--stacks", type=int, default=4, help="stacks a core of expunge, a round")
    asked = parser.parse_args()
    cores = int(hardware()["cores"])
    plan = plan_for(replace(load("digits"), members=STACK))
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")
        make_problem(plan, store)
        timing = choose_engine(plan, store)
        build = partial(build_workplace, plan.experiment, plan.settled, store.root)
        groups = asked.stacks * cores
        with executor((plan, store), build, cores) as pool:
            expunge_rate(plan, timing, pool, 10_000_000, groups)  # starts the processes
            rates = [
                (plain_rate(plan, asked.plain), expunge_rate(plan, timing, pool, first, groups))
                for first in range(0, 100_000 * asked.rounds, 100_000)
            ]
    plain, ours = (statistics.median(side) for side in zip(*rates, strict=True))
    ratios = [b / a for a, b in rates]
    print(f"hardware: {hardware()}")
    print(f"one step, one member: looped {timing.looped:.2e} s, stacked {timing.vmapped} s")
    print(f"plain loop: {plain:.1f} models a minute; expunge: {ours:.1f}")
    print(f"ratio: {ours / plain:.1f} (rounds: {', '.join(f'{r:.1f}' for r in ratios)})")


if __name__ == "__main__":
    main()
