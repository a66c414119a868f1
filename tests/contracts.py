"""What every published method, loss, selector, step and guard must keep, as one table.

A contract takes a method and a world to forget in, does its checks with `assert`, and returns
nothing. `ON_IMAGES` and `ON_TEXTS` are the table: every word of a sentence lies in one of them
(tests/core/test_contracts.py says which is missing), so that a new word is held to all contracts.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn

import tiny
from brief import brief, brief_on_texts
from expunge.core.method import Method, Step
from expunge.core.problem import Problem
from expunge.core.receipt import Unlearned
from expunge.core.schedules import AdamW, Cosine, Warmup
from expunge.core.selector import Everything, Selector
from expunge.core.term import Pooled, Term
from expunge.core.vocabulary import in_full
from expunge.engine.training import Mixture, Negate, OneOptimiser, Repeat, Reset, Train
from expunge.experiments.experiment import parse
from expunge.methods.guardrails.guard import ULD, Guard
from expunge.methods.guardrails.prompts import ECO, Instruction, KeywordFilter
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
from expunge.methods.published import LANGUAGE, NAMED, PUBLISHED
from expunge.methods.published.language import CORRECTING
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
from expunge.methods.steps.adapter import LoRA
from expunge.methods.steps.classes import Expand, Impair, Strata
from expunge.methods.steps.constrained import PrimalDual, Rectify, SharpnessAware
from expunge.methods.steps.dampening import AdaptiveDampen, Dampen, FisherNoise
from expunge.methods.steps.edits import (
    Blend,
    Half,
    Noise,
    Remember,
    ShrinkPerturb,
    Teach,
    Transpose,
    Zero,
)
from expunge.methods.steps.influence import Newton, WoodFisher
from expunge.methods.steps.watched import Lotus, Rewind, Until
from expunge.unlearn import unlearn

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
    OneOptimiser((Repeat((Train(-CE("forget"), lr=0.001), Train(CE("retain"), batch=24)), 2),)),
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
PARTS: tuple[Selector, ...] = (
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
ON_IMAGES: dict[str, Method] = {
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


# Words that need a language model, and words of classifiers on texts: the same contracts.
ON_TEXTS: dict[str, Method] = {
    **{method.name: brief_on_texts(method) for method in (*LANGUAGE, *CORRECTING)},
    "LoRA": Method(
        "lora",
        (LoRA((Train(NPO("forget") + KL("retain"), lr=0.01, batch=4, optimiser=AdamW()),)),),
    ),
    "LoRA of SharpnessAware": Method("lora", (LoRA(brief_on_texts(NAMED["npo_sam"]).steps),)),
    "LoRA of PrimalDual": Method("lora", (LoRA(brief_on_texts(NAMED["pdu"]).steps),)),
    "Noise": Method("noise", (Noise(0.01),)),
    "Reset": Method("reset", (Reset(Last(1)), Train(CE("retain"), lr=0.003, batch=4))),
    "Zero": Method("prune", (Zero(Smallest(0.1)),)),
    "Dampen": Method("dampen", (Dampen(alpha=0.5),)),
    "Negate": Method("negate", (Negate(Train(CE("forget"), lr=0.003, batch=4), scale=0.5),)),
    "Salient": Method("salient", (Train(-CE("forget"), lr=0.003, where=Salient("forget", 0.3)),)),
    "Remember": Method("reset", (Remember(), Reset(), Train(KL("retain", "taught")))),
}
GUARDS: dict[str, Guard] = {
    "instruction": Instruction("I do not know."),
    "keywords": KeywordFilter(("Ada", "Bo", "Cy")),
    "eco": ECO(strength=30.0, dims=8, threshold=0.6),
    "uld": ULD(
        Train(
            CE("forget") + 0.5 * Uniform("retain"), epochs=60, lr=0.01, batch=4, optimiser=AdamW()
        ),
        layers=1,
        weight=2.0,
        rank=4,
        alpha=8.0,
    ),
}
SEED = 3


@dataclass(frozen=True)
class World:
    """A model and a problem to forget in."""

    model: nn.Module
    task: Problem

    def forget(self, method: Method, seed: int = 0) -> Unlearned:
        return unlearn(self.model, method, self.task, seed=seed)


Worlds = Callable[[Method], World]


def images(
    method: Method, architecture: Callable[[], nn.Module] = tiny.net, forget: int = 12
) -> World:
    task = tiny.fitting(method, forget, architecture=architecture)
    return World(tiny.made(architecture), task)


def texts(method: Method) -> World:
    import tiny_text  # lies beside the tests of texts

    return World(tiny_text.taught(), tiny_text.problem())


@dataclass(frozen=True)
class Done:
    """What one run of a method gave, and what it must not have changed."""

    at: World
    unlearned: Unlearned
    original_kept: bool
    generator_kept: bool


@cache
def done(method: Method, world: Worlds) -> Done:
    """One run, which several contracts look at."""
    at = world(method)
    twin, generator = copy.deepcopy(at.model), torch.get_rng_state()
    unlearned = at.forget(method, SEED)
    kept = torch.equal(generator, torch.get_rng_state())
    return Done(at, unlearned, tiny.same(at.model, twin), kept)


def changes_weights_and_keeps_shapes(method: Method, world: Worlds) -> None:
    run = done(method, world)
    before, after = run.at.model.state_dict(), run.unlearned.model.state_dict()
    assert before.keys() == after.keys()
    for name in before:
        assert after[name].shape == before[name].shape
        assert after[name].dtype == before[name].dtype
        assert torch.isfinite(after[name]).all()
    weights = run.unlearned.model.named_parameters()
    assert any(not torch.equal(before[name], weight) for name, weight in weights)
    assert 0 < run.unlearned.receipt.touched <= 1
    assert run.unlearned.receipt.moved > 0
    assert run.unlearned.receipt.largest > 0


def leaves_the_original_alone(method: Method, world: Worlds) -> None:
    assert done(method, world).original_kept
    assert done(method, world).generator_kept


def gives_the_same_bits_for_the_same_seed(method: Method, world: Worlds) -> None:
    first, again = done(method, world).unlearned, world(method).forget(method, SEED)
    assert tiny.same(first.model, again.model)
    receipts = [
        dataclasses.replace(one.receipt, seconds=0.0, processor_seconds=0.0)
        for one in (first, again)
    ]
    assert receipts[0] == receipts[1]


def reads_back_from_its_sentence(method: Method, world: Worlds) -> None:
    assert parse(repr(method)) == method
    read = parse(method.sentence)
    assert (read if isinstance(read, tuple) else (read,)) == method.steps


def keeps_its_key_when_it_is_read_back(method: Method, world: Worlds) -> None:
    assert in_full(parse(repr(method))) == in_full(method)


def touches_only_the_sets_it_names(method: Method, world: Worlds) -> None:
    receipts = [done(method, world).unlearned.receipt]
    if any(isinstance(step, Mixture) for step in method.steps):
        # seeds 0 and 1 go the two ways of a mixture, of which one may read fewer sets
        receipts = [world(method).forget(method, seed).receipt for seed in (0, 1)]
    # every set that is named is read
    assert {name for receipt in receipts for name in receipt.examples} == set(method.sets)


def gives_a_receipt_that_json_can_write(method: Method, world: Worlds) -> None:
    receipt = done(method, world).unlearned.receipt
    read = json.loads(json.dumps(dataclasses.asdict(receipt), allow_nan=False))
    assert read["method"] == method.sentence
    assert read["seed"] == SEED
    assert all(isinstance(n, int) and n > 0 for n in read["examples"].values())


def keeps_statistics_that_can_be_used(method: Method, world: Worlds) -> None:
    model: Any = done(method, world).unlearned.model
    assert isinstance(model[1], nn.BatchNorm2d)
    assert torch.isfinite(model[1].running_mean).all()
    assert (model[1].running_var >= 0).all()
    assert torch.isfinite(model(tiny.pictures().inputs)).all()


def works_with_one_example_to_forget(method: Method, world: Worlds) -> None:
    unlearned = images(method, forget=1).forget(method)
    assert torch.isfinite(unlearned.model(tiny.pictures().inputs)).all()


def works_without_normalisation(method: Method, world: Worlds) -> None:
    unlearned = images(method, tiny.plain).forget(method)
    assert torch.isfinite(unlearned.model(tiny.pictures().inputs)).all()


Contract = Callable[[Method, Worlds], None]
CONTRACTS: tuple[Contract, ...] = (
    changes_weights_and_keeps_shapes,
    leaves_the_original_alone,
    gives_the_same_bits_for_the_same_seed,
    reads_back_from_its_sentence,
    keeps_its_key_when_it_is_read_back,
    touches_only_the_sets_it_names,
    gives_a_receipt_that_json_can_write,
)
IMAGE_CONTRACTS: tuple[Contract, ...] = (
    *CONTRACTS,
    keeps_statistics_that_can_be_used,
    works_with_one_example_to_forget,
    works_without_normalisation,
)
