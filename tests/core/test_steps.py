"""Steps: what each does to a small model, against laws, loops and closed forms."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny
from expunge.core.batch import Tensors
from expunge.core.method import Step
from expunge.core.problem import Problem
from expunge.core.seeds import derived
from expunge.core.selector import Everything
from expunge.engine.loop import SingleModel
from expunge.engine.run import Run, run_steps
from expunge.engine.training import Negate, Repeat, Reset, Train, unrolled
from expunge.errors import BadSentence
from expunge.methods.losses.answers import CE, KL, L1
from expunge.methods.selectors.judged import Random, Smallest
from expunge.methods.selectors.places import Last, Named
from expunge.methods.steps.edits import Blend, Noise, Zero
from expunge.methods.steps.influence import Newton


def carry_out(run: Run, *steps: Step) -> Run:
    list(run_steps(steps, SingleModel(run)))
    return run


def difference(run: Run) -> Tensor:
    pairs = zip(run.model.parameters(), run.original.parameters(), strict=True)
    return torch.cat([(a - b).detach().flatten() for a, b in pairs])


def wide() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 200))


def test_noise_has_its_standard_deviation() -> None:
    drawn = difference(carry_out(tiny.run(tiny.made(wide)), Noise(0.3)))
    assert float(drawn.std()) == pytest.approx(0.3, rel=0.03)
    assert abs(float(drawn.mean())) < 0.3 * 4 / math.sqrt(drawn.numel())
    # of a normal distribution, 68.27 % lie within one standard deviation
    assert float((drawn.abs() < 0.3).float().mean()) == pytest.approx(0.6827, abs=0.02)


def test_noise_keeps_to_its_part_and_to_weights() -> None:
    run = carry_out(tiny.run(), Noise(0.3, Last()))
    before = run.original.state_dict()
    moved = {n for n, t in run.model.state_dict().items() if not torch.equal(t, before[n])}
    assert moved == {"4.weight", "4.bias"}


def test_noise_is_drawn_anew_at_each_place_and_turn() -> None:
    twice = difference(carry_out(tiny.run(), Noise(0.3), Noise(0.3)))
    once = difference(carry_out(tiny.run(), Noise(0.3)))
    turns = difference(carry_out(tiny.run(), Repeat((Noise(0.3),), 2)))
    assert not torch.allclose(twice, 2 * once, atol=1e-3)
    assert float(turns.std()) == pytest.approx(0.3 * math.sqrt(2), rel=0.15)


def test_reset_of_everything_is_the_architectures_fresh_model() -> None:
    run = carry_out(tiny.run(seed=3), Reset())
    again = tiny.run(seed=3)
    again.place = "/0"
    assert tiny.same(run.model, again.fresh("reset"))
    for name in run.model.state_dict():
        assert not torch.equal(run.model.state_dict()[name], run.original.state_dict()[name]) or (
            name == "1.weight" or name == "1.bias"  # always 1 and 0
        )


class Drawn(nn.Module):
    """An architecture with an initialisation of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(64, 10)
        nn.init.normal_(self.last.weight, mean=5.0, std=0.1)
        self.register_buffer("seen", torch.zeros(3))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(inputs.flatten(1))


def test_reset_follows_the_architectures_law() -> None:
    model = Drawn()
    model.seen.fill_(7.0)
    with torch.no_grad():
        model.last.weight.zero_()
    run = carry_out(tiny.run(model, tiny.problem(architecture=Drawn)), Reset())
    assert float(run.model.last.weight.detach().mean()) == pytest.approx(5.0, abs=0.05)
    assert torch.equal(run.model.seen, torch.zeros(3))
    part = carry_out(tiny.run(model, tiny.problem(architecture=Drawn)), Reset(Named("weight")))
    assert torch.equal(part.model.seen, torch.full((3,), 7.0))
    assert torch.equal(part.model.last.bias, model.last.bias)


def test_without_an_architecture_layers_reset_themselves() -> None:
    run = carry_out(tiny.run(task=tiny.problem(architecture=None)), Reset())
    bound = 1 / math.sqrt(64)  # of nn.Linear
    assert 0.9 * bound < float(run.model[4].weight.detach().abs().max()) <= bound
    assert torch.equal(run.model[1].running_var, torch.ones(4))


@pytest.mark.parametrize(
    ("part", "fresh"),
    [
        (Last(), False),
        (Named(r"^1\.weight"), False),
        (Random(0.5), False),
        (Named(r"^1\."), True),
        (~Last(), True),
        (Everything(), True),
    ],
    ids=str,
)
def test_statistics_are_reset_with_all_weights_of_their_layer(part: Any, fresh: bool) -> None:
    run = carry_out(tiny.run(), Reset(part))
    untouched = torch.equal(run.model[1].running_mean, run.original[1].running_mean)
    assert untouched is not fresh
    assert torch.equal(run.model[1].running_mean, torch.zeros(4)) is fresh


def test_statistics_without_weights_are_reset_with_everything_alone() -> None:
    def bare() -> nn.Module:
        norm = nn.BatchNorm2d(4, affine=False)
        return nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), norm, nn.Flatten(), nn.Linear(64, 10))

    task = tiny.problem(architecture=bare)
    whole = carry_out(tiny.run(tiny.made(bare), task), Reset())
    partly = carry_out(tiny.run(tiny.made(bare), task), Reset(Last()))
    assert torch.equal(whole.model[1].running_mean, torch.zeros(4))
    assert torch.equal(partly.model[1].running_mean, partly.original[1].running_mean)


def test_zero_prunes_its_part_alone() -> None:
    run = carry_out(tiny.run(), Zero(Smallest(0.5)))
    for name, weight in run.model.named_parameters():
        inside = run.mask(Smallest(0.5))[name]
        assert (weight[inside] == 0).all()
        assert torch.equal(weight[~inside], dict(run.original.named_parameters())[name][~inside])


def test_blend_goes_back_by_its_share() -> None:
    run = tiny.run()
    carry_out(run, Train(CE("retain"), lr=0.1))
    away = tiny.state(run.model)
    carry_out(run, Blend(0.25))
    before = run.original.state_dict()
    for name, tensor in run.model.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, 0.75 * away[name] + 0.25 * before[name])
    carry_out(run, Blend(1.0))
    floats = [n for n in before if before[n].is_floating_point()]
    assert all(torch.equal(run.model.state_dict()[n], before[n]) for n in floats)


def test_negate_goes_the_opposite_way() -> None:
    train = Train(CE("forget"), epochs=3, lr=0.01)
    there = carry_out(tiny.run(), train)
    back = carry_out(tiny.run(), Negate(train, scale=0.5))
    torch.testing.assert_close(difference(back), -0.5 * difference(there), atol=1e-6, rtol=1e-4)
    for name, buffer in back.model.named_buffers():
        assert torch.equal(buffer, dict(back.original.named_buffers())[name])


def test_a_negated_model_still_answers() -> None:
    # a class that widens the variance, gone the opposite way, would make it negative
    data = Tensors(tiny.pictures().inputs * 50, tiny.pictures().targets)
    task = Problem.split(data, torch.arange(12), architecture=tiny.net)
    run = carry_out(tiny.run(task=task), Negate(Train(CE("forget"), epochs=20, lr=1e-4)))
    assert (run.model[1].running_var >= 0).all()


def test_negate_starts_from_the_current_model() -> None:
    run = tiny.run()
    carry_out(run, Noise(0.1))
    noisy = tiny.state(run.model)
    Negate(Train(CE("forget"), lr=1e-9))(run)
    for name, weight in run.model.named_parameters():
        torch.testing.assert_close(weight.detach(), noisy[name], atol=1e-6, rtol=1e-5)


def test_repeat_unrolled_has_places_and_turns() -> None:
    a, b, c = Noise(0.1), Noise(0.2), Noise(0.3)
    plan = unrolled((a, Repeat((b, Repeat((c,), 2)), 2), a))
    assert plan == [
        ("/0", (0, 1), a),
        ("/1/0", (0, 2), b),
        ("/1/1/0", (0, 4), c),
        ("/1/1/0", (1, 4), c),
        ("/1/0", (1, 2), b),
        ("/1/1/0", (2, 4), c),
        ("/1/1/0", (3, 4), c),
        ("/2", (0, 1), a),
    ]


def test_repeat_called_alone_does_its_steps() -> None:
    run, twin = tiny.run(), tiny.run()
    step = Repeat((Noise(0.1), Train(CE("retain"))), 2)
    step(run)
    carry_out(twin, step)
    assert tiny.same(run.model, twin.model)


WRONG: list[Any] = [
    lambda: Noise(-0.1),
    lambda: Blend(1.1),
    lambda: Blend(-0.1),
    lambda: Newton(CE("a"), damping=-1.0),
    lambda: Newton(CE("a"), iterations=0),
    lambda: Newton(L1()),
    lambda: Repeat((), 2),
    lambda: Repeat((Noise(0.1),), 0),
    lambda: Negate(Noise(0.1)),
    lambda: Train(KL("a"), where="all"),
]


@pytest.mark.parametrize("make", WRONG)
def test_steps_refuse_arguments_that_make_no_sense(make: Any) -> None:
    with pytest.raises(BadSentence):
        make()


def test_streams_are_told_apart_by_every_name() -> None:
    seeds = [
        derived(*names)
        for names in ((0, "/0", "a"), (0, "/0", "b"), (0, "/1", "a"), (1, "/0", "a"))
    ]
    assert len(set(seeds)) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)
    # golden: another number here would change every published run
    assert derived("unlearned", 0) == 5449891489557962285
    assert derived("unlearned", 3, "/0", (0, 1), "noise") == 4273508635035858445


def test_a_run_in_another_role_draws_other_numbers() -> None:
    one, two = tiny.run(), tiny.run()
    two.role = "oracle"
    assert not torch.equal(
        torch.rand(4, generator=one.stream("noise")), torch.rand(4, generator=two.stream("noise"))
    )
    assert not tiny.same(one.fresh("reset"), two.fresh("reset"))
