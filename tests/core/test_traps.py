"""The eleven traps of the design, a test each."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import tiny
from expunge.core.problem import Problem
from expunge.core.schedules import SGD, Adam
from expunge.engine.loop import SingleModel
from expunge.engine.run import Run, run_steps
from expunge.engine.training import Repeat, Reset, Train, from_scratch
from expunge.errors import NothingChanged, OffLimits, Unsupported
from expunge.experiments.experiment import parse
from expunge.methods.losses.answers import CE, KL, Repel
from expunge.methods.selectors.judged import Random, Salient, Similar, Smallest
from expunge.methods.steps.dampening import Dampen
from expunge.methods.steps.edits import Noise
from expunge.unlearn import unlearn


def carry_out(run: Run, *steps: object) -> None:
    list(run_steps(steps, SingleModel(run)))  # type: ignore[arg-type]


def test_1_reset_of_everything_resets_buffers() -> None:
    run = tiny.run()
    assert not torch.equal(run.original[1].running_mean, torch.zeros(4))
    carry_out(run, Reset())
    assert torch.equal(run.model[1].running_mean, torch.zeros(4))
    assert torch.equal(run.model[1].running_var, torch.ones(4))
    assert int(run.model[1].num_batches_tracked) == 0


def test_2_saliency_and_fisher_passes_move_no_statistics() -> None:
    run = tiny.run()
    before = tiny.state(run.original)
    for part in (Salient("forget"), Similar("retain", "forget")):
        run.mask(part)
    assert all(torch.equal(before[n], t) for n, t in run.original.state_dict().items())
    assert all(torch.equal(before[n], t) for n, t in run.model.state_dict().items())
    carry_out(run, Dampen(alpha=0.1))
    now = run.model.state_dict()
    for name in ("1.running_mean", "1.running_var", "1.num_batches_tracked"):
        assert torch.equal(before[name], now[name])
        assert torch.equal(before[name], run.original.state_dict()[name])
    assert not run.original.training


@pytest.mark.parametrize("part", [Smallest(0.4), Salient("forget", 0.4)], ids=str)
def test_3_parts_look_at_the_original_even_after_a_reset(part: Smallest | Salient) -> None:
    fresh, after = tiny.run(), tiny.run()
    carry_out(after, Reset(), Noise(1.0))
    one, two = fresh.mask(part), after.mask(part)
    assert all(torch.equal(one[name], two[name]) for name in one)
    after.place = "/9"
    assert any(not torch.equal(after.mask(Random(0.4))[n], fresh.mask(Random(0.4))[n]) for n in one)


def test_4_one_epoch_is_over_the_largest_set_unless_over_says_so() -> None:
    told = {
        over: unlearn(
            tiny.made(),
            Train(CE("retain") - 0.01 * CE("forget"), batch=4, over=over),
            tiny.problem(),
        ).receipt.examples
        for over in ("", "retain", "forget")
    }
    assert told[""] == told["retain"] == {"retain": 48, "forget": 48}
    assert told["forget"] == {"retain": 12, "forget": 12}


@pytest.mark.parametrize("optimiser", [SGD(momentum=0.9, weight_decay=0.1), Adam(weight_decay=0.1)])
def test_5_masks_do_not_leak_through_momentum_and_weight_decay(optimiser: SGD | Adam) -> None:
    part = Smallest(0.5)
    run = tiny.run()
    carry_out(
        run,
        Repeat((Train(CE("retain"), lr=0.05, batch=8, optimiser=optimiser, where=part),), 3),
    )
    mask = run.mask(part)
    for name, weight in run.model.named_parameters():
        was = dict(run.original.named_parameters())[name]
        assert torch.equal(weight[~mask[name]], was[~mask[name]])


def test_6_equal_steps_share_no_optimiser_and_one_place_keeps_it() -> None:
    step = Train(CE("retain"), batch=48, lr=0.05)
    apart, kept = tiny.run(), tiny.run()
    carry_out(apart, step, step)
    assert apart.optimisers["/0"] is not apart.optimisers["/1"]
    carry_out(kept, Repeat((step, Train(CE("forget"))), 2), Repeat((step,), 2))
    assert sorted(kept.optimisers) == ["/0/0", "/0/1", "/1/0"]
    assert len({id(o) for o in kept.optimisers.values()}) == 3
    assert math.isclose(kept.optimisers["/0/0"].param_groups[0]["lr"], 0.05)
    # a second step after a first of its own takes momentum along only within Repeat
    assert not tiny.same(apart.model, through_repeat(step))


def through_repeat(step: Train) -> nn.Module:
    run = tiny.run()
    carry_out(run, Repeat((step,), 2))
    return run.model


@pytest.mark.parametrize(
    "number", [0.1, 1 / 3, 1e-17, 1e300, 123456789.123456789, 5e-324, 0.1 + 0.2]
)
def test_7_coefficients_round_trip_exactly(number: float) -> None:
    for term in (number * CE("a"), CE("b") - number * CE("a"), -number * CE("a") + CE("b")):
        assert parse(repr(term)) == term
        assert repr(parse(repr(term))) == repr(term)


def test_8_a_random_teacher_takes_the_members_seed() -> None:
    one, again, other = (tiny.run(seed=seed).teacher("random") for seed in (1, 1, 2))
    assert tiny.same(one, again)
    assert not tiny.same(one, other)
    ways = [
        unlearn(
            tiny.made(), Train(KL("retain", teacher="random"), batch=48), tiny.problem(), seed=seed
        )
        for seed in (1, 2)
    ]
    assert ways[0].receipt.curve != ways[1].receipt.curve


class Tokens(nn.Module):
    """Answers once for each of eight rows of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(8, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(inputs[:, 0])


def test_9_repel_refuses_tokens_and_does_not_broadcast() -> None:
    with pytest.raises(Unsupported, match=r"\[b, k\].*tokens"):
        unlearn(Tokens(), Train(Repel("forget", "retain")), tiny.problem())


def test_10_nothing_changed_and_off_limits_are_errors() -> None:
    with pytest.raises(NothingChanged):
        unlearn(tiny.made(), Train(CE("retain"), lr=0.0), tiny.problem())
    task = tiny.problem(test=tiny.pictures(8))
    with pytest.raises(OffLimits):
        unlearn(tiny.made(), Train(CE("test")), task)


def test_11_the_oracle_differs_everywhere_and_never_saw_the_forget_set() -> None:
    rows: list[int] = []

    class Watched:
        def __init__(self) -> None:
            self.targets = tiny.pictures().targets

        def __len__(self) -> int:
            return 60

        def __getitem__(self, row: int) -> tuple[Tensor, int]:
            rows.append(row)
            return tiny.pictures().inputs[row], int(self.targets[row])

    recipe = parse("Method('recipe', (Train(CE('train'), epochs=3, lr=0.05, batch=16),))")
    task = Problem.split(Watched(), torch.arange(12), architecture=tiny.net, recipe=recipe)
    original = unlearn(tiny.made(), from_scratch(task, "train", "original"), task)
    assert set(rows) == set(range(60))
    rows.clear()
    oracle = unlearn(original.model, from_scratch(task, "retain", "retrain"), task, seed=1)
    assert set(rows) == set(range(12, 60))
    assert oracle.receipt.examples == {"retain": 144}
    for (name, was), now in zip(
        original.model.state_dict().items(), oracle.model.state_dict().values(), strict=True
    ):
        assert (was != now).all() if was.ndim else name.endswith("num_batches_tracked"), name


def test_11_the_oracle_owes_nothing_to_the_original() -> None:
    task = tiny.problem(recipe=parse("Method('r', (Train(CE('train'), batch=16),))"))
    method = from_scratch(task, "retain", "retrain")
    models = [unlearn(tiny.made(seed=seed), method, task, seed=4).model for seed in (0, 1)]
    assert tiny.same(models[0], models[1])
