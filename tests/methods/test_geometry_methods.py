"""Layer surgery, rectified gradients, adaptive weights and smoothness: twins and cases by hand."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tiny
from brief import brief
from expunge.core.method import Step
from expunge.core.schedules import SGD, AdamW, Linear
from expunge.core.term import Term
from expunge.core.view import View
from expunge.engine.loop import SingleModel
from expunge.engine.run import Run, run_steps
from expunge.engine.training import Negate, Repeat, Reset, Train, unrolled
from expunge.errors import BadSentence, Unsupported
from expunge.methods.losses.answers import CE, AdaptiveCE
from expunge.methods.losses.noise import Lipschitz
from expunge.methods.losses.other_answers import gaussian
from expunge.methods.published import PUBLISHED
from expunge.methods.published.weights import GEOMETRY
from expunge.methods.selectors.judged import FisherRatio, Salient
from expunge.methods.selectors.places import Last
from expunge.methods.steps.constrained import Rectify, rectified
from expunge.unlearn import unlearn

PLAIN = SGD(momentum=0.0)


def carry_out(run: Run, *steps: Step) -> Run:
    list(run_steps(steps, SingleModel(run)))
    return run


def moved(run: Run) -> dict[str, Tensor]:
    before = dict(run.original.named_parameters())
    return {n: w.detach() - before[n] for n, w in run.model.named_parameters()}


# -- the last k layers ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cf_k", "eu_k"])
def test_only_the_last_k_layers_move(name: str) -> None:
    method = brief(PUBLISHED[name])
    one = replace(method, steps=tuple(replace(s, where=Last(1)) for s in method.steps))
    done = unlearn(tiny.made(), one, tiny.problem())
    before = tiny.made().state_dict()
    changed = {n for n, t in done.model.state_dict().items() if not torch.equal(t, before[n])}
    assert changed == {"4.weight", "4.bias"}  # no statistics either


def test_eu_k_starts_from_fresh_layers_and_cf_k_does_not() -> None:
    cf, eu = PUBLISHED["cf_k"].steps, PUBLISHED["eu_k"].steps
    (train,) = cf
    assert isinstance(train, Train)
    assert eu == (Reset(train.where), train)
    barely = [Train(CE("retain"), lr=1e-9, where=Last(1))]
    kept = carry_out(tiny.run(), *barely)
    fresh = carry_out(tiny.run(), Reset(Last(1)), *barely)
    assert float(moved(kept)["4.weight"].abs().max()) < 1e-6
    assert float(moved(fresh)["4.weight"].abs().max()) > 0.05


@pytest.mark.parametrize("name", ["cf_k", "eu_k"])
def test_the_learning_rate_is_honoured(name: str) -> None:
    # fault of a port: of two learning-rate arguments, one was ignored
    def after(lr: float) -> dict[str, Tensor]:
        steps: list[Any] = [replace(s, where=Last(1)) for s in PUBLISHED[name].steps]
        steps[-1] = replace(steps[-1], epochs=1, batch=48, lr=lr, optimiser=PLAIN)
        run = carry_out(tiny.run(), *steps[:-1])
        start = tiny.state(run.model)
        run.place = f"/{len(steps) - 1}"
        steps[-1](run)
        return {n: w.detach() - start[n] for n, w in run.model.named_parameters()}

    once, twice = after(0.01), after(0.02)
    torch.testing.assert_close(twice["4.weight"], 2 * once["4.weight"], atol=1e-6, rtol=1e-3)
    assert float(once["4.weight"].abs().max()) > 1e-5


# -- SFRon ------------------------------------------------------------------------------------


def test_adaptive_weights_by_hand() -> None:
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 3.0, 0.0]], dtype=torch.float64)
    view = tiny.view({"forget": logits}, {"forget": torch.tensor([0, 1, 0])})
    losses = [math.log(1 + 2 * math.exp(-2)), math.log(3), math.log(2 + math.exp(3))]
    shares = [loss**-0.5 for loss in losses]
    wanted = sum(w * x for w, x in zip(shares, losses, strict=True)) / sum(shares)
    assert float(AdaptiveCE("forget")(view)) == pytest.approx(wanted, rel=1e-9)
    assert float(AdaptiveCE("forget", power=0.0)(view)) == pytest.approx(sum(losses) / 3)


def test_no_slope_passes_through_the_adaptive_weights() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]], dtype=torch.float64, requires_grad=True)
    AdaptiveCE("forget")(tiny.view({"forget": logits}, {"forget": torch.tensor([0, 0])})).backward()
    losses = F.cross_entropy(logits.detach(), torch.tensor([0, 0]), reduction="none")
    share = losses**-0.5 / (losses**-0.5).sum()
    slope = logits.detach().softmax(-1) - torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, share[:, None] * slope)


def test_an_example_that_is_fit_perfectly_takes_all_the_weight_and_breaks_nothing() -> None:
    logits = torch.tensor([[200.0, 0.0], [0.0, 1.0]], requires_grad=True)
    told = AdaptiveCE("forget")(tiny.view({"forget": logits}, {"forget": torch.tensor([0, 0])}))
    told.backward()
    assert float(told.detach()) == pytest.approx(0.0, abs=1e-6)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_sfron_forgets_at_every_fifth_minibatch_inside_the_mask() -> None:
    ((repeat,),) = (step.steps for step in PUBLISHED["sfron"].steps)
    assert isinstance(repeat, Repeat)
    plan = unrolled((replace(repeat, times=3),))
    said = ["forget" if step.objective.sets == ("forget",) else "retain" for _, _, step in plan]
    assert said == ["forget", *["retain"] * 5] * 3
    assert repeat.times * 5 == 1500
    run = carry_out(tiny.run(), replace(repeat, times=3))
    assert run.counts.examples == {"forget": 3 * 12 + 12, "retain": 48 + 15 * 48}
    forget = plan[0][2]
    run = carry_out(tiny.run(), forget)
    mask = run.mask(FisherRatio("forget", "retain", 1.0))
    for name, by in moved(run).items():
        assert (by[~mask[name]] == 0).all()  # bit for bit, weight decay or not
    assert any((by != 0).any() for by in moved(run).values())


# -- GDR-GMA ----------------------------------------------------------------------------------


def test_conflicting_gradients_by_hand() -> None:
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 1.0])
    ours, theirs = rectified(a, b)
    assert torch.allclose(ours, torch.tensor([0.5, 0.5]))  # a + b / 2
    assert torch.allclose(theirs, torch.tensor([0.0, 1.0]))  # b + a
    same = rectified(a, torch.tensor([1.0, 1.0]))
    assert torch.equal(same[0], a)
    assert torch.equal(same[1], torch.tensor([1.0, 1.0]))
    assert all(torch.equal(x, torch.zeros(2)) for x in rectified(torch.zeros(2), torch.zeros(2)))


def test_each_rectified_gradient_is_normal_to_the_other() -> None:
    generator = torch.Generator().manual_seed(1)
    conflicts = 0
    for _ in range(50):
        a, b = torch.randn(2, 7, generator=generator, dtype=torch.float64)
        ours, theirs = rectified(a, b)
        if a @ b < 0:
            conflicts += 1
            assert abs(float(ours @ b)) < 1e-12
            assert abs(float(theirs @ a)) < 1e-12
        else:
            assert torch.equal(ours, a)
    assert 10 < conflicts < 40


def slope(model: nn.Module, name: str, sign: float) -> tuple[float, dict[str, Tensor]]:
    """Cross-entropy of a whole set in training mode, and sign times its gradient."""
    twin = copy.deepcopy(model).requires_grad_(True).train()
    data = tiny.problem().data(name)
    batch = data.batch(torch.arange(len(data)))
    loss = F.cross_entropy(twin(batch.inputs), batch.targets)
    found = torch.autograd.grad(sign * loss, list(twin.parameters()))
    return float(loss.detach()), dict(
        zip((n for n, _ in twin.named_parameters()), found, strict=True)
    )


@pytest.mark.parametrize(("sharpness", "target"), [(100.0, 0.02), (1.0, 2.0), (0.0, 0.0)])
def test_one_rectified_step_is_the_slow_twin(sharpness: float, target: float) -> None:
    step = Rectify(
        -CE("forget"),
        CE("retain"),
        epochs=1,
        lr=0.5,
        batch=60,
        optimiser=PLAIN,
        sharpness=sharpness,
        target=target,
    )
    run = carry_out(tiny.run(), step)
    loss, keeping = slope(run.original, "retain", 1.0)
    _, leaving = slope(run.original, "forget", -1.0)
    share = 1 / (1 + math.exp(sharpness * (loss - target)))
    conflicts = 0
    for name, by in moved(run).items():
        a, b = leaving[name], keeping[name]
        if (inner := (a * b).sum()) < 0:
            conflicts += 1
            a, b = a - inner / (b * b).sum() * b, b - inner / (a * a).sum() * a
        torch.testing.assert_close(by, -0.5 * (share * a + (1 - share) * b), atol=2e-6, rtol=1e-3)
    assert conflicts > 0
    assert run.counts.examples == {"forget": 12, "retain": 48} == step.reads(tiny.problem())


def test_forgetting_rests_while_the_retain_loss_is_high() -> None:
    step = Rectify(-CE("forget"), CE("retain"), epochs=1, lr=0.5, batch=60, optimiser=PLAIN)
    run = carry_out(tiny.run(), step)  # the tiny model's loss is far above 0.02
    alone = carry_out(tiny.run(), replace(step, forget=CE("forget"), sharpness=100.0))
    for name, by in moved(run).items():
        _, keeping = slope(run.original, "retain", 1.0)
        _, leaving = slope(run.original, "forget", -1.0)
        _, b = rectified(leaving[name], keeping[name])
        torch.testing.assert_close(by, -0.5 * b, atol=2e-6, rtol=1e-3)
    assert not tiny.same(run.model, alone.model)


def test_a_rectified_descent_lasts_as_long_as_it_says_and_follows_its_schedule() -> None:
    step = Rectify(-CE("forget"), CE("retain"), epochs=3, lr=Linear(0.1), batch=6, optimiser=PLAIN)
    run = carry_out(tiny.run(), step)
    assert run.counts.examples == {"forget": 36, "retain": 36} == step.reads(tiny.problem())
    (optimiser,) = run.optimisers.values()
    assert optimiser.param_groups[0]["lr"] == pytest.approx(0.1 / 6)  # 0.1 (1 - 5/6)
    turns = carry_out(tiny.run(), Repeat((replace(step, epochs=1),), 3))
    (kept,) = turns.optimisers.values()
    assert kept.param_groups[0]["lr"] == pytest.approx(0.1 / 6)


# -- JiT --------------------------------------------------------------------------------------


def see(inputs: Tensor, weight: Tensor, progress: float = 0.25, seed: int = 3) -> View:
    batch = tiny.Images(inputs, torch.zeros(len(inputs)).long(), torch.arange(len(inputs)) + 7)
    return View(lambda x: x.flatten(1) @ weight, {"forget": batch}, {}, {}, progress, seed)


def test_the_lipschitz_constant_by_loops() -> None:
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(3, 1, 2, 2, generator=generator, dtype=torch.float64)
    weight = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    told = float(Lipschitz("forget", std=0.3, samples=4)(see(inputs, weight)))
    total, low, high = 0.0, float(inputs.min()), float(inputs.max())
    for number in range(4):
        salt = int(0.25 * 2**40) * 4 + number
        noise = gaussian(torch.arange(3) + 7, inputs, 3, salt)
        for x, e in zip(inputs, noise, strict=True):
            near = (x + 0.3 * e).clamp(low, high)
            change = ((x - near).flatten() @ weight).square().sum().sqrt()
            total += float(change / (x - near).square().sum().sqrt()) / 12
    assert told == pytest.approx(total, rel=1e-9)


def test_a_scaled_identity_has_its_scale_as_lipschitz_constant() -> None:
    inputs = torch.randn(5, 1, 2, 2, dtype=torch.float64)
    view = see(inputs, 2.5 * torch.eye(4, dtype=torch.float64))
    assert float(Lipschitz("forget")(view)) == pytest.approx(2.5, rel=1e-9)


def test_the_noise_is_new_each_minibatch_and_each_members_own() -> None:
    inputs, weight = torch.randn(4, 1, 2, 2), torch.randn(4, 3)
    term = Lipschitz("forget", samples=1)
    told = [float(term(see(inputs, weight, p, s))) for p, s in ((0.1, 1), (0.2, 1), (0.1, 2))]
    assert len(set(told)) == 3
    assert told[0] == float(term(see(inputs, weight, 0.1, 1)))


def test_no_slope_passes_through_the_noisy_answers() -> None:
    # with f(x) = w x, |w x - stop(w x')| / |x - x'| has the slope x / (x - x') where w > 0
    inputs = torch.tensor([2.0, -3.0, 9.0, -9.0], dtype=torch.float64).view(4, 1, 1, 1)
    weight = torch.tensor([[1.5]], dtype=torch.float64, requires_grad=True)
    term = Lipschitz("forget", samples=1)
    (told,) = torch.autograd.grad(term(see(inputs, weight)), weight)
    noise = gaussian(torch.arange(4) + 7, inputs, 3, int(0.25 * 2**40))
    step = (inputs - (inputs + 0.5 * noise).clamp(-9.0, 9.0)).flatten()
    # an example at the edge of the range may not move at all, and then adds nothing
    slopes = torch.where(step == 0, 0.0, inputs.flatten() / torch.where(step == 0, 1.0, step))
    assert float(told) == pytest.approx(float(slopes.mean()), rel=1e-9)
    assert (step[:2] != 0).all()


def test_lipschitz_makes_the_model_smoother_and_reads_no_label() -> None:
    train = Train(Lipschitz("forget", samples=5), epochs=30, lr=0.2, optimiser=PLAIN)
    curve = [loss for _, _, loss in unlearn(tiny.made(), train, tiny.problem()).receipt.curve]
    assert curve[-1] < 0.8 * curve[0]
    assert Lipschitz("forget").reads_labels == ()


def test_lipschitz_refuses_tokens() -> None:
    words = torch.zeros(2, 5, dtype=torch.int64)
    view = View(
        lambda x: torch.zeros(2, 3),
        {"forget": tiny.Images(words, torch.zeros(2).long(), torch.arange(2))},
        {},
        {},
        0.0,
        0,
    )
    with pytest.raises(Unsupported, match="whole numbers"):
        Lipschitz("forget")(view)


# -- recipes ----------------------------------------------------------------------------------


def test_dual_optim_keeps_two_optimisers_with_memories_of_their_own() -> None:
    (repeat,) = PUBLISHED["dual_optim"].steps
    assert isinstance(repeat, Repeat)
    assert repeat.times == 10
    run = carry_out(tiny.run(), *brief(PUBLISHED["dual_optim"]).steps)
    kinds = {place: type(o).__name__ for place, o in run.optimisers.items()}
    assert kinds == {"/0/0": "AdamW", "/0/1": "SGD"}
    forget, retain = run.optimisers["/0/0"].state, run.optimisers["/0/1"].state
    assert all("exp_avg_sq" in memory for memory in forget.values())
    assert all("momentum_buffer" in memory for memory in retain.values())
    mask = run.mask(Salient("forget", 0.5))
    for name, by in moved(run).items():
        assert (by[~mask[name]] == 0).all()


def test_the_recipes_are_the_authors() -> None:
    assert [m.name for m in GEOMETRY] == [
        "cf_k",
        "eu_k",
        "sfron",
        "gdr_gma",
        "dual_optim",
        "jit",
        "task_vector",
    ]
    assert all(PUBLISHED[m.name] is m and m.source for m in GEOMETRY)
    (rectify,) = PUBLISHED["gdr_gma"].steps
    assert rectify == Rectify(-CE("forget"), CE("retain"))
    assert isinstance(rectify, Rectify)
    assert (rectify.epochs, rectify.lr, rectify.batch) == (10, 0.0001, 256)
    assert (rectify.sharpness, rectify.target, rectify.optimiser) == (100.0, 0.02, AdamW())
    (jit,) = PUBLISHED["jit"].steps
    assert isinstance(jit, Train)
    assert jit.lr == pytest.approx(0.0003 * 128)
    (vector,) = PUBLISHED["task_vector"].steps
    assert isinstance(vector, Negate)
    assert vector.train.epochs * math.ceil(4500 / 128) == pytest.approx(2000, rel=0.01)


WRONG: list[Any] = [
    lambda: AdaptiveCE("forget", power=-0.5),
    lambda: Lipschitz("forget", std=0.0),
    lambda: Lipschitz("forget", samples=0),
    lambda: Rectify(0.1 * CE("forget"), CE("retain"), epochs=0.0),
    lambda: Rectify(CE("forget"), CE("retain"), batch=0),
]


@pytest.mark.parametrize("make", WRONG)
def test_words_refuse_arguments_that_make_no_sense(make: Any) -> None:
    with pytest.raises(BadSentence):
        make()


def test_what_reads_no_set_cannot_be_rectified() -> None:
    from expunge.methods.losses.answers import L1

    objective: Term = 0.1 * L1()
    with pytest.raises(BadSentence, match="must read a set"):
        Rectify(-CE("forget"), objective)
