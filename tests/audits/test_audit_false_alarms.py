"""The audits of an experiment, read together: false alarms among retrained models, few enough."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from expunge.audits.finding import shown
from expunge.audits.images.answers import ForgetConfidence, OverUnlearning
from expunge.audits.images.relearn import Prune, Quantise, Relearn
from expunge.core.store import Store
from expunge.statistics.counts import clopper_pearson

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "audit_false_alarms.py"
AUDITS = (ForgetConfidence(), Quantise(bits=4), Prune(), Relearn(), OverUnlearning())
GROUP, RUNS = 16, 100
# A false alarm may be raised in 5 % of draws; more than this is once in 10,000.
MOST = int(binom.isf(1e-4, RUNS, 0.05))
TINY = """
name = "tiny"
problem = "digits"
forget = "WholeClass(3)"
protocol = "paired"
members = 4
audits = ["ForgetConfidence()", "Prune()"]
audited = 3
recipe = "Train(CE('train'), epochs=1, lr=0.1, batch=128)"
[methods]
finetune = "Train(CE('retain'), epochs=0.3, lr=0.1, batch=128)"
"""
Draw = Callable[[np.random.Generator, int], Any]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit_false_alarms", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def pool(bench: ModuleType, draw: Draw, models: int, grain: float = 0.0) -> list[Any]:
    """Readings of audits that see much the same thing, with originals far away."""
    rng, common = np.random.default_rng(3), draw(np.random.default_rng(2), models)
    made = []
    for audit in AUDITS:
        values = 0.7 * common + 0.7 * draw(rng, models)
        far = values.mean() + 5 * values.std() * (1 if audit.more == "knows more" else -1)
        starts = far + draw(rng, 4 * GROUP)
        if grain:
            values, starts = (np.round(one / grain) * grain for one in (values, starts))
        made.append(bench.Read(audit, tuple(values), tuple(starts), grain))
    return made


WORLDS: dict[str, tuple[Draw, float]] = {
    "normal": (lambda rng, n: rng.normal(size=n), 0.0),
    "skewed": (lambda rng, n: rng.exponential(size=n), 0.0),
    "heavy tails": (lambda rng, n: rng.standard_t(2, size=n), 0.0),
    "whole steps": (lambda rng, n: rng.normal(size=n), 1.0),
}


@pytest.mark.parametrize(("draw", "grain"), WORLDS.values(), ids=WORLDS)
def test_in_worlds_without_a_difference_the_family_keeps_its_level(
    bench: ModuleType, draw: Draw, grain: float
) -> None:
    told = bench.told(bench.apart(pool(bench, draw, 2 * GROUP * RUNS, grain), GROUP, 0))
    assert told["n"] == RUNS
    assert told["alarms"] <= MOST


def test_every_audit_alone_would_raise_too_many(bench: ModuleType) -> None:
    """Twenty audits that see different things: it is Holm that keeps the family's level."""
    rng = np.random.default_rng(0)
    audits = [Quantise(bits=bits) for bits in range(2, 12)]
    audits += [Prune(share=share / 20) for share in range(1, 11)]
    read = [
        bench.Read(one, tuple(rng.normal(size=1600)), tuple(5 + rng.normal(size=64)), 0.0)
        for one in audits
    ]
    trials = bench.apart(read, GROUP, 0)
    alone = sum(any(map(bench.small, one)) for one in trials)
    assert alone > 20 > sum(bool(shown(one)) for one in trials)


def test_groups_share_no_model_and_trials_apart_neither(bench: ModuleType) -> None:
    numbers = tuple(float(i) for i in range(20))
    read = [bench.Read(OverUnlearning(), numbers, numbers[:8], 0.0)]
    for one in bench.drawn(read, 4, 30, 0):
        assert len({*one[0].subject, *one[0].oracle}) == 8
        assert len(set(one[0].original)) == 4
    trials = bench.apart(read, 4, 0)
    used = [value for one in trials for value in (*one[0].subject, *one[0].oracle)]
    assert len(trials) == 2
    assert len(used) == len(set(used)) == 16


def test_what_is_told_is_counted(bench: ModuleType) -> None:
    rng = np.random.default_rng(0)
    far = [bench.Read(ForgetConfidence(), (*range(4), *range(100, 104)), (200.0, 201.0), 0.0)]
    halves = np.arange(4), np.arange(4, 8)
    trials = [bench.trial(far, *halves, np.arange(2)) for _ in range(3)]
    near = [bench.Read(ForgetConfidence(), tuple(rng.normal(size=8)), (200.0, 201.0), 0.0)]
    trials.append(bench.trial(near, *halves, np.arange(2)))
    told, rate = bench.told(trials), clopper_pearson(3, 4)
    assert (told["alarms"], told["n"], told["value"]) == (3, 4, 0.75)
    assert (told["low"], told["high"]) == (rate.low, rate.high)
    assert told["alone"] == {"ForgetConfidence()": 0.75}
    assert told["verdicts"]["found"] == 3


def test_readings_are_made_once_and_are_those_of_the_experiment(
    bench: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    store = Store(tmp_path / "store")
    read, group = bench.readings(store, str(tmp_path / "tiny.toml"), 7)
    assert (group, [one.audit for one in read]) == (3, [ForgetConfidence(), Prune()])
    for one in read:
        assert (len(set(one.retrained)), len(set(one.original))) == (7, 7)
        assert np.mean(one.original) > np.mean(one.retrained)
    made = sorted(path.stat().st_mtime_ns for path in store.root.rglob("job.json"))
    again, _ = bench.readings(store, str(tmp_path / "tiny.toml"), 7)
    assert again == read
    assert sorted(path.stat().st_mtime_ns for path in store.root.rglob("job.json")) == made
