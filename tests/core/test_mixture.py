"""Teachers made by a sentence, and members that go different ways."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import tiny
from expunge.core.method import Step
from expunge.core.receipt import Unlearned
from expunge.engine.run import Run, frozen
from expunge.engine.stacking import Engine, Looped, Vmapped, stackable, unlearn_runs
from expunge.engine.training import Mixture, Repeat, Reset, Train, unrolled
from expunge.errors import BadSentence
from expunge.methods.losses.answers import CE, KL, MSE
from expunge.methods.sentences import as_method
from expunge.methods.steps.edits import Noise, Teach, Transpose
from expunge.unlearn import unlearn


def test_a_taught_teacher_leaves_the_model_alone() -> None:
    run = tiny.run()
    Teach((Reset(), Repeat((Train(CE("retain"), batch=24),), 2)))(run)
    assert tiny.same(run.model, run.original)
    taught = run.teacher("taught")
    assert not taught.training
    assert all(
        (a != b).any() for a, b in zip(taught.parameters(), run.model.parameters(), strict=True)
    )
    assert run.counts.examples == {"retain": 96}
    assert (run.place, run.turn, run.optimisers) == ("", (0, 1), {})


def test_what_was_not_taught_cannot_teach() -> None:
    with pytest.raises(BadSentence, match="put Teach"):
        unlearn(tiny.made(), Train(KL("retain", teacher="taught")), tiny.problem())


TWICE = (
    Teach((Noise(0.5),)),
    Train(MSE("retain", teacher="taught"), batch=24, lr=0.001),
    Teach((Noise(0.5), Train(CE("retain"), batch=24))),
    Train(MSE("retain", teacher="taught"), batch=24, lr=0.001),
)
SHARES = (246, 266)
MIXED = Mixture(
    SHARES,
    (
        (Transpose(), Train(CE("retain"), batch=24)),
        (Noise(0.1), Repeat((Train(CE("retain") + KL("forget"), batch=24), Noise(0.01)), 2)),
    ),
)


def carry_out(seeds: tuple[int, ...], method: Any, engine: Engine) -> list[Unlearned]:
    original, runs = frozen(tiny.made()), []
    for seed in seeds:
        mine = copy.deepcopy(original).requires_grad_(True)
        runs.append(Run(mine, original, tiny.problem(), seed, memo={}))
    *_, done = unlearn_runs(runs, as_method(method), engine)
    assert isinstance(done, list)
    return done


def assert_same(ours: list[Unlearned], theirs: list[Unlearned]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        there = other.model.state_dict()
        for name, tensor in one.model.state_dict().items():
            torch.testing.assert_close(tensor, there[name], atol=1e-5, rtol=1e-4, msg=name)
        assert one.receipt.examples == other.receipt.examples
        assert one.receipt.seed == other.receipt.seed


def test_a_teacher_taught_again_is_heard_in_a_stack_too() -> None:
    stacked = carry_out((1, 2, 3), TWICE, Vmapped())
    assert {done.receipt.engine for done in stacked} == {"stacked of 3"}
    assert_same(stacked, carry_out((1, 2, 3), TWICE, Looped()))


@pytest.mark.parametrize("first", [0, 1, 777, 2**40, -300])
def test_of_512_members_in_a_row_the_shares_go_each_way(first: int) -> None:
    ways = [MIXED.way(seed) for seed in range(first, first + 512)]
    assert abs(ways.count(0) - 246) <= 2
    few = Mixture((1, 2, 1), (MIXED.ways[0],) * 3)
    found = [few.way(seed) for seed in range(first, first + 64)]
    assert [abs(found.count(way) - count) <= 2 for way, count in enumerate((16, 32, 16))] == [
        True
    ] * 3


def test_a_mixture_is_stacked_by_way() -> None:
    seeds = (0, 1, 2, 3, 4, 6)
    stacked = carry_out(seeds, (Noise(0.01), MIXED, Noise(0.01)), Vmapped())
    assert [MIXED.way(seed) for seed in seeds].count(0) == 3
    assert {done.receipt.engine for done in stacked} == {"stacked of 3"}
    assert [done.receipt.seed for done in stacked] == list(seeds)
    assert all("Mixture" in done.receipt.method for done in stacked)
    assert_same(stacked, carry_out(seeds, (Noise(0.01), MIXED, Noise(0.01)), Looped()))
    assert_same(stacked[2:3], carry_out((2,), (Noise(0.01), MIXED, Noise(0.01)), Looped()))


def test_members_of_different_ways_are_no_stack() -> None:
    original = frozen(tiny.made())
    runs = [Run(copy.deepcopy(original), original, tiny.problem(), seed) for seed in (0, 1)]
    assert "different ways" in stackable(runs, as_method(MIXED))


def test_a_mixture_inside_other_steps_asks_the_member() -> None:
    for seed in range(6):
        run, twin = tiny.run(seed=seed), tiny.run(seed=seed)
        Repeat((MIXED,), 1)(run)
        wanted = Repeat(MIXED.ways[MIXED.way(seed)], 1)
        assert dict(run.counts.examples) == dict(told(wanted, twin))
    plan = unrolled((Repeat((MIXED,), 2),), seed=0)
    assert [(place, turn) for place, turn, _ in plan] == [
        ("/0/0/0/0", (0, 2)),
        ("/0/0/0/1", (0, 2)),
        ("/0/0/0/0", (1, 2)),
        ("/0/0/0/1", (1, 2)),
    ]


def told(step: Step, run: Run) -> dict[str, int]:
    step(run)
    return run.counts.examples


@pytest.mark.parametrize(
    ("shares", "ways", "said"),
    [
        ((1, 1, 1), ((Noise(0.1),),) * 2, "3 shares for 2 ways"),
        ((1,), ((Noise(0.1),),), "two ways or more"),
        ((1, 0), ((Noise(0.1),),) * 2, "above 0"),
        ((1, -1), ((Noise(0.1),),) * 2, "above 0"),
        ((1, 1), ((Noise(0.1),), ()), "not empty"),
    ],
)
def test_mixtures_refuse(shares: Any, ways: Any, said: str) -> None:
    with pytest.raises(BadSentence, match=said):
        Mixture(shares, ways)
