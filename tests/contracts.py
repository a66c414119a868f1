"""What every published method and every step must keep, as one table.

A contract takes a way of forgetting and a small world, does its checks with `assert`, and returns
nothing. Tests go through `CONTRACTS`, so that a new method is held to all of them at once.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

import tiny
from brief import brief
from expunge import parse, unlearn
from expunge.core.method import Method, Step
from expunge.core.problem import Problem
from expunge.core.receipt import Unlearned
from expunge.core.schedules import Cosine, Warmup
from expunge.core.selector import Everything, Part
from expunge.core.term import Pooled, Term
from expunge.engine.training import Mixture, Negate, Repeat, Reset, Train
from expunge.methods.losses.answers import (
    CE,
    KL,
    L1,
    MSE,
    AdaptiveCE,
    Entropy,
    Flatten,
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
from expunge.methods.losses.likelihood import CEU, NPO, TNPO, WGA, SatImp, SimNPO
from expunge.methods.losses.noise import Jittered, Lipschitz
from expunge.methods.losses.teachers import (
    EntropyMatch,
    Generic,
    Gumbel,
    Mistakes,
    Predicted,
    Reference,
    TopKL,
    Undial,
    Without,
)
from expunge.methods.published import PUBLISHED
from expunge.methods.selectors.judged import (
    Changed,
    FisherRatio,
    Random,
    RandomTensors,
    Salient,
    Similar,
    Smallest,
)
from expunge.methods.selectors.places import Convs, First, Last, Named, Norms, Pointwise
from expunge.methods.steps.classes import Expand, Impair
from expunge.methods.steps.constrained import PrimalDual, Rectify, SharpnessAware
from expunge.methods.steps.dampening import AdaptiveDampen, Dampen, FisherNoise
from expunge.methods.steps.edits import Blend, Half, Noise, ShrinkPerturb, Transpose, Zero
from expunge.methods.steps.influence import Newton, WoodFisher
from expunge.methods.steps.strata import Strata
from expunge.methods.steps.teaching import Remember, Teach
from expunge.methods.steps.watched import Lotus, Rewind, Until

# Words that need a language model; tests/text holds them to the contracts.
TOKENS_ONLY = {
    "AdaptiveSteer",
    "DPO",
    "FLAT",
    "Instead",
    "LoRA",
    "LogLens",
    "Match",
    "Memit",
    "NoiseMatch",
    "RandomAnswers",
    "Rome",
    "Steer",
}
STEPS: tuple[Step, ...] = (
    Noise(0.05),
    Reset(),
    Zero(Smallest(0.5)),
    Dampen(alpha=0.5),
    Newton(CE("retain"), damping=1.0, iterations=3, scale=0.1),
    WoodFisher(alpha=0.5, examples=20, iterations=3),
    AdaptiveDampen(),
    FisherNoise(alpha=0.0001),
    Rectify(-CE("forget"), CE("retain"), epochs=1.5, lr=0.001, batch=8),
    PrimalDual(
        Train(Flatten("forget"), epochs=1.5, batch=8, lr=0.001), CE("retain"), 0.1, warmup=0.5
    ),
    SharpnessAware(Train(CE("retain") - CE("forget"), batch=8, lr=0.001)),
    ShrinkPerturb(0.1, noise=0.1),
    Strata(high=(Train(-CE("forget"), lr=0.001),)),
    Negate(Train(CE("forget"), batch=8, lr=0.001)),
    Train(CE("retain"), batch=24, lr=Warmup(0.01)),
    Repeat((Train(-CE("forget"), lr=0.001), Train(CE("retain"), batch=24)), 2),
    Until((Train(-CE("forget"), lr=0.001),), times=2),
    Rewind((Repeat((Train(-CE("forget"), lr=0.001), Train(CE("retain"), batch=24)), 2),)),
    Lotus(epochs=2, batch=8, margin=2.0),
    Expand(Train(OneClass("forget"), lr=0.001)),
    Impair(batch=8, copies=2, rounds=3, sample=2),
    Transpose(),
    Half(),
    Mixture((1, 2), ((Noise(0.05),), (Repeat((Train(CE("retain"), batch=24),), 2),))),
)
TERMS: tuple[Term, ...] = (
    CE("forget"),
    KL("forget", teacher="random", temperature=2.0),
    Uniform("forget"),
    Relabel("forget"),
    Repel("forget", "retain"),
    Entropy("forget"),
    MSE("forget", teacher="random"),
    KL("retain", teacher="oracle"),
    Predicted("forget", models=3) + MSE("retain"),
    -AdaptiveCE("forget"),
    Lipschitz("forget", samples=2),
    CE("retain") + Cosine(0.01) * L1(),
    Tempered("forget"),
    AnyClass("forget"),
    OneClass("forget"),
    Without("forget"),
    Gumbel("forget", temperature=2.0),
    Reference("forget", "val"),
    Nearest("forget"),
    Centroid("forget"),
    Pooled(Relabel("forget"), CE("retain"), share=0.5),
    WeightedCE("forget", (1.0, 0.05)),
    BalancedCE("forget"),
    EntropyMatch("forget", teacher="random"),
    CE("retain") + Mistakes("forget", teacher="random"),
    Jittered(MSE("forget", teacher="random"), 0.1),
    NPO("forget"),
    SimNPO("forget"),
    Undial("forget"),
    WGA("forget"),
    SatImp("forget"),
    CEU("forget"),
    Flatten("forget"),
    TNPO("forget", power=0.5),
    CE("retain") + TopKL("forget", likeliest=3),
)
PARTS: tuple[Part, ...] = (
    Everything(),
    First(1),
    Last(1),
    Convs(),
    Named(r"weight$"),
    Smallest(0.3),
    Salient("forget", 0.3),
    Similar("retain", "forget", 0.3),
    FisherRatio("forget", "retain", 1.0),
    Random(0.3),
    RandomTensors(1),
    ~Norms() & ~Pointwise() & ~Changed(),
    (First(1) | Last(1)) & ~Random(0.5),
)
METHODS: dict[str, Method] = {
    **{name: brief(method) for name, method in PUBLISHED.items() if method.steps},
    **{type(step).__name__: Method("a step", (step,)) for step in STEPS},
    **{repr(t): Method("a term", (Train(t, batch=8, lr=0.001),)) for t in TERMS},
    **{f"where {p!r}": Method("a part", (Noise(0.01, p),)) for p in PARTS},
    "Teach": Method(
        "a step",
        (
            Teach((Reset(), Train(CE("retain"), batch=24))),
            Train(KL("forget", teacher="taught") + CE("retain"), batch=24),
        ),
    ),
    "Generic": Method(
        "a term",
        (
            Teach((Train(CE("forget"), batch=8, lr=0.01),)),
            Train(Generic("forget", strength=0.5), batch=8, lr=0.01),
        ),
    ),
    "Remember": Method(
        "a step",
        (
            Train(Flatten("forget"), batch=8, lr=0.001),
            Remember(),
            ShrinkPerturb(0.1),
            Train(KL("retain", teacher="taught"), batch=24),
        ),
    ),
    "Blend(0.5)": Method("a step", (Noise(0.05), Blend(0.5))),
}


@dataclass(frozen=True)
class World:
    """A model and a problem to forget in."""

    model: nn.Module
    task: Problem

    def forget(self, method: Method, seed: int = 0) -> Unlearned:
        return unlearn(self.model, method, self.task, seed=seed)


def world(
    method: Method, architecture: Callable[[], nn.Module] = tiny.net, forget: int = 12
) -> World:
    task = tiny.fitting(method, forget, architecture=architecture)
    return World(tiny.made(architecture), task)


def changes_weights_and_keeps_shapes(method: Method) -> None:
    at = world(method)
    done = at.forget(method)
    before, after = at.model.state_dict(), done.model.state_dict()
    assert before.keys() == after.keys()
    for name in before:
        assert after[name].shape == before[name].shape
        assert after[name].dtype == before[name].dtype
        assert torch.isfinite(after[name]).all()
    assert any(not torch.equal(before[n], w) for n, w in done.model.named_parameters())
    assert 0 < done.receipt.touched <= 1
    assert done.receipt.moved > 0
    assert done.receipt.largest > 0


def leaves_the_original_alone(method: Method) -> None:
    at = world(method)
    twin, generator = copy.deepcopy(at.model), torch.get_rng_state()
    at.forget(method)
    assert tiny.same(at.model, twin)
    assert torch.equal(generator, torch.get_rng_state())


def gives_the_same_bits_for_the_same_seed(method: Method) -> None:
    at = world(method)
    first, again = at.forget(method, 5), at.forget(method, 5)
    assert tiny.same(first.model, again.model)
    told = [
        dataclasses.replace(d.receipt, seconds=0.0, processor_seconds=0.0) for d in (first, again)
    ]
    assert told[0] == told[1]


def reads_back_from_its_sentence(method: Method) -> None:
    assert parse(repr(method)) == method
    read = parse(method.sentence)
    assert (read if isinstance(read, tuple) else (read,)) == method.steps


def touches_only_the_sets_it_names(method: Method) -> None:
    # seeds 0 and 1 go the two ways of a mixture, of which one may read fewer sets
    mixed = any(isinstance(step, Mixture) for step in method.steps)
    told = [world(method).forget(method, seed).receipt for seed in ((0, 1) if mixed else (0,))]
    # every set that is named is read
    assert {name for receipt in told for name in receipt.examples} == set(method.sets)


def keeps_statistics_that_can_be_used(method: Method) -> None:
    at = world(method)
    model = at.forget(method).model
    assert isinstance(model[1], nn.BatchNorm2d)
    assert torch.isfinite(model[1].running_mean).all()
    assert (model[1].running_var >= 0).all()
    assert torch.isfinite(model(tiny.pictures().inputs)).all()


def works_with_one_example_to_forget(method: Method) -> None:
    done = world(method, forget=1).forget(method)
    assert torch.isfinite(done.model(tiny.pictures().inputs)).all()


def works_without_normalisation(method: Method) -> None:
    done = world(method, tiny.plain).forget(method)
    assert torch.isfinite(done.model(tiny.pictures().inputs)).all()


def gives_a_receipt_that_json_can_write(method: Method) -> None:
    told = world(method).forget(method, 3).receipt
    read = json.loads(json.dumps(dataclasses.asdict(told), allow_nan=False))
    assert read["method"] == method.sentence
    assert read["seed"] == 3
    assert all(isinstance(n, int) and n > 0 for n in read["examples"].values())


CONTRACTS: tuple[Callable[[Method], None], ...] = (
    changes_weights_and_keeps_shapes,
    leaves_the_original_alone,
    gives_the_same_bits_for_the_same_seed,
    reads_back_from_its_sentence,
    touches_only_the_sets_it_names,
    keeps_statistics_that_can_be_used,
    works_with_one_example_to_forget,
    works_without_normalisation,
    gives_a_receipt_that_json_can_write,
)
