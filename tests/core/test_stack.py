"""Many members at once: stacked agrees with alone, and a member is defined by its seed alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

import tiny
from brief import brief
from expunge.core.batch import Indexed, Subset
from expunge.core.method import Method
from expunge.core.problem import Problem
from expunge.core.receipt import Unlearned
from expunge.core.schedules import Adam, AdamW, Cosine, Slowed
from expunge.core.seeds import KaimingFanOut
from expunge.core.term import Pooled
from expunge.engine.loop import Epoch
from expunge.engine.run import Run, frozen
from expunge.engine.stacking import (
    CannotStack,
    Engine,
    Looped,
    StackedModels,
    Vmapped,
    stackable,
    unlearn_runs,
)
from expunge.engine.training import Negate, Repeat, Reset, Train, unrolled
from expunge.methods.losses.answers import (
    CE,
    KL,
    L1,
    MSE,
    AdaptiveCE,
    Entropy,
    Repel,
    Tempered,
    Uniform,
)
from expunge.methods.losses.classes import (
    AnyClass,
    BalancedCE,
    Centroid,
    Nearest,
    OneClass,
    Relabel,
    WeightedCE,
)
from expunge.methods.losses.noise import Jittered, Lipschitz
from expunge.methods.losses.teachers import (
    EntropyMatch,
    Gumbel,
    Mistakes,
    Predicted,
    Reference,
    Without,
)
from expunge.methods.published import PUBLISHED
from expunge.methods.selectors.judged import Changed, FisherRatio, Random, Salient, Smallest
from expunge.methods.selectors.places import Convs, Last
from expunge.methods.sentences import as_method
from expunge.methods.steps.classes import Strata
from expunge.methods.steps.constrained import Rectify
from expunge.methods.steps.dampening import AdaptiveDampen, Dampen, FisherNoise
from expunge.methods.steps.edits import Blend, Noise, Teach, Zero
from expunge.methods.steps.influence import Newton, WoodFisher

SEEDS = (3, 11, 2**40)


def carry_out(runs: list[Run], method: Any, engine: Engine) -> list[Unlearned]:
    *epochs, done = unlearn_runs(runs, as_method(method), engine)
    assert all(isinstance(epoch, Epoch) for epoch in epochs)
    assert isinstance(done, list)
    return done


def assert_agree(ours: Sequence[Unlearned], theirs: Sequence[Unlearned]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        there = other.model.state_dict()
        for name, tensor in one.model.state_dict().items():
            torch.testing.assert_close(tensor, there[name], atol=1e-5, rtol=1e-4, msg=name)
        assert one.receipt.examples == other.receipt.examples
        assert one.receipt.seed == other.receipt.seed
        for (place, epoch, loss), told in zip(one.receipt.curve, other.receipt.curve, strict=True):
            assert (place, epoch) == told[:2]
            assert loss == pytest.approx(told[2], abs=1e-3, rel=1e-3)


def assert_stacked_as_alone(method: Any, **rest: Any) -> None:
    stacked = carry_out(tiny.runs_of(SEEDS, **rest), method, Vmapped())
    alone = carry_out(tiny.runs_of(SEEDS, **rest), method, Looped())
    assert {u.receipt.engine for u in stacked} == {"stacked of 3"}
    assert {u.receipt.engine for u in alone} == {"alone"}
    assert_agree(stacked, alone)
    assert not tiny.same(stacked[0].model, stacked[1].model)


def stacks(method: Method) -> bool:
    trains = [step for _, _, step in unrolled(method.steps) if isinstance(step, Train)]
    return bool(trains) and not any(train.where.redraws for train in trains)


@pytest.mark.parametrize("name", [name for name, m in PUBLISHED.items() if stacks(m)])
def test_published_methods_stacked_as_alone(name: str) -> None:
    method = brief(PUBLISHED[name])
    assert_stacked_as_alone(method, task=tiny.fitting(method))


WAYS = {
    "l1": Train(CE("retain") + 0.001 * L1(), batch=24),
    "l1 where": Train(CE("retain") + 0.01 * L1(), batch=24, where=Last(1)),
    "kl original": Train(KL("retain", temperature=2.0) - 0.1 * CE("forget"), batch=24),
    "kl random": Train(KL("forget", teacher="random") + CE("retain"), batch=24),
    "mse random": Train(MSE("forget", teacher="random") + MSE("retain"), batch=24),
    "relabel": Train(Relabel("forget") + CE("retain"), batch=24),
    "relabel alone": Train(Relabel("forget"), batch=5, epochs=2),
    "repel": Train(Repel("forget", "retain") - Entropy("forget"), batch=5, over="forget"),
    "uniform": Train(Uniform("forget"), batch=5),
    "class weights": Train(WeightedCE("forget") + BalancedCE("retain"), batch=24, epochs=2),
    "entropies": Train(EntropyMatch("retain") + CE("retain"), batch=24),
    "jittered": Train(Jittered(MSE("retain") + CE("forget"), 0.3), batch=24, epochs=2),
    "taught": (
        Teach((Reset(), Train(CE("retain"), batch=24))),
        Train(CE("retain") + Mistakes("forget"), batch=12),
    ),
    "slowed": (
        Reset(Random(0.5) & Convs(), draw=KaimingFanOut()),
        Train(CE("retain"), batch=24, epochs=2, slowed=Slowed(Convs() & ~Changed(), 0.1)),
    ),
    "partial": Train(CE("retain"), batch=24, epochs=2, where=Smallest(0.5)),
    "salient": Train(Relabel("forget"), batch=6, epochs=2, where=Salient("forget", 0.3)),
    "clip": Train(CE("retain"), batch=24, lr=0.1, clip=0.1),
    "adam": Train(CE("retain"), batch=24, epochs=2, lr=0.001, optimiser=Adam()),
    "adamw": Train(CE("retain"), batch=24, lr=0.001, optimiser=AdamW(), where=Smallest(0.7)),
    "repeat": (
        Train(CE("retain"), batch=24),
        Repeat((Train(CE("retain"), batch=24, lr=Cosine(0.05)), Noise(0.01)), 3),
        Train(CE("retain"), batch=24),
    ),
    "between": (
        Train(CE("retain"), batch=24),
        Reset(Last(1)),
        Zero(Smallest(0.2)),
        Noise(0.01, Random(0.5)),
        Train(CE("retain"), batch=24),
        Blend(0.3),
    ),
    "without": Train(Without("forget"), batch=5),
    "gumbel": Train(Pooled(Gumbel("forget", 2.0), Gumbel("retain", 0.0), 0.5), batch=5),
    "any class": Train(AnyClass("forget") + OneClass("forget"), batch=5, epochs=2),
    "reference": Train(Reference("forget", "val") + Tempered("retain"), batch=8, over="forget"),
    "nearest": Train(Nearest("forget"), batch=5),
    "centroid": Train(Centroid("forget") + 1.4 * Tempered("retain"), batch=8),
    "negate": (Negate(Train(CE("forget"), batch=6)), Train(CE("retain"), batch=24)),
    "curvature": (
        Train(CE("retain"), batch=24),
        Newton(CE("retain"), iterations=2, damping=1.0, scale=0.1),
        Dampen(alpha=1.0),
        Train(CE("retain"), batch=24),
    ),
    "influence": (
        Train(CE("retain"), batch=24),
        WoodFisher(alpha=0.5, examples=20, iterations=2),
        FisherNoise(alpha=1e-5),
        AdaptiveDampen(importance="output"),
        Train(CE("retain"), batch=24),
    ),
    "oracle": Train(KL("retain", teacher="oracle") + MSE("forget", teacher="oracle"), batch=24),
    "predicted": Train(Predicted(models=3) + MSE("retain"), batch=24, over="forget"),
    "adaptive": Train(-AdaptiveCE("forget"), batch=5, where=FisherRatio(), clip=1.0),
    "lipschitz": Train(Lipschitz("forget", samples=2), batch=5),
    "rectify": (
        Train(CE("retain"), batch=24),
        Rectify(-CE("forget"), CE("retain"), epochs=1, lr=0.001, batch=6),
        Strata(high=(Train(-CE("forget"), lr=0.001),)),
        Train(CE("retain"), batch=24),
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_ways_to_train_stacked_as_alone(way: str) -> None:
    assert_stacked_as_alone(WAYS[way])


@pytest.mark.parametrize(
    "steps",
    [
        Train(KL("retain") + Relabel("forget"), batch=24),
        Train(CE("retain"), batch=24, where=Smallest(0.5)),
        Train(Centroid("forget") + Nearest("forget"), batch=6),
        (Reset(Last(1)), Train(CE("retain"), batch=24), Blend(0.5)),
    ],
    ids=["teacher", "part", "facts", "blend"],
)
def test_paired_originals_stacked_as_alone(steps: Any) -> None:
    originals = [frozen(tiny.made(seed=seed)) for seed in range(3)]
    assert_stacked_as_alone(steps, originals=originals)


def test_models_without_normalisation_stack() -> None:
    task = tiny.problem(architecture=tiny.plain)
    originals = [frozen(tiny.made(tiny.plain))] * 3
    assert_stacked_as_alone(Train(CE("retain"), batch=24), task=task, originals=originals)


def test_one_forget_example_stacks() -> None:
    assert_stacked_as_alone(Train(Relabel("forget"), epochs=3), task=tiny.problem(1))


def test_statistics_and_their_counter_move_as_alone() -> None:
    stacked = carry_out(tiny.runs_of(SEEDS), Train(CE("retain"), batch=24), Vmapped())
    before = tiny.made()[1]
    for done in stacked:
        assert int(done.model[1].num_batches_tracked) == int(before.num_batches_tracked) + 2
        assert not torch.equal(done.model[1].running_var, before.running_var)
    assert not torch.equal(stacked[0].model[1].running_mean, stacked[1].model[1].running_mean)


@pytest.mark.parametrize("engine", [Looped(), Vmapped()])
def test_a_member_is_defined_by_its_seed_alone(engine: Engine) -> None:
    method = (Noise(0.01), Train(Relabel("forget") + KL("retain", teacher="random"), batch=24))
    three = carry_out(tiny.runs_of((5, 6, 7)), method, engine)
    five = carry_out(tiny.runs_of((9, 7, 5, 8, 6)), method, engine)
    assert_agree(three, [five[2], five[4], five[1]])


def test_stacking_leaves_the_original_alone() -> None:
    runs = tiny.runs_of(SEEDS)
    before = tiny.state(runs[0].original)
    carry_out(runs, Train(KL("retain") + CE("retain"), batch=24), Vmapped())
    assert all(torch.equal(before[n], t) for n, t in runs[0].original.state_dict().items())


class Pairs(Dataset[Any]):
    def __len__(self) -> int:
        return 60

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        data = tiny.pictures()
        return data.inputs[row], int(data.targets[row])


def lazy() -> Problem:
    return Problem.split(Pairs(), torch.arange(12), architecture=tiny.net)


def dropping_runs() -> list[Run]:
    originals = [frozen(tiny.made(tiny.dropping))] * 2
    return tiny.runs_of((1, 2), tiny.problem(architecture=tiny.dropping), originals)


def uneven_runs() -> list[Run]:
    """One of two originals has all its smallest weights in the first layer."""
    originals = [frozen(tiny.made(seed=seed)) for seed in range(2)]
    with torch.no_grad():
        originals[0][0].weight.mul_(1e-4)
        originals[1][4].weight.mul_(1e-4)
    return tiny.runs_of((1, 2), originals=originals)


RETAIN = Train(CE("retain"), batch=24)
UNSTACKABLE = [
    ("one model", lambda: tiny.runs_of((1,)), RETAIN),
    ("trains nothing", lambda: tiny.runs_of((1, 2)), Noise(0.1)),
    ("dropout", dropping_runs, RETAIN),
    ("from disk", lambda: tiny.runs_of((1, 2), lazy()), RETAIN),
    ("other weights", lambda: tiny.runs_of((1, 2)), Train(CE("retain"), where=Random(0.5))),
    (
        "other weights",
        lambda: tiny.runs_of((1, 2)),
        Repeat((Train(CE("retain"), where=Random(0.5)),), 2),
    ),
    ("may move in some", uneven_runs, Train(CE("retain"), batch=24, where=Smallest(0.05))),
]


@pytest.mark.parametrize(("reason", "make", "step"), UNSTACKABLE)
def test_what_cannot_be_stacked_is_looped_and_says_so(reason: str, make: Any, step: Any) -> None:
    method = as_method(step)
    assert reason in stackable(make(), method)
    done = carry_out(make(), method, Vmapped())
    assert {u.receipt.engine for u in done} == {"alone"}
    assert_agree(done, carry_out(make(), method, Looped()))


def test_a_stack_of_models_with_dropout_is_refused() -> None:
    with pytest.raises(CannotStack, match="Dropout"):
        StackedModels(dropping_runs())


def test_a_stack_with_uneven_parts_is_refused() -> None:
    with pytest.raises(CannotStack, match="may move in some"):
        StackedModels(uneven_runs()).masks(Smallest(0.05))


def test_stackable_says_nothing_of_what_can_be_stacked() -> None:
    assert stackable(tiny.runs_of(SEEDS), as_method(RETAIN)) == ""
    assert isinstance(tiny.problem().sets["forget"], Subset)
    assert isinstance(lazy().sets["train"], Indexed)
