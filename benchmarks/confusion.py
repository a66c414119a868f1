"""The confusion matrix of the verdict: models built to be each case, and what is said of them.

Usage: python benchmarks/confusion.py [--lm] [--seeds 20] [--store FOLDER]

Every seed has a forget set, originals, retrained models and cases of its own, so that seeds are
independent. What a seed gave is kept in FOLDER, one JSON file each; the same command goes on where
it was stopped, and ends with results.json and a table.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from expunge.core.machine import hardware
from expunge.statistics.counts import clopper_pearson

WORDS = ("removed", "suppressed", "not forgotten", "collapsed", "inconclusive")
Row = dict[str, Any]


def one_seed(kind: Any, seed: int) -> Row:
    """Build all cases of a seed, judge them, and say what it took."""
    start, processor = time.perf_counter(), time.process_time()
    where = kind.ground(seed)
    built = {name: build(where) for name, build in kind.CASES.items()}
    said = kind.judged(where, {name: one.model for name, one in built.items()})
    cases = {
        name: {"truth": one.truth, "hidden": one.hidden, **asdict(said[name])}
        for name, one in built.items()
    }
    took = time.perf_counter() - start, time.process_time() - processor
    return {"seed": seed, "cases": cases, "seconds": took[0], "processor_seconds": took[1]}


def kept(kind: Any, seed: int, folder: Path) -> Row:
    """What a seed gave, from its file if it is there."""
    file = folder / f"seed-{seed}.json"
    if not file.exists():
        part = file.with_suffix(".part")
        part.write_text(json.dumps(one_seed(kind, seed), indent=1) + "\n", "utf-8")
        os.replace(part, file)
    found: Row = json.loads(file.read_text("utf-8"))
    return found


def summed(rows: list[Row]) -> Row:
    """The matrix, with exact 95 % intervals of the share that is right."""
    cases = {}
    for name, first in rows[0]["cases"].items():
        said = Counter(row["cases"][name]["word"] for row in rows)
        cases[name] = {"truth": first["truth"], "said": {word: said[word] for word in WORDS}}
        cases[name]["hidden"] = [row["cases"][name]["hidden"] for row in rows]
    right = sum(one["said"][one["truth"]] for one in cases.values())
    total = len(rows) * len(cases)
    share = clopper_pearson(right, total)
    hiding = [one for one in cases.values() if one["truth"] == "suppressed"]
    missed = sum(one["said"]["removed"] for one in hiding)
    return {
        "seeds": len(rows), "cases": cases, "right": right, "of": total,
        "share": [share.value, share.low, share.high], "removed_for_suppressed": missed,
        "suppressed_models": len(rows) * len(hiding),
        "processor_seconds": sum(row["processor_seconds"] for row in rows),
        "seconds": sum(row["seconds"] for row in rows), "hardware": hardware(),
    }  # fmt: skip


def draw(found: Row) -> None:
    """Print the matrix."""
    print(f"{'built to be':<18} {'truth':<14} " + " ".join(f"{word:>13}" for word in WORDS))
    for name, one in found["cases"].items():
        said = " ".join(f"{one['said'][word] or '.':>13}" for word in WORDS)
        print(f"{name:<18} {one['truth']:<14} {said}")
    value, low, high = found["share"]
    print(
        f"Right: {found['right']} of {found['of']}, {value:.1%} ({low:.1%} to {high:.1%}); "
        f"removed said of suppressed models: {found['removed_for_suppressed']} of "
        f"{found['suppressed_models']}; {found['processor_seconds']:.0f} s of processor time."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--lm", action="store_true", help="language models; else classifiers")
    parser.add_argument("--seeds", type=int, default=0)
    parser.add_argument("--store", type=Path, default=None)
    told = parser.parse_args()
    torch.set_num_threads(1)
    name = "people" if told.lm else "classifiers"
    kind = importlib.import_module(f"known_truth.{name}")
    folder = told.store or Path("expunge-confusion") / name
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in range(told.seeds or (5 if told.lm else 20)):
        rows.append(kept(kind, seed, folder))
        said = {case: one["word"] for case, one in rows[-1]["cases"].items()}
        print(f"seed {seed}: {rows[-1]['seconds']:.0f} s, {said}", flush=True)
    found = summed(rows)
    (folder / "results.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    draw(found)


if __name__ == "__main__":
    main()
