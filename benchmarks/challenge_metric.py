"""Speed and memory of epsilon: counting against the naive loop, and 512 v. 512 models.

Run from the root of the repository: python benchmarks/challenge_metric.py [--examples 5000]
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from expunge.metrics.challenge.quality import RULES, epsilons

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "metrics"))
from naive import released_epsilon

Floats = NDArray[np.float64]


def draw(models: int, examples: int, scale: float) -> tuple[Floats, Floats]:
    """Log odds of two groups of models: examples differ in place, width and shift."""
    rng = np.random.default_rng(0)
    place, shift = rng.normal(size=(2, examples)) * scale
    first, second = rng.normal(size=(2, models, examples)) * scale
    return first + place, second + place + 0.3 * shift


def seconds(task: Callable[[], Floats]) -> tuple[float, Floats]:
    """Wall-clock seconds of a task, and its answer."""
    start = time.perf_counter()
    answer = task()
    return time.perf_counter() - start, answer


def against_naive(scale: float, examples: int = 8) -> None:
    mine, theirs = draw(256, examples, scale)
    slow, expected = seconds(
        lambda: np.array([released_epsilon(a, b) for a, b in zip(mine.T, theirs.T, strict=True)])
    )
    epsilons(mine, theirs)
    fast, found = seconds(lambda: epsilons(mine, theirs))
    print(
        f"released, 256 v. 256, scale {scale:g}: naive {slow / examples:.3f} s an example, "
        f"counting {fast / examples * 1000:.3f} ms, {slow / fast:.0f} times faster, "
        f"largest difference {np.abs(found - expected).max():.1e}"
    )


def at_full_size(rule: str, scale: float, examples: int) -> None:
    mine, theirs = draw(512, examples, scale)
    took, _ = seconds(lambda: epsilons(mine, theirs, rule=rule))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{rule}, 512 v. 512, {examples} examples, scale {scale:g}: {took:.1f} s, "
        f"peak memory of the process {peak:.2f} GiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=5000)
    examples: int = parser.parse_args().examples
    for scale in (1.0, 3.0):
        against_naive(scale)
        for rule in RULES:
            at_full_size(rule, scale, examples)


if __name__ == "__main__":
    main()
