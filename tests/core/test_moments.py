"""Draws, rewriting steps, parts of a moment, slowed weights: brought by the challenge's entries."""

from __future__ import annotations

import copy
import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import Tensor, nn

import tiny
from expunge.core.method import Step
from expunge.core.schedules import SGD, Listed, Slowed
from expunge.core.seeds import KaimingFanOut, UniformFanIn
from expunge.core.selector import Everything
from expunge.engine.run import Run
from expunge.engine.training import Repeat, Reset, Train, unrolled
from expunge.errors import Unsupported
from expunge.experiments.experiment import parse
from expunge.methods.losses.answers import CE
from expunge.methods.selectors.judged import Changed, Random, RandomTensors
from expunge.methods.selectors.places import Convs, Last, Named, Norms, Pointwise
from expunge.methods.steps.edits import Half, Noise, Transpose


def big() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Conv2d(16, 8, 1), nn.Linear(40, 50)
    )


def reset(step: Step, seed: int = 0) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    run = tiny.run(big(), seed=seed)
    before = tiny.state(run.model)
    step(run)
    return before, tiny.state(run.model)


def test_kaiming_fan_out_draws_from_its_normal() -> None:
    before, after = reset(Reset(Named("[023].weight"), draw=KaimingFanOut()))
    for name, fan in (("0.weight", 16 * 9), ("2.weight", 8), ("3.weight", 50)):
        scaled = after[name].flatten() / math.sqrt(2 / fan)
        assert kstest(scaled.numpy(), "norm").pvalue > 0.01
    assert all(
        torch.equal(before[n], after[n]) for n in before if n[:3] not in ("0.w", "2.w", "3.w")
    )


def test_uniform_fan_in_draws_from_its_range() -> None:
    _, after = reset(Reset(Named("[023].weight"), draw=UniformFanIn()))
    for name, fan in (("0.weight", 27), ("2.weight", 16), ("3.weight", 40)):
        share = (after[name].flatten() * math.sqrt(fan) + 1) / 2
        assert kstest(share.numpy(), "uniform").pvalue > 0.01
        assert 0 <= share.min() <= share.max() <= 1


def test_a_draw_of_one_tensor_knows_no_other_and_follows_the_seed() -> None:
    _, alone = reset(Reset(Named("2.weight"), draw=UniformFanIn()))
    _, among = reset(Reset(Named("[023].weight"), draw=UniformFanIn()))
    _, other = reset(Reset(Named("2.weight"), draw=UniformFanIn()), seed=1)
    assert torch.equal(alone["2.weight"], among["2.weight"])
    assert not torch.isclose(alone["2.weight"], other["2.weight"]).all()


@pytest.mark.parametrize("draw", [KaimingFanOut(), UniformFanIn()], ids=repr)
def test_what_has_no_fan_cannot_be_drawn_by_it(draw: Any) -> None:
    with pytest.raises(Unsupported, match=r"0\.bias"):
        Reset(draw=draw)(tiny.run(big()))


def test_a_whole_layer_drawn_by_a_rule_gets_new_statistics() -> None:
    run = tiny.run()
    Reset(Convs() | Norms())(run)
    assert torch.equal(run.model[1].running_mean, torch.zeros(4))
    again = tiny.run()
    Reset(Convs(), draw=KaimingFanOut())(again)
    assert torch.equal(again.model[1].running_mean, again.original[1].running_mean)


def test_noise_may_follow_the_turns() -> None:
    run, seen = tiny.run(), []
    for place, turn, step in unrolled((Repeat((Noise(Listed((0.5, 0.0)), Convs()),), 4),)):
        before = run.model[0].weight.detach().clone()
        run.place, run.turn = place, turn
        step(run)
        seen.append(float((run.model[0].weight.detach() - before).std()))
    assert seen[2:] == [0.0, 0.0]
    assert all(0.3 < spread < 0.7 for spread in seen[:2])


def test_transposed_kernels_are_the_mirrored_ones() -> None:
    run = tiny.run()
    before = tiny.state(run.model)
    Transpose()(run)
    after = tiny.state(run.model)
    for kernel, turned in zip(before["0.weight"][:, 0], after["0.weight"][:, 0], strict=True):
        assert turned.tolist() == [list(column) for column in zip(*kernel.tolist(), strict=True)]
    assert all(torch.equal(before[n], after[n]) for n in before if n != "0.weight")
    Transpose()(run)
    assert torch.equal(run.model[0].weight, before["0.weight"])


def test_a_network_of_transposed_kernels_sees_mirrored_pictures() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3))
    run = tiny.run(copy.deepcopy(model))
    Transpose()(run)
    inputs = tiny.pictures().inputs[:4]
    turned = run.model(inputs.transpose(2, 3)).transpose(2, 3)
    torch.testing.assert_close(turned, model(inputs), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("where", "model", "said"),
    [
        (Convs(), nn.Sequential(nn.Conv2d(1, 2, (3, 5))), "3 x 5"),
        (Convs(), nn.Sequential(nn.Conv1d(1, 2, 3)), "whole kernels"),
        (Everything(), tiny.net(), "1.weight"),
        (Convs() & Random(0.5), tiny.net(), "whole kernels"),
    ],
)
def test_what_cannot_be_transposed_is_refused(where: Any, model: nn.Module, said: str) -> None:
    run = tiny.run(model)
    with pytest.raises(Unsupported, match=said):
        Transpose(where)(run)
    assert tiny.same(run.model, run.original)


def test_half_rounds_weights_and_statistics() -> None:
    run = tiny.run()
    with torch.no_grad():
        run.model[4].bias[:3] = torch.tensor([1 / 3, 1000.6, 1e-9])
        run.model[1].running_mean.fill_(0.1)
    Half()(run)
    # 11 bits of mantissa: 1/3 = 1365/4096, steps of 0.5 above 512, nothing below 6e-8
    assert run.model[4].bias[:3].tolist() == [1365 / 4096, 1000.5, 0.0]
    assert run.model[1].running_mean.tolist() == [1638 / 16384 + 0.0] * 4
    assert all(t.dtype != torch.float16 for t in run.model.state_dict().values())


def test_changed_is_what_an_earlier_step_touched() -> None:
    run = tiny.run()
    assert not any(mask.any() for mask in run.mask(Changed()).values())
    with torch.no_grad():
        run.model[0].weight[1, 0, 2, 2] += 1
    mask = run.mask(Changed())
    assert mask["0.weight"].nonzero().tolist() == [[1, 0, 2, 2]]
    assert sum(int(m.sum()) for m in run.mask(~Changed()).values()) == 36 + 8 + 650 - 1


def mixed() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 4, 1),
        nn.GroupNorm(2, 4),
        nn.Flatten(),
        nn.Linear(144, 10),
        nn.LayerNorm(10),
    )


def names(run: Run, part: Any) -> set[str]:
    mask = run.mask(part)
    assert all(bool(m.all()) == bool(m.any()) for m in mask.values())
    return {name for name, inside in mask.items() if inside.any()}


def test_kinds_of_layers() -> None:
    run = tiny.run(mixed())
    norms = {f"{n}.{kind}" for n in (1, 3, 6) for kind in ("weight", "bias")}
    assert names(run, Norms()) == norms
    assert names(run, Pointwise()) == {"2.weight", "2.bias", "3.weight", "3.bias"}
    plain = tiny.run(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    assert names(plain, Norms()) == names(plain, Pointwise()) == set()
    assert names(plain, ~Norms()) == {"1.weight", "1.bias"}


def drawn(part: Any, place: str, turn: tuple[int, int] = (0, 1), seed: int = 0) -> set[str]:
    run = some_run()
    run.seed, run.place, run.turn = seed, place, turn
    return names(run, part)


@cache
def some_run() -> Run:
    return tiny.run(mixed())


def test_random_tensors_are_the_same_within_a_turn_and_nest() -> None:
    three, five = RandomTensors(3), RandomTensors(5)
    for turn in range(8):
        here = drawn(three, "/2/0", (turn, 8))
        assert len(here) == 3
        assert here == drawn(three, "/2/1", (turn, 8))
        assert here < drawn(five, "/2/1", (turn, 8))
    assert drawn(three, "/0") == drawn(three, "/7")


def test_random_tensors_are_drawn_anew_each_turn_repeat_and_member() -> None:
    part = RandomTensors(3)
    turns = {frozenset(drawn(part, "/2/0", (turn, 8))) for turn in range(8)}
    repeats = {frozenset(drawn(part, f"/{place}/0")) for place in range(8)}
    seeds = {frozenset(drawn(part, "/0", seed=seed)) for seed in range(8)}
    assert min(len(turns), len(repeats), len(seeds)) > 4


def test_random_tensors_are_drawn_evenly_from_their_pool() -> None:
    part = RandomTensors(2, among=~Norms())
    pool = {"0.weight", "2.weight", "2.bias", "5.weight", "5.bias"}
    found = [drawn(part, "/0", seed=seed) for seed in range(200)]
    assert set().union(*found) == pool
    counts = [sum(name in one for one in found) for name in sorted(pool)]
    assert all(50 < count < 110 for count in counts)  # 80 each, of 200 draws of 2 from 5


def test_random_tensors_with_replacement_may_come_out_fewer() -> None:
    sizes = [len(drawn(RandomTensors(6, replacement=True), "/0", seed=s)) for s in range(50)]
    assert max(sizes) == 6
    # 11 parameters, 6 draws: 11 (1 - (10/11)^6) = 4.8 different ones
    assert 4.4 < np.mean(sizes) < 5.2


def test_random_tensors_take_all_where_there_are_fewer() -> None:
    assert len(drawn(RandomTensors(99), "/0")) == 11
    with pytest.raises(Unsupported, match="whole parameter"):
        drawn(RandomTensors(2, among=Named("5.bias") & Random(0.5)), "/0")


def moved(train: Train) -> tuple[Tensor, Tensor, Tensor]:
    """A kernel before and after one step, and which of it was reset."""
    run = tiny.run()
    Noise(0.1, Convs() & Random(0.5))(run)
    before, fresh = run.model[0].weight.detach().clone(), run.mask(Changed())["0.weight"]
    train(run)
    return before, run.model[0].weight.detach(), fresh


@pytest.mark.parametrize("factor", [0.0, 0.1, 2.0])
def test_slowed_weights_take_shorter_steps(factor: float) -> None:
    plain = Train(CE("retain"), batch=48, optimiser=SGD(weight_decay=0.5), lr=0.1)
    before, free, fresh = moved(plain)
    slow = Slowed(Convs() & ~Changed(), factor)
    _, after, _ = moved(Train(**{**vars(plain), "slowed": slow}))
    assert torch.equal(after[fresh], free[fresh])
    # the optimiser's weight decay is not slowed
    decay = -0.1 * 0.5 * before
    wanted = decay + factor * (free - before - decay)
    torch.testing.assert_close((after - before)[~fresh], wanted[~fresh], atol=1e-6, rtol=1e-4)


def test_slowed_weights_are_clipped_after() -> None:
    train = Train(CE("retain"), batch=48, clip=1e-3, lr=1.0, slowed=Slowed(Everything(), 0.5))
    run = tiny.run()
    train(run)
    pairs = zip(run.model.parameters(), run.original.parameters(), strict=True)
    assert math.sqrt(
        sum(float((a - b).detach().square().sum()) for a, b in pairs)
    ) == pytest.approx(1e-3, 1e-2)


def test_new_words_read_back() -> None:
    assert parse(repr(Reset(Last(1), draw=UniformFanIn()))) == Reset(Last(1), draw=UniformFanIn())
    sentence = "Train(CE('retain'), slowed=Slowed((Convs() & ~Changed())))"
    assert repr(parse(sentence)) == sentence
