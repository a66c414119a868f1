"""Gradient descent: the twin loop, which weights move, orders, epochs, memory and schedules."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import tiny
from expunge.core.method import Step
from expunge.core.schedules import SGD, Adam, Linear
from expunge.core.term import Term
from expunge.core.view import View
from expunge.engine.loop import Epoch, SingleModel, minibatch_edges, minibatches, train_group
from expunge.engine.run import Run, run_steps
from expunge.engine.training import Repeat, Train
from expunge.errors import BadData, BadSentence, Diverged
from expunge.methods.losses.answers import CE, L1, Repel
from expunge.methods.selectors.judged import Random, Smallest
from expunge.methods.selectors.places import First, Last, Named
from expunge.unlearn import unlearn

STRONG = SGD(momentum=0.9, weight_decay=0.1)


def carry_out(steps: tuple[Step, ...], run: Run) -> list[Epoch]:
    return list(run_steps(steps, SingleModel(run)))


def order_of(train: Train, name: str, n: int, passes: int) -> list[Tensor]:
    """The minibatches that a `Train` standing alone at place /0 takes."""
    run = tiny.run()
    run.place = "/0"
    batches, wanted = (
        minibatches([run], name, n, train.batch),
        passes * len(minibatch_edges(n, train.batch)),
    )
    return [next(batches)[0] for _ in range(wanted)]


def by_hand(
    model: nn.Module, batches: list[tuple[Tensor, Tensor]], lr: float, momentum: float, decay: float
) -> None:
    """Momentum descent as the textbook has it: v = m v + (g + decay w); w -= lr v."""
    speed: dict[str, Tensor] = {}
    model.train()
    for inputs, targets in batches:
        loss = F.cross_entropy(model(inputs), targets)
        slopes = torch.autograd.grad(loss, list(model.parameters()))
        for (name, weight), slope in zip(model.named_parameters(), slopes, strict=True):
            pull = slope.add(weight.detach(), alpha=decay)
            speed[name] = speed[name].mul_(momentum).add_(pull) if name in speed else pull.clone()
            weight.data.add_(speed[name], alpha=-lr)


def test_train_is_the_plain_loop_bit_for_bit() -> None:
    train = Train(CE("retain"), epochs=3, lr=0.05, batch=10, optimiser=STRONG)
    run = tiny.run()
    twin = copy.deepcopy(run.model)
    retain = run.data("retain")
    rows = [retain.batch(p) for p in order_of(train, "retain", len(retain), 3)]
    by_hand(twin, [(b.inputs, b.targets) for b in rows], 0.05, 0.9, 0.1)
    carry_out((train,), run)
    assert tiny.same(run.model, twin)


class Reads(Term):
    """Cross-entropy that notes the rows that it was given."""

    def __init__(self, *sets: str) -> None:
        self.names, self.rows = sets, {name: [] for name in sets}
        self.progress: list[float] = []

    @property
    def sets(self) -> tuple[str, ...]:
        return self.names

    def __call__(self, view: View) -> Tensor:
        self.progress.append(view.progress)
        for name in self.names:
            self.rows[name].append(view.batch(name).index.clone())
        losses = [F.cross_entropy(view.logits(n), view.batch(n).targets) for n in self.names]
        return torch.stack(losses).sum()


def read(train: Train, forget: int = 12) -> Reads:
    carry_out((train,), tiny.run(task=tiny.problem(forget)))
    assert isinstance(train.objective, Reads)
    return train.objective


@pytest.mark.parametrize(("over", "steps"), [("", 5), ("retain", 5), ("forget", 2)])
def test_an_epoch_is_over_the_largest_set_unless_told(over: str, steps: int) -> None:
    seen = read(Train(Reads("forget", "retain"), batch=10, over=over))
    assert len(seen.progress) == steps


@pytest.mark.parametrize(("epochs", "steps"), [(0.5, 2), (1.5, 8), (2.0, 10), (0.01, 1)])
def test_epochs_may_be_broken(epochs: float, steps: int) -> None:
    seen = read(Train(Reads("retain"), batch=10, epochs=epochs))
    assert len(seen.progress) == steps
    assert seen.progress == pytest.approx([i / steps for i in range(steps)])


@pytest.mark.parametrize("forget", [1, 2, 7, 11, 12, 21])
def test_every_example_is_seen_once_an_epoch(forget: int) -> None:
    seen = read(Train(Reads("forget"), batch=10, epochs=3), forget)
    rows = torch.cat(seen.rows["forget"])
    assert torch.equal(rows.bincount(), torch.full((forget,), 3))
    retained = read(Train(Reads("forget", "retain"), batch=10), forget)
    assert torch.cat(retained.rows["retain"]).unique().tolist() == list(range(forget, 60))
    assert torch.cat(retained.rows["forget"]).unique().tolist() == list(range(forget))


def test_orders_differ_between_passes_sets_seeds_and_places() -> None:
    first = order_of(Train(CE("retain"), batch=48), "retain", 48, 2)
    assert not torch.equal(first[0], first[1])
    one, two, other = tiny.run(seed=1), tiny.run(seed=2), tiny.run(seed=1)
    other.place = "/1"
    turned = tiny.run(seed=1)
    turned.turn = (1, 2)
    draws = [
        next(minibatches([r], "retain", 48, 48))[0].tolist() for r in (one, two, other, turned)
    ]
    draws.append(next(minibatches([one], "forget", 48, 48))[0].tolist())
    assert len({tuple(d) for d in draws}) == len(draws)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(n=st.integers(1, 300), batch=st.integers(1, 70))
def test_cuts_cover_all_and_leave_no_one_alone(n: int, batch: int) -> None:
    pieces = minibatch_edges(n, batch)
    assert [i for first, last in pieces for i in range(first, last)] == list(range(n))
    sizes = [last - first for first, last in pieces]
    assert all(size == batch for size in sizes[:-1])
    assert sizes[-1] <= batch + 1
    if n > 1 and batch > 1:
        assert sizes[-1] > 1


def test_cuts_golden() -> None:
    assert minibatch_edges(21, 10) == [(0, 10), (10, 21)]
    assert minibatch_edges(22, 10) == [(0, 10), (10, 20), (20, 22)]
    assert minibatch_edges(20, 10) == [(0, 10), (10, 20)]
    assert minibatch_edges(1, 10) == [(0, 1)]


@pytest.mark.parametrize("optimiser", [STRONG, Adam(weight_decay=0.1)])
def test_frozen_weights_and_statistics_stay_bit_for_bit(optimiser: SGD | Adam) -> None:
    run = tiny.run()
    before = tiny.state(run.model)
    train = Train(CE("retain"), epochs=10, batch=16, lr=0.05, optimiser=optimiser, where=Last(1))
    carry_out((Train(CE("retain"), batch=16), train), run)  # the first gives no memory to leak
    moved = [n for n, w in run.model.state_dict().items() if not torch.equal(w, before[n])]
    first_only = tiny.run()
    carry_out((Train(CE("retain"), batch=16),), first_only)
    after_first = first_only.model.state_dict()
    kept = [n for n in moved if torch.equal(after_first[n], run.model.state_dict()[n])]
    assert sorted(set(moved) - set(kept)) == ["4.bias", "4.weight"]
    assert "1.running_mean" in kept


@pytest.mark.parametrize("optimiser", [STRONG, Adam(weight_decay=0.1)])
def test_partial_masks_keep_the_rest_bit_for_bit(optimiser: SGD | Adam) -> None:
    run = tiny.run()
    before, mask = tiny.state(run.model), run.mask(Smallest(0.5))
    train = Train(CE("retain"), epochs=10, batch=16, lr=0.05, optimiser=optimiser)
    carry_out((replace(train, where=Smallest(0.5)),), run)
    for name, weight in run.model.named_parameters():
        changed = weight.detach() != before[name]
        assert not (changed & ~mask[name]).any(), name
        assert not mask[name].any() or changed[mask[name]].float().mean() > 0.5, name
    assert any(m.any() and not m.all() for m in mask.values())


def test_a_normalisation_without_weights_is_frozen_with_the_rest() -> None:
    layers = nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4, affine=False), nn.Flatten()
    model = tiny.made(lambda: nn.Sequential(*layers, nn.Linear(64, 10)))
    run = tiny.run(model)
    carry_out((Train(CE("retain"), where=Last(1)),), run)
    assert torch.equal(run.model[1].running_mean, run.original[1].running_mean)
    carry_out((Train(CE("retain")),), run)
    assert not torch.equal(run.model[1].running_mean, run.original[1].running_mean)


def test_statistics_of_a_free_normalisation_move() -> None:
    run = tiny.run()
    carry_out((Train(CE("retain"), where=First(1)),), run)
    assert not torch.equal(run.model[1].running_var, run.original[1].running_var)
    assert torch.equal(run.model[4].weight, run.original[4].weight)


def test_training_after_a_frozen_step_frees_everything_again() -> None:
    run = tiny.run()
    carry_out((Train(CE("retain"), where=Last(1)), Train(CE("retain"))), run)
    before, now = run.original.state_dict(), run.model.state_dict()
    assert all(not torch.equal(before[n], now[n]) for n in now)


def test_an_empty_part_is_refused() -> None:
    with pytest.raises(BadData, match="nothing to train"):
        carry_out((Train(CE("retain"), where=Last(1) & First(1)),), tiny.run())


def test_the_optimiser_is_kept_within_repeat_and_not_between_equal_steps() -> None:
    train = Train(CE("retain"), batch=48, lr=0.05)
    apart, together = tiny.run(), tiny.run()
    carry_out((train, train), apart)
    carry_out((Repeat((train,), 2),), together)
    assert sorted(apart.optimisers) == ["/0", "/1"]
    assert sorted(together.optimisers) == ["/0/0"]


def turns_by_hand(run: Run, train: Train, times: int, fresh_memory: bool) -> nn.Module:
    """Whole-set steps turn by turn: the order does not matter, so momentum alone can tell."""
    twin, data = copy.deepcopy(run.original).requires_grad_(True).train(), run.data("retain")
    optimiser = train.optimiser.over(list(twin.parameters()))
    for turn in range(times):
        run.place, run.turn = "/0/0", (turn, times)
        rows = next(minibatches([run], "retain", len(data), train.batch))[0]
        if fresh_memory:
            optimiser = train.optimiser.over(list(twin.parameters()))
        optimiser.param_groups[0]["lr"] = train.lr
        optimiser.zero_grad()
        batch = data.batch(rows)
        F.cross_entropy(twin(batch.inputs), batch.targets).backward()
        optimiser.step()
    return twin


def test_momentum_lives_through_the_turns_of_repeat() -> None:
    train, run = Train(CE("retain"), batch=48, lr=0.05), tiny.run()
    carry_out((Repeat((train,), 3),), run)
    assert tiny.same(run.model, turns_by_hand(tiny.run(), train, 3, fresh_memory=False))
    assert not tiny.same(run.model, turns_by_hand(tiny.run(), train, 3, fresh_memory=True))


def test_a_schedule_spans_all_turns_of_nested_repeats() -> None:
    seen = Reads("retain")
    inner = Train(seen, batch=24)
    carry_out((Repeat((Repeat((inner,), 2),), 3),), tiny.run())
    assert seen.progress == pytest.approx([i / 12 for i in range(12)])


def test_the_learning_rate_is_the_schedules() -> None:
    # one step of plain descent at progress 0, 1/2: the second moves with half the rate
    plain = SGD(momentum=0.0)
    run, steady = tiny.run(), tiny.run()
    train = Train(CE("retain"), epochs=1, batch=24, optimiser=plain)
    carry_out((replace(train, lr=Linear(0.1)),), run)
    twin = copy.deepcopy(steady.model).train()
    for rows, lr in zip(order_of(train, "retain", 48, 1), (0.1, 0.05), strict=True):
        batch = steady.data("retain").batch(rows)
        loss = F.cross_entropy(twin(batch.inputs), batch.targets)
        slopes = torch.autograd.grad(loss, list(twin.parameters()))
        for weight, slope in zip(twin.parameters(), slopes, strict=True):
            weight.data.add_(slope, alpha=-lr)
    assert tiny.same(run.model, twin)


def distance(run: Run) -> float:
    pairs = zip(run.model.parameters(), run.original.parameters(), strict=True)
    return math.sqrt(sum(float((a - b).detach().square().sum()) for a, b in pairs))


def test_clip_bounds_the_step() -> None:
    train = Train(CE("retain"), batch=48, lr=1.0, optimiser=SGD(momentum=0.0), clip=0.01)
    run, free = tiny.run(), tiny.run()
    carry_out((train,), run)
    carry_out((replace(train, clip=0.0),), free)
    length, unclipped = distance(run), distance(free)
    assert length == pytest.approx(0.01, rel=1e-3)
    assert unclipped > 0.1


def test_a_gradient_below_the_clip_is_left_alone() -> None:
    train, run, free = Train(CE("retain"), batch=48, clip=1e6), tiny.run(), tiny.run()
    carry_out((train,), run)
    carry_out((replace(train, clip=0.0),), free)
    assert tiny.same(run.model, free.model)


def test_a_loss_that_is_no_number_is_told_with_the_member_and_the_step() -> None:
    with pytest.raises(Diverged, match=r"step /0 \(seeds 7\)"):
        run = tiny.run(tiny.made(tiny.plain), seed=7)
        carry_out((Train(CE("retain"), epochs=4, lr=1e30),), run)


def test_epochs_are_told_with_their_mean_loss() -> None:
    run = tiny.run()
    train = Train(CE("retain"), epochs=1.5, batch=24, lr=1e-9)
    epochs = carry_out((train,), run)
    assert [(e.place, e.number, e.of) for e in epochs] == [("/0", 1.0, 1.5), ("/0", 1.5, 1.5)]
    data, model = run.data("retain"), copy.deepcopy(run.original).train()
    rows = [data.batch(p) for p in order_of(train, "retain", 48, 2)][:3]
    losses = [float(F.cross_entropy(model(b.inputs), b.targets)) for b in rows]
    assert epochs[0].losses[0] == pytest.approx(sum(losses[:2]) / 2, rel=1e-4)
    assert epochs[1].losses[0] == pytest.approx(losses[2], rel=1e-4)


def test_dropout_draws_from_the_members_own_stream() -> None:
    task = tiny.problem(architecture=tiny.dropping)
    model = tiny.made(tiny.dropping)
    before = torch.get_rng_state()
    one, again, other = (
        unlearn(model, Train(CE("retain")), task, seed=seed).model for seed in (3, 3, 4)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert tiny.same(one, again)
    assert not tiny.same(one, other)


class Functional(nn.Module):
    """Draws inside `forward`, where no module tells of it."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(64, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(F.dropout(inputs.flatten(1), 0.5, self.training))


def test_draws_inside_forward_come_from_the_members_stream_too() -> None:
    model, task = tiny.made(Functional), tiny.problem()
    before = torch.get_rng_state()
    one, again = (unlearn(model, Train(CE("retain")), task, seed=3).model for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert tiny.same(one, again)


def test_dropout_draws_anew_in_each_epoch_and_the_callers_draws_go_on() -> None:
    train = Train(CE("retain"), epochs=2, batch=48, lr=1e-9)
    run = tiny.run(tiny.made(tiny.dropping))
    epochs: Iterator[Epoch] = train_group(train, SingleModel(run))
    torch.manual_seed(5)
    first = next(epochs)
    drawn = torch.rand(3)
    second = next(epochs)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))
    # the same examples with the same weights: only the dropped inputs differ
    assert first.losses[0] != pytest.approx(second.losses[0], rel=1e-5)


def test_the_models_own_draws_have_a_stream_for_each_seed_place_turn_and_epoch() -> None:
    here, there, turned = tiny.run(seed=1), tiny.run(seed=1), tiny.run(seed=1)
    there.place, turned.turn = "/9", (1, 2)
    draws = []
    for run, first in ((here, 0), (here, 5), (tiny.run(seed=2), 0), (there, 0), (turned, 0)):
        with SingleModel(run).randomness(first):
            draws.append(tuple(torch.rand(4).tolist()))
    assert len(set(draws)) == 5
    with SingleModel(here).randomness(0):
        assert tuple(torch.rand(4).tolist()) == draws[0]


def test_l1_reads_only_weights_that_may_move() -> None:
    train = Train(CE("retain") + 1.0 * L1(), batch=48, lr=1e-9, where=Named(r"^4\.bias$"))
    run = tiny.run()
    epoch = carry_out((train,), run)[0]
    without = tiny.run()
    alone = carry_out((replace(train, objective=CE("retain")),), without)[0]
    size = float(run.original[4].bias.abs().sum())
    assert epoch.losses[0] - alone.losses[0] == pytest.approx(size, rel=1e-3)


def test_a_random_part_is_drawn_anew_each_turn() -> None:
    train = Train(CE("retain"), batch=48, optimiser=STRONG, where=Random(0.5))
    run = tiny.run()
    carry_out((Repeat((train,), 8),), run)
    moved = torch.cat(
        [
            (a != b).flatten()
            for a, b in zip(run.model.parameters(), run.original.parameters(), strict=True)
        ]
    )
    assert moved.float().mean() > 0.9


def test_both_sets_of_repel_are_read_by_one_pass_over_forget() -> None:
    run = tiny.run()
    carry_out((Train(Repel("forget", "retain"), batch=5, over="forget"),), run)
    # 12 forget examples in minibatches of 5: 5, 5, 2; beside each a minibatch of 5 retained
    assert run.counts.examples == {"forget": 12, "retain": 15}


def test_train_refuses_what_it_cannot_do() -> None:
    for wrong in ({"epochs": 0.0}, {"batch": 0}, {"clip": -1.0}, {"over": "forget"}):
        with pytest.raises(BadSentence):
            Train(CE("retain"), **wrong)
    with pytest.raises(BadSentence, match="reads no set"):
        Train(L1())


def test_unlearn_on_one_forget_example() -> None:
    done = unlearn(tiny.made(), Train(-CE("forget"), epochs=2), tiny.problem(1))
    assert done.receipt.examples == {"forget": 2}
