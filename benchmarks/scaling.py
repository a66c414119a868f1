"""Cost against the number of members: seconds and peak memory at N = 64, 128, 256 and 512.

Each N runs the digits experiment with one method in a process of its own, from an empty store.
A straight line in N is expected, and memory that does not grow with N while models are made.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

CHILD = """
import resource, sys, time, torch
from dataclasses import replace
from pathlib import Path
from expunge.experiments.experiment import load
from expunge.experiments.graph import make
from expunge.experiments.planning import plan_for
from expunge.core.store import Store
torch.set_num_threads(1)
members, folder = int(sys.argv[1]), sys.argv[2]
whole = load("digits")
few = tuple(m for m in whole.methods if m.name == "finetune")
plan, store = plan_for(replace(whole, members=members, methods=few)), Store(folder)
start, peak, spent = time.perf_counter(), {}, {}
for piece in make(plan, store):
    spent[piece.stage] = time.perf_counter() - start
    peak[piece.stage] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
models, scores = spent["models"], spent["scores"] - spent["models"]
print(models, scores, peak["models"], peak["scores"])
"""


def measured(members: int) -> list[float]:
    """Seconds for models and for scores, and peak MiB in each, of one size."""
    with tempfile.TemporaryDirectory() as folder:
        place = str(Path(folder) / "store")
        command = [sys.executable, "-c", CHILD, str(members), place]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [float(number) for number in said.split()]


def main() -> None:
    """Print a row a size, and how straight the line is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256, 512])
    sizes = parser.parse_args().sizes
    print("N     models s  scores s  peak MiB models  peak MiB scores")
    rows = []
    for members in sizes:
        rows.append(measured(members))
        print(f"{members:<5} " + "  ".join(f"{number:8.1f}" for number in rows[-1]))
    totals = [row[0] + row[1] for row in rows]
    fit = np.corrcoef(sizes, totals)[0, 1] ** 2 if len(sizes) > 1 else 1.0
    print(f"R squared of seconds against N: {fit:.4f}")


if __name__ == "__main__":
    main()
