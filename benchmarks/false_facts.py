"""What to do about false facts: forget, refuse, mark, correct or edit, compared on a small model.

Run from the root of the repository: python benchmarks/false_facts.py --out FOLDER [--seeds 6]
[--first 0]. Each seed is a world of its own, with an original, two references and every way; its
numbers are kept in FOLDER, so that the same command goes on, and two may share the work.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from false_world.falsehoods import false_world
from false_world.ways import LEARN, RELEARN, WAYS, Class, compare

from expunge.core.machine import hardware
from expunge.statistics.resample import over_models

Numbers = dict[str, dict[str, float]]


def made(folder: Path, seed: int) -> Numbers:
    """The numbers of one world, from its file where there is one."""
    file = folder / f"seed-{seed}.json"
    if not file.exists():
        start = time.perf_counter()
        found = compare(Class.of(false_world(seed), seed))
        print(f"seed {seed}: {time.perf_counter() - start:.0f} s", flush=True)
        part = file.with_suffix(".part")
        part.write_text(json.dumps(found), "utf-8")
        os.replace(part, file)
    read: Numbers = json.loads(file.read_text("utf-8"))
    return read


def summary(worlds: Sequence[Numbers]) -> dict[str, Any]:
    """Mean and 95 % interval over worlds of each number of each way."""
    rows: dict[str, Any] = {}
    for way, numbers in worlds[0].items():
        rows[way] = {}
        for name in numbers:
            values = np.array([world[way][name] for world in worlds])
            found = over_models(mean, [values], np.random.default_rng(0))
            ends = [min(max(end, 0.0), 1.0) for end in (found.low, found.high)]
            rows[way][name] = {"mean": found.value, "low": ends[0], "high": ends[1]}
    return rows


def mean(values: Any) -> float:
    return float(np.mean(values))


def record(folder: Path) -> dict[str, Any]:
    """All worlds that are there, with what they were made by."""
    files = sorted(folder.glob("seed-*.json"), key=lambda f: int(f.stem.partition("-")[2]))
    worlds = [json.loads(file.read_text("utf-8")) for file in files]
    return {
        "seeds": [int(file.stem.partition("-")[2]) for file in files],
        "ways": {way.name: ", ".join(map(repr, way.steps)) or "()" for way in WAYS},
        "learn": repr(LEARN),
        "relearn": repr(RELEARN),
        "hardware": hardware(),
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "summary": summary(worlds),
        "worlds": worlds,
    }


def table(rows: dict[str, Any]) -> str:
    """The means as a table in Markdown."""
    names = list(next(iter(rows.values())))
    lines = [f"| | {' | '.join(names)} |", f"|---|{'--:|' * len(names)}"]
    for way, numbers in rows.items():
        said = [f"{n['mean']:.2f} [{n['low']:.2f}, {n['high']:.2f}]" for n in numbers.values()]
        lines.append(f"| {way} | {' | '.join(said)} |")
    return "\n".join(lines)


def main() -> None:
    """Make what is missing; write results.json once three worlds are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--first", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.out.mkdir(parents=True, exist_ok=True)
    for seed in range(asked.first, asked.first + asked.seeds):
        made(asked.out, seed)
    if len(list(asked.out.glob("seed-*.json"))) < 3:
        return
    found = record(asked.out)
    (asked.out / "results.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    print(table(found["summary"]))


if __name__ == "__main__":
    main()
