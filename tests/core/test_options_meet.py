"""Every two options of `Train` together against a plain loop of torch that has both."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tiny
from expunge.core.schedules import SGD, Adam, Linear, Slowed, value
from expunge.core.selector import Everything
from expunge.engine.loop import SingleModel, minibatches
from expunge.engine.run import Run, run_steps
from expunge.engine.stacking import StackedModels
from expunge.engine.training import Train
from expunge.methods.losses.answers import CE
from expunge.methods.selectors.judged import Smallest
from expunge.methods.selectors.places import Last

# 0.02 binds at every minibatch of the tiny problem, masked or not
OPTIONS: dict[str, dict[str, Any]] = {
    "clip": {"clip": 0.02},
    "where, some weights": {"where": Smallest(0.5)},
    "where, some tensors": {"where": Last(1)},
    "slowed": {"slowed": Slowed(Smallest(0.3), 0.1)},
    "accumulate": {"accumulate": 3},
    "precision": {"precision": "bf16"},
    "adam": {"optimiser": Adam(weight_decay=0.1)},
    "schedule": {"lr": Linear(0.1)},
    "epochs": {"epochs": 0.7},
}
PAIRS = [
    pair
    for pair in itertools.combinations(OPTIONS, 2)
    if not OPTIONS[pair[0]].keys() & OPTIONS[pair[1]].keys()
]


def training(*names: str) -> Train:
    plain = Train(
        CE("retain"), epochs=2, lr=0.1, batch=10, optimiser=SGD(momentum=0.9, weight_decay=0.1)
    )
    changes: dict[str, Any] = {}
    for name in names:
        changes |= OPTIONS[name]
    return replace(plain, **changes)


def plain_loop(train: Train, run: Run) -> nn.Module:
    """What the options say, one after another, with torch's own optimiser and clipping."""
    net = copy.deepcopy(run.model).train()
    inside, before = run.mask(train.where), tiny.state(net)
    slow = run.mask(train.slowed.where) if train.slowed else {}
    free = {name: w for name, w in net.named_parameters() if inside[name].any()}
    optimiser = train.optimiser.over(free.values())
    orders = minibatches([run], "retain", 48, train.batch)
    total = round(train.epochs * 5)
    for number in range(total):
        batch = run.data("retain").batch(next(orders)[0])
        optimiser.param_groups[0]["lr"] = value(train.lr, number / total)
        optimiser.zero_grad()
        for part in range(train.accumulate):
            rows = slice(
                len(batch) * part // train.accumulate, len(batch) * (part + 1) // train.accumulate
            )
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=train.precision == "bf16"):
                each = F.cross_entropy(
                    net(batch.inputs[rows]), batch.targets[rows], reduction="sum"
                )
            (each / len(batch)).backward()
        for name, weight in free.items():
            weight.grad[~inside[name]] = 0.0
            if train.slowed:
                weight.grad[slow[name]] *= train.slowed.factor
        if train.clip:
            nn.utils.clip_grad_norm_(free.values(), train.clip)
        optimiser.step()
        with torch.no_grad():
            for name, weight in free.items():
                weight[~inside[name]] = before[name][~inside[name]]
    return net


@pytest.mark.parametrize("pair", PAIRS, ids=" and ".join)
def test_two_options_are_the_plain_loop_that_has_both(pair: tuple[str, str]) -> None:
    train, model = training(*pair), tiny.made(tiny.plain)
    run, other = tiny.run(model), tiny.run(model)
    other.place = "/0"
    twin = plain_loop(train, other)
    list(run_steps((train,), SingleModel(run)))
    for (name, ours), theirs in zip(run.model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-4, msg=f"{pair}: {name}")


@pytest.mark.parametrize("pair", PAIRS, ids=" and ".join)
def test_each_option_of_a_pair_counts(pair: tuple[str, str]) -> None:
    """Without either the weights are others, so that no option is lost where two meet."""
    trained = []
    for names in (pair, pair[:1], pair[1:]):
        run = tiny.run(tiny.made(tiny.plain))
        list(run_steps((training(*names),), SingleModel(run)))
        trained.append(run.model)
    both, *single = trained
    assert all(not tiny.same(both, other) for other in single)


@pytest.mark.parametrize("part", ["where, some weights", "where, some tensors", "slowed"])
def test_clip_in_a_stack_bounds_what_may_move(part: str) -> None:
    """Each model's own gradient, within its own part, as if it were trained alone."""
    train, model = training("clip", part), tiny.made(tiny.plain)
    runs = [tiny.run(model, seed=seed) for seed in (3, 11)]
    list(run_steps((train,), StackedModels(runs)))
    for run in runs:
        alone = tiny.run(model, seed=run.seed)
        alone.place = "/0"
        twin = plain_loop(train, alone)
        for ours, theirs in zip(run.model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-4)


def test_the_options_are_all_that_train_has() -> None:
    """A new field of `Train` gets a line above; `checkpointing` and teams are for texts."""
    met = {field for options in OPTIONS.values() for field in options}
    assert met | {"objective", "batch", "over", "checkpointing"} == set(vars(training()))
    assert training().where == Everything()
