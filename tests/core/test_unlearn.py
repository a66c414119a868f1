"""unlearn(): a private copy, seeded streams, checks, and a receipt that tells the truth."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import tiny
from expunge.core.batch import Subset
from expunge.core.problem import Problem
from expunge.core.receipt import Receipt
from expunge.core.selector import Everything
from expunge.engine.training import Negate, Repeat, Reset, Train, from_scratch
from expunge.errors import BadData, BadSentence, Diverged, NothingChanged, OffLimits, Unsupported
from expunge.methods.losses.answers import CE, KL
from expunge.methods.losses.classes import Relabel
from expunge.methods.published.article import nothing
from expunge.methods.selectors.judged import Random, Salient, Similar
from expunge.methods.selectors.places import Last, Named
from expunge.methods.steps.dampening import Dampen
from expunge.methods.steps.edits import Blend, Noise, Zero
from expunge.methods.steps.influence import Newton
from expunge.unlearn import unlearn

MIXED = (
    Noise(0.01),
    Reset(Random(0.1)),
    Train(Relabel("forget") + KL("retain", teacher="random"), batch=16),
)


def test_the_callers_model_is_untouched() -> None:
    model = tiny.made().train()
    model[0].eval()
    model[4].bias.requires_grad_(False)
    model[4].weight.grad = torch.ones_like(model[4].weight)
    handle = model[2].register_forward_hook(lambda *_: None)
    before, twin = tiny.state(model), copy.deepcopy(model)
    unlearn(model, MIXED, tiny.problem(), seed=1)
    assert tiny.same(model, twin)
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    assert [m.training for m in model.modules()] == [m.training for m in twin.modules()]
    assert [w.requires_grad for w in model.parameters()] == [True, True, True, True, False]
    assert torch.equal(model[4].weight.grad, torch.ones_like(model[4].weight))
    assert list(model[2]._forward_hooks) == [handle.id]
    assert all(not m._forward_hooks for m in model if m is not model[2])


def test_what_comes_back_is_another_model_ready_to_answer() -> None:
    model = tiny.made()
    done = unlearn(model, MIXED, tiny.problem()).model
    mine = {w.data_ptr() for w in model.parameters()}
    assert all(w.data_ptr() not in mine for w in done.parameters())
    assert not any(m.training for m in done.modules())
    assert not any(w.requires_grad for w in done.parameters())
    assert type(done) is type(model)


def test_global_generators_are_neither_read_nor_set() -> None:
    torch.manual_seed(1)
    one = unlearn(tiny.made(), MIXED, tiny.problem(), seed=3).model
    torch.manual_seed(2)
    states = torch.get_rng_state(), str(np.random.get_state()), random.getstate()  # noqa: NPY002
    two = unlearn(tiny.made(), MIXED, tiny.problem(), seed=3).model
    assert tiny.same(one, two)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (str(np.random.get_state()), random.getstate())  # noqa: NPY002


SEEDED = [
    Noise(0.01),
    Reset(),
    Reset(Last(1)),
    Reset(Random(0.1)),
    Reset(Similar(share=0.3)),
    Train(CE("retain"), batch=16),
    Train(Relabel("forget"), batch=64),
    Train(KL("retain", teacher="random"), batch=64),
    Negate(Train(CE("forget"), batch=4)),
]


@pytest.mark.parametrize("step", SEEDED, ids=str)
def test_the_seed_says_everything(step: Any) -> None:
    first, again, other = (
        unlearn(tiny.made(), step, tiny.problem(), seed=seed).model for seed in (0, 0, 1)
    )
    assert tiny.same(first, again)
    assert not tiny.same(first, other)


def receipt(method: Any, **rest: Any) -> Receipt:
    return unlearn(tiny.made(), method, tiny.problem(**rest)).receipt


@pytest.mark.parametrize(
    ("method", "examples"),
    [
        (Train(CE("retain"), epochs=2, batch=10), {"retain": 96}),
        # minibatches of 10: 10 10 10 10 8 retained; beside each 10, 2, 10, 2, 10 to be forgotten
        (Train(Relabel("forget") + CE("retain"), batch=10), {"forget": 34, "retain": 48}),
        (Train(CE("retain"), where=Salient("forget")), {"forget": 12, "retain": 48}),
        (Zero(Salient("forget")), {"forget": 12}),
        (Reset(Similar()), {"retain": 12, "forget": 12}),
        (Dampen(alpha=0.1), {"forget": 12, "train": 60}),
        (Newton(CE("retain"), iterations=3, damping=1.0), {"retain": 48 * 4}),
        (Negate(Train(CE("forget"), epochs=3)), {"forget": 36}),
        (Repeat((Train(CE("forget")), Train(CE("retain"))), 4), {"forget": 48, "retain": 192}),
        (Noise(0.1), {}),
        ((Zero(Last(1)), Blend(0.5)), {}),
    ],
    ids=str,
)
def test_examples_are_counted_by_set(method: Any, examples: dict[str, int]) -> None:
    assert receipt(method).examples == examples


def test_moved_touched_and_largest_by_hand() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False))
    with torch.no_grad():
        model[1].weight.fill_(2.0)
        model[1].weight[0] = 0.0
    told = unlearn(model, Zero(Named("weight")), tiny.problem()).receipt
    assert told.moved == pytest.approx(1.0)
    assert told.touched == pytest.approx(0.9)
    assert told.largest == 2.0
    halfway = unlearn(model, (Zero(Everything()), Blend(0.5)), tiny.problem()).receipt
    assert halfway.moved == pytest.approx(0.5)
    assert halfway.largest == 1.0
    assert halfway.engine == "alone"


def test_the_largest_change_counts_statistics_and_no_minibatches() -> None:
    told = receipt(Train(CE("retain"), epochs=50, batch=10, lr=1e-6))
    before = tiny.made()
    after = unlearn(before, Train(CE("retain"), epochs=50, batch=10, lr=1e-6), tiny.problem())
    floats = [n for n, t in before.state_dict().items() if t.is_floating_point()]
    now = after.model.state_dict()
    largest = max(
        float((now[n] - t).abs().max()) for n, t in before.state_dict().items() if n in floats
    )
    assert told.largest == pytest.approx(largest, rel=1e-5)
    assert told.largest < 10  # 250 minibatches went by


def test_the_curve_has_one_point_an_epoch() -> None:
    told = receipt((Noise(0.01), Repeat((Train(CE("retain"), epochs=2),), 2)))
    assert [point[:2] for point in told.curve] == [("/1/0", 1.0), ("/1/0", 2.0)] * 2
    assert told.method == "Noise(0.01), Repeat((Train(CE('retain'), epochs=2),), 2)"
    assert "192 of retain" in str(told)


@pytest.mark.parametrize(
    "step",
    [
        Noise(0.0),
        Train(CE("retain"), lr=0.0),
        Dampen(alpha=1e9, against="retain"),
        Blend(1.0),
        (Noise(1.0), Blend(1.0)),
    ],
    ids=str,
)
def test_what_changes_no_weight_is_an_error(step: Any) -> None:
    with pytest.raises(NothingChanged, match="left every weight as it was"):
        unlearn(tiny.made(), step, tiny.problem())


def test_the_control_that_does_nothing_may_change_nothing() -> None:
    done = unlearn(tiny.made(), nothing, tiny.problem())
    assert tiny.same(done.model, tiny.made())
    assert (done.receipt.moved, done.receipt.touched, done.receipt.largest) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("closed", ["test", "holdout"])
@pytest.mark.parametrize(
    "step",
    [
        lambda name: Train(CE(name)),
        lambda name: Train(CE("retain") + 0.1 * KL(name)),
        lambda name: Reset(Salient(name)),
        lambda name: Zero(Similar("retain", name) | Last(1)),
        lambda name: Dampen(against=name),
        lambda name: Repeat((Negate(Train(CE(name))),), 2),
        lambda name: Newton(CE(name)),
    ],
)
def test_measuring_sets_are_off_limits(closed: str, step: Any) -> None:
    task = tiny.problem(**{closed: tiny.pictures(8)})
    with pytest.raises(OffLimits, match=closed):
        unlearn(tiny.made(), step(closed), task)
    # a method of one's own that asks in secret gets the same answer
    with pytest.raises(OffLimits):
        tiny.run(task=task).data(closed)


def test_nothing_is_done_before_the_sets_are_checked() -> None:
    run: list[str] = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(64, 10)

        def forward(self, inputs: Tensor) -> Tensor:
            run.append("forward")
            return self.last(inputs.flatten(1))

    with pytest.raises(OffLimits):
        unlearn(Watched(), (Train(CE("retain")), Train(CE("test"))), tiny.problem())
    assert not run


def test_an_unknown_set_is_told_with_the_nearest() -> None:
    with pytest.raises(BadData, match="Did you mean retain"):
        unlearn(tiny.made(), Train(CE("retian")), tiny.problem())


@pytest.mark.parametrize("name", ["4.weight", "1.running_var"])
def test_a_broken_model_is_refused(name: str) -> None:
    model = tiny.made()
    model.state_dict()[name].view(-1)[0] = float("nan")
    with pytest.raises(Diverged, match=f"^The model has NaN.*{name}"):
        unlearn(model, Noise(0.1), tiny.problem())


def test_weights_that_break_on_the_way_are_refused() -> None:
    with pytest.raises(Diverged):
        unlearn(tiny.made(), Noise(1e38), tiny.problem())
    with pytest.raises(BadData, match="no parameters"):
        unlearn(nn.Flatten(), Noise(0.1), tiny.problem())


@pytest.mark.parametrize(
    "rows", [[], [0, 0], [60], [-1], list(range(60)), [0.5], [[1, 2]], [True, False]], ids=str
)
def test_forget_rows_that_make_no_sense(rows: Any) -> None:
    with pytest.raises(BadData):
        Problem.split(tiny.pictures(), rows)


def test_sets_that_overlap() -> None:
    data = tiny.pictures()
    with pytest.raises(BadData, match="1 examples"):
        Problem.of(forget=Subset(data, torch.arange(3)), retain=Subset(data, torch.arange(2, 9)))
    for same in (data, (data.inputs, data.targets), Reading()):
        with pytest.raises(BadData, match="same object"):
            Problem.of(forget=same, retain=same)
    with pytest.raises(BadData, match="empty"):
        Problem.of(forget=(data.inputs[:0], data.targets[:0]), retain=data)
    with pytest.raises(BadData, match="Did you mean holdout"):
        Problem("x", {"forget": data, "retain": data, "hold_out": data})
    with pytest.raises(BadData, match="Rows"):
        Subset(data, torch.tensor([60]))


def test_further_sets_may_be_none() -> None:
    data = tiny.pictures()
    rows = Problem.split(data, [1], val=None, test=data)
    assert sorted(rows.sets) == ["forget", "retain", "test", "train"]
    both = Problem.of(
        forget=(data.inputs[:3], data.targets[:3]),
        retain=Subset(data, torch.arange(3, 9)),
        holdout=None,
        val=data,
    )
    assert sorted(both.sets) == ["forget", "retain", "train", "val"]


class Own(nn.Module):
    """A network as its author would write it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.last = nn.Linear(64, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(self.norm(self.first(inputs)).relu().flatten(1))


class Scaled(Own):
    """With a weight that nobody can reset."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(10))


def test_reset_without_an_architecture() -> None:
    task = tiny.problem(architecture=None)
    model = tiny.made(Own)
    done = unlearn(model, Reset(), task).model
    assert torch.equal(done.norm.running_mean, torch.zeros(4))
    assert not torch.equal(done.last.weight, model.last.weight)
    with pytest.raises(Unsupported, match=r"Scaled.*no reset_parameters.*architecture"):
        unlearn(tiny.made(Scaled), Reset(), task)
    again = unlearn(tiny.made(Scaled), Reset(), tiny.problem(architecture=Scaled)).model
    assert torch.equal(again.scale, torch.ones(10))


@pytest.mark.parametrize("step", [Reset(), Train(KL("retain", teacher="random"))], ids=str)
def test_an_architecture_that_made_another_model_is_refused(step: Any) -> None:
    with pytest.raises(BadData, match="other weights than the model has"):
        unlearn(tiny.made(tiny.plain), step, tiny.problem(architecture=tiny.net))


def test_oracles_need_an_architecture_and_a_recipe() -> None:
    with pytest.raises(Unsupported, match="no architecture"):
        tiny.problem(architecture=None).untrained("x")
    with pytest.raises(Unsupported, match="no recipe"):
        from_scratch(tiny.problem(recipe=None), "retain", "retrain")


class Reading(Dataset[Any]):
    """A map-style data set that counts what is read of it."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def __len__(self) -> int:
        return 60

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        if not 0 <= row < 60:
            raise IndexError(row)
        self.read.append(row)
        data = tiny.pictures()
        return data.inputs[row], int(data.targets[row])


def test_a_data_set_is_asked_only_for_rows_of_the_sets() -> None:
    data = Reading()
    task = Problem.split(data, torch.arange(12), architecture=tiny.net)
    assert data.read == []
    done = unlearn(tiny.made(), Train(CE("forget"), epochs=2, batch=5), task)
    assert sorted(data.read) == sorted([*range(12)] * 2)
    data.read.clear()
    unlearn(tiny.made(), Train(CE("retain"), batch=5), task)
    assert sorted(data.read) == list(range(12, 60))
    twin = unlearn(tiny.made(), Train(CE("forget"), epochs=2, batch=5), tiny.problem())
    assert tiny.same(done.model, twin.model)


def test_a_joined_problem_reads_each_part() -> None:
    forget, retain = Reading(), Reading()
    task = Problem.of(forget=forget, retain=retain)
    told = unlearn(tiny.made(), Train(CE("train"), batch=16), task).receipt
    assert told.examples == {"train": 120}
    assert sorted(forget.read) == sorted(retain.read) == list(range(60))


@pytest.mark.parametrize("wrong", ["finetun", "Train(CE('retain')", 5, ("finetune",), None])
def test_what_is_no_method(wrong: Any) -> None:
    with pytest.raises(BadSentence):
        unlearn(tiny.made(), wrong, tiny.problem())


def test_a_method_by_its_name_its_sentence_or_itself() -> None:
    step = Train(CE("retain"), batch=16)
    models = [unlearn(tiny.made(), m, tiny.problem()).model for m in (step, (step,), repr(step))]
    assert tiny.same(models[0], models[1])
    assert tiny.same(models[0], models[2])
    named = unlearn(tiny.made(), "finetune", tiny.problem())
    assert named.receipt.examples == {"retain": 48}
