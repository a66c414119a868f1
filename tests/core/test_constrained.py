"""Descent under a constraint, at the worst weights nearby, and from shrunken weights: by hand."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny
from expunge.core.schedules import SGD
from expunge.core.term import Term
from expunge.engine.training import Train
from expunge.errors import BadSentence
from expunge.methods.cost import forecast
from expunge.methods.losses.answers import CE, KL, L1, Entropy
from expunge.methods.selectors.places import Last
from expunge.methods.sentences import as_method
from expunge.methods.steps.constrained import PrimalDual, SharpnessAware
from expunge.methods.steps.edits import Remember, ShrinkPerturb
from expunge.unlearn import unlearn

PLAIN = SGD(momentum=0.0)


def whole(objective: Term, **rest: Any) -> Train:
    """Every minibatch is the whole of both sets of twelve."""
    rest = {"lr": 0.1, "batch": 64, "optimiser": PLAIN, **rest}
    return Train(objective, **rest)


def task() -> Any:
    return tiny.problem(12, 24, architecture=tiny.plain)


def made() -> nn.Module:
    return tiny.made(tiny.plain)


def loss(model: nn.Module, name: str) -> Tensor:
    batch = task().data(name).batch(torch.arange(12))
    return nn.functional.cross_entropy(model(batch.inputs), batch.targets)


def slopes(model: nn.Module, name: str) -> list[Tensor]:
    return list(torch.autograd.grad(loss(model, name), list(model.parameters())))


def close(model: nn.Module, wanted: list[Tensor]) -> bool:
    pairs = zip(model.parameters(), wanted, strict=True)
    return all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)


def test_one_step_under_a_constraint_by_hand() -> None:
    step = PrimalDual(whole(-CE("forget")), CE("retain"), limit=0.5, weight=3.0)
    done = unlearn(made(), step, task())
    model = made().requires_grad_(True)
    pairs = zip(model.parameters(), slopes(model, "forget"), slopes(model, "retain"), strict=True)
    assert close(done.model, [w.detach() - 0.1 * (3 * r - f) for w, f, r in pairs])
    wanted = -loss(model, "forget").item() + 3 * (loss(model, "retain").item() - 0.5)
    assert done.receipt.curve[0][2] == pytest.approx(wanted, rel=1e-5)


def multipliers(step: PrimalDual, epochs: int) -> list[float]:
    """What the multiplier was at each minibatch of a model that hardly moves, from the losses."""
    still = replace(step, train=whole(CE("forget"), epochs=epochs, lr=1e-6))
    curve = unlearn(made(), still, task()).receipt.curve
    free, held = (loss(made(), name).item() for name in ("forget", "retain"))
    return [(told - free) / (held - step.limit) for _, _, told in curve]


def test_the_multiplier_follows_the_limit_once_it_is_warm() -> None:
    held = loss(made(), "retain").item()
    step = PrimalDual(
        whole(CE("forget")), CE("retain"), held - 0.2, weight=1.0, rate=2.0, warmup=2.0
    )
    # the first two minibatches leave it, each further one adds 2 times 0.2
    assert multipliers(step, 5) == pytest.approx([1.0, 1.0, 1.0, 1.4, 1.8], abs=1e-3)


def test_the_multiplier_falls_to_nothing_and_no_further() -> None:
    held = loss(made(), "retain").item()
    step = PrimalDual(
        whole(CE("forget")), CE("retain"), held + 0.2, weight=0.7, rate=2.0, warmup=0.0
    )
    assert multipliers(step, 4) == pytest.approx([0.7, 0.3, 0.0, 0.0], abs=1e-3)


def test_a_multiplier_that_rests_at_one_is_a_sum() -> None:
    rest = {"epochs": 3.0, "batch": 5, "over": "forget"}
    dual = PrimalDual(
        whole(-CE("forget"), **rest), CE("retain"), 0.0, weight=2.0, warmup=99.0, rate=9.0
    )
    plain = whole(-CE("forget") + 2.0 * CE("retain"), **rest)
    first, second = (unlearn(made(), step, task(), seed=3) for step in (dual, plain))
    assert close(first.model, list(second.model.parameters()))
    assert first.receipt.examples == second.receipt.examples


def test_a_constraint_in_pieces_is_the_same() -> None:
    step = PrimalDual(whole(-CE("forget"), epochs=3), CE("retain"), 0.1, warmup=0.0)
    cut = replace(step, train=replace(step.train, accumulate=3))
    assert close(
        unlearn(made(), cut, task()).model,
        list(unlearn(made(), step, task()).model.parameters()),
    )


def test_one_step_at_the_worst_weights_by_hand() -> None:
    step = SharpnessAware(whole(CE("retain") - CE("forget")), rho=0.5)
    done = unlearn(made(), step, task())
    model = made().requires_grad_(True)
    rising = [-slope for slope in slopes(model, "forget")]
    size = math.sqrt(sum(float(slope.square().sum()) for slope in rising))
    away = copy.deepcopy(model)
    with torch.no_grad():
        for weight, slope in zip(away.parameters(), rising, strict=True):
            weight.add_(0.5 / size * slope)
    sharp, kept = slopes(away, "forget"), slopes(model, "retain")
    pairs = zip(model.parameters(), sharp, kept, strict=True)
    assert close(done.model, [w.detach() - 0.1 * (r - f) for w, f, r in pairs])
    wanted = loss(model, "retain").item() - loss(away, "forget").item()
    assert done.receipt.curve[0][2] == pytest.approx(wanted, rel=1e-5)


def test_what_is_read_twice_is_counted_twice() -> None:
    step = SharpnessAware(whole(CE("retain") - CE("forget") + KL("forget"), batch=5))
    told = unlearn(made(), step, task()).receipt.examples
    assert told == {"forget": 24, "retain": 12}
    cost = forecast(as_method(step), task())
    assert cost.examples == told
    assert cost.answered == 24  # the original's answers on what is forgotten


def test_a_small_way_to_the_worst_is_plain_descent() -> None:
    objective, rest = CE("retain") - CE("forget"), {"epochs": 2.0, "batch": 5}
    near = SharpnessAware(whole(objective, **rest), rho=1e-6)
    first, second = (unlearn(made(), s, task()) for s in (near, whole(objective, **rest)))
    pairs = zip(first.model.parameters(), second.model.parameters(), strict=True)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in pairs)


def test_weights_come_back_bit_for_bit() -> None:
    """Adding and subtracting, as the reference does, would leave rounding behind."""
    where = Last(1)
    step = SharpnessAware(whole(CE("retain") - CE("forget"), where=where, epochs=3), rho=10.0)
    before, after = made(), unlearn(made(), step, task()).model
    pairs = list(zip(before.parameters(), after.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs[:2])
    assert not any(torch.equal(a, b) for a, b in pairs[2:])
    run = tiny.run(made(), task())
    SharpnessAware(whole(-CE("forget"), lr=0.0), rho=10.0)(run)
    assert tiny.same(run.model, made())


def test_weights_shrink_towards_nothing_or_xavier() -> None:
    before, after = made(), unlearn(made(), ShrinkPerturb(0.25), task()).model
    assert close(after, [0.75 * w for w in before.parameters()])
    fresh = unlearn(made(), ShrinkPerturb(1.0, noise=0.5), task()).model
    sizes = dict(fresh.named_parameters())
    assert bool((sizes["3.bias"] == 0).all())
    bound = 0.5 * math.sqrt(6 / (64 + 10))
    assert float(sizes["3.weight"].abs().max()) <= bound
    # uniform on (-b, b): standard deviation b / sqrt(3)
    assert float(sizes["3.weight"].std()) == pytest.approx(bound / math.sqrt(3), rel=0.1)
    part = unlearn(made(), ShrinkPerturb(0.5, where=Last(1)), task()).model
    assert torch.equal(next(part.parameters()), next(before.parameters()))


def test_what_is_remembered_is_the_model_as_it_was() -> None:
    run = tiny.run(made(), task())
    ShrinkPerturb(0.25)(run)
    Remember()(run)
    ShrinkPerturb(0.5)(run)
    pairs = zip(run.teacher("taught").parameters(), run.model.parameters(), strict=True)
    assert all(torch.allclose(0.5 * a, b) for a, b in pairs)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: PrimalDual(whole(CE("forget")), CE("retain"), 0.1, weight=-1.0),
        lambda: PrimalDual(whole(CE("forget")), CE("retain"), 0.1, rate=-1.0),
        lambda: PrimalDual(whole(CE("forget")), L1(), 0.1),
        lambda: SharpnessAware(whole(CE("forget")), rho=0.0),
        lambda: SharpnessAware(whole(Entropy("retain"))),
        lambda: ShrinkPerturb(0.0),
        lambda: ShrinkPerturb(1.1),
        lambda: ShrinkPerturb(0.5, noise=-1.0),
    ],
)
def test_sentences_that_make_no_sense(wrong: Any) -> None:
    with pytest.raises(BadSentence):
        wrong()
