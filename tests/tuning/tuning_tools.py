"""An experiment on the digits so small that tuning it takes a second or two."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from expunge.core.store import Store
from expunge.experiments.experiment import Experiment, read
from expunge.experiments.tuning.evaluate import Bench
from expunge.experiments.tuning.held_out import held_out
from expunge.experiments.tuning.tune import Budget

TINY = """
name = "tiny"
problem = "digits"
forget = "RandomShare(0.02)"
members = 2
recipe = "Train(CE('train'), epochs=1, lr=0.1, batch=128)"
[methods]
finetune = { sentence = "Train(CE('retain'), epochs=0.2, lr=0.1, batch=128)", source = "a paper" }
noise = "Noise(0.05), Train(CE('retain'), epochs=0.15, lr=Cosine(0.1), batch=128)"
"""
FEW = Budget(trials=4, members=2, oracles=2, cost=0.5)


def experiment(**changes: str) -> Experiment:
    """The tiny experiment; a change is a line of its TOML, by its key."""
    text = TINY
    for key, value in changes.items():
        text = re.sub(rf"(?m)^{key} = .*$", f"{key} = {value}", text)
    return read(text, "a test")


def bench(folder: Path, oracles: int = 2, **changes: str) -> Bench:
    return Bench(held_out(experiment(**changes), oracles), Store(folder / "store"))


def ended(pieces: Any) -> Any:
    """The last thing that a generator yields."""
    *_, last = pieces
    return last


def words(sentence: str) -> tuple[str, ...]:
    """The words of a sentence in their order: what tuning never changes."""
    return tuple(re.findall(r"[A-Z]\w*|'\w+'", sentence))


def verdicts(store: Store) -> int:
    """How many sentences have been evaluated."""
    return len(list((store.root / "verdict").glob("*/*/job.json")))
