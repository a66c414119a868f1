"""Say whether two stores hold the same results, bit for bit: the proof of a change that moves code.

python tools/compare_stores.py BEFORE AFTER

Products are matched by their keys. Tensors must be equal to the last bit, and so must what JSON
holds, but for times, hardware and versions. It ends with 1 where anything differs, or where one
store lacks a product that the other has.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

# What two runs of the same code do not share.
CLOCKS = (
    "seconds",
    "processor_seconds",
    "retraining_seconds",
    "time_share",
    "hardware",
    "versions",
    "digests",
)
# Kinds of products that hold times alone, or are addressed by what they say.
LEFT_OUT = ("timing", "summary", "experiment")


def products(store: Path) -> dict[str, Path]:
    """Every product of a store: kind/key -> its folder."""
    found = sorted(store.glob("*/*/*/job.json"))
    named = {f"{job.parts[-4]}/{job.parent.name}": job.parent for job in found}
    return {name: path for name, path in named.items() if name.partition("/")[0] not in LEFT_OUT}


def timeless(thing: Any) -> Any:
    """A record without what the clock decides."""
    if isinstance(thing, dict):
        return {key: timeless(value) for key, value in thing.items() if key not in CLOCKS}
    return [timeless(each) for each in thing] if isinstance(thing, list) else thing


def differences(before: Path, after: Path) -> list[str]:
    """What differs between two folders of one product."""
    names = {file.name for folder in (before, after) for file in folder.iterdir()}
    said = []
    for name in sorted(names):
        if not (before / name).exists() or not (after / name).exists():
            said.append(f"{name} is in one store alone")
        elif name.endswith(".json"):
            records = [json.loads((folder / name).read_text("utf-8")) for folder in (before, after)]
            if timeless(records[0]) != timeless(records[1]):
                said.append(f"{name} differs")
        elif (before / name).read_bytes() != (after / name).read_bytes():
            said.append(f"{name} differs")
    return said


def main() -> int:
    """Print what differs, and how many products are equal; return how the process should exit."""
    if len(sys.argv) != 3:
        print(__doc__)
        return 2
    before, after = (products(Path(name)) for name in sys.argv[1:])
    if not before:
        print(f"{sys.argv[1]} holds no product; name the folder of a store.")
        return 2
    wrong = {name: ["is in one store alone"] for name in before.keys() ^ after.keys()}
    equal: dict[str, int] = {}
    for name in sorted(before.keys() & after.keys()):
        if said := differences(before[name], after[name]):
            wrong[name] = said
        else:
            kind = name.partition("/")[0]
            equal[kind] = equal.get(kind, 0) + 1
    for name, said in sorted(wrong.items()):
        print(f"{name}: {'; '.join(said)}")
    print("equal: " + ", ".join(f"{count} {kind}" for kind, count in sorted(equal.items())))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
