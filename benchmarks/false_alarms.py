"""How often the attacks find something where there is nothing, and what they say of the controls.

Usage: python benchmarks/false_alarms.py [--members 512] [--repetitions 200] [--store FOLDER]

Retrains models of the digits without the forget set, draws disjoint groups of 64 against 64, and
plays all array attacks between them. Then the untouched original and the control sham, 64 models
each, against 64 retrained ones. With --store the models are kept, and made once.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from expunge.core.store import Store
from expunge.experiments.collect import gather
from expunge.experiments.experiment import load
from expunge.experiments.make import STACK, Block, blocks, choose_engine, make_block, make_problem
from expunge.experiments.plan import Plan
from expunge.experiments.planning import plan_for
from expunge.metrics.attacks.battery import (
    ALPHA,
    AttackResult,
    attacks_found,
    battery,
    battery_decision,
    disjoint_halves,
    run_attacks,
)
from expunge.metrics.attacks.games import Game, Readings, halves, read_answers
from expunge.statistics.counts import clopper_pearson

GROUP = 64


@dataclass(frozen=True, eq=False)
class World:
    """Answers of retrained models, of the original, and of the control sham."""

    oracles: Readings
    original: Readings
    sham: Readings
    seconds: float


def world(folder: Path, members: int) -> World:
    """Train what is missing, and read what all of them answer."""
    experiment = load("digits")
    sham = next(method for method in experiment.methods if method.name == "sham")
    plan = plan_for(dataclasses.replace(experiment, members=members, methods=(sham,)))
    store, start = Store(folder), time.perf_counter()
    make_problem(plan, store)
    engine = choose_engine(plan, store).engine
    for block in wanted(plan):
        make_block(plan, store, block, engine, wait=True)
    took, seeds = time.perf_counter() - start, plan.experiment.seeds
    groups = (
        [plan.oracle(seed) for seed in seeds],
        [plan.original(seeds[0])] * GROUP,
        [plan.unlearned(sham, seed) for seed in seeds[:GROUP]],
    )
    return World(*(read_answers(gather(plan, store, jobs)) for jobs in groups), took)


def wanted(plan: Plan) -> list[Block]:
    """The original, all retrained models, and one block of the sham."""
    every = blocks(plan, STACK)
    shams = [block for block in every if block.method.name == "sham"]
    return [block for block in every if block.kind in ("original", "oracle")] + shams[:1]


def null(oracles: Readings, repetitions: int, seed: int = 0) -> list[tuple[AttackResult, ...]]:
    """Play all attacks between disjoint groups of retrained models."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(repetitions):
        parts = disjoint_halves(len(oracles), GROUP, rng)
        found.append(run_attacks(Game(oracles, oracles, *parts)))
    return found


def against(group: Readings, oracles: Readings) -> tuple[str, tuple[str, ...]]:
    """The verdict on 64 models beside 64 retrained ones, and the attacks that find something."""
    rng = np.random.default_rng(1)
    parts = [halves(np.arange(GROUP), rng), halves(rng.permutation(len(oracles))[:GROUP], rng)]
    tried = run_attacks(Game(group, oracles, parts[0], parts[1]))
    return battery_decision(tried, ()).word, attacks_found(tried)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=512)
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--store", type=Path)
    given = parser.parse_args()
    if given.members < 2 * GROUP:
        parser.error(f"--members {given.members}: expected {2 * GROUP} or more, two groups.")
    with tempfile.TemporaryDirectory() as folder:
        made = world(given.store or Path(folder) / "store", given.members)
    print(f"{given.members} retrained models; {made.seconds:.0f} s to train what was missing")
    found = null(made.oracles, given.repetitions)
    rate = clopper_pearson(sum(bool(attacks_found(tried)) for tried in found), given.repetitions)
    print(
        f"family-wise false alarms, {GROUP} v. {GROUP}: {rate.value:.1%} "
        f"[{rate.low:.1%}, {rate.high:.1%}] of {given.repetitions}"
    )
    alone = Counter(
        one.name for tried in found for one in tried if one.effect and one.effect.p <= ALPHA
    )
    for one in found[0]:
        print(f"  {one.name:18} alone, before Holm {alone[one.name] / len(found):6.1%}")
    for name, group in (("nothing", made.original), ("sham", made.sham)):
        word, attacks = against(group, made.oracles)
        print(f"{name}: {word}, by {', '.join(attacks) or 'no attack'}")
    start = time.process_time()
    battery(made.oracles, made.oracles, made.original, np.random.default_rng(0))
    print(f"all of it for one method of {given.members}: {time.process_time() - start:.1f} s")


if __name__ == "__main__":
    main()
