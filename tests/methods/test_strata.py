"""Unlearning in strata of memorisation: who is in which, and what each stratum's steps see."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import tiny
from expunge.core.batch import Tensors
from expunge.core.method import Step
from expunge.core.problem import Problem
from expunge.core.schedules import SGD
from expunge.core.seeds import stream
from expunge.engine.loop import SingleModel
from expunge.engine.run import Run, run_steps
from expunge.engine.training import Repeat, Train
from expunge.errors import BadSentence, NothingChanged, Unsupported
from expunge.methods.losses.answers import CE
from expunge.methods.published import PUBLISHED
from expunge.methods.selectors.judged import Salient
from expunge.methods.steps import classes as strata
from expunge.methods.steps.classes import Strata
from expunge.methods.steps.dampening import Dampen
from expunge.methods.steps.edits import Noise
from expunge.unlearn import unlearn


def carry_out(run: Run, *steps: Step) -> Run:
    list(run_steps(steps, SingleModel(run)))
    return run


class Sure(nn.Module):
    """Answers with a logit that is the mean of the image, for class 0; class 1 has 0."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Linear(1, 1, bias=False)
        with torch.no_grad():
            self.scale.weight.fill_(1.0)

    def forward(self, inputs: Tensor) -> Tensor:
        sure = self.scale(inputs.flatten(1).mean(1, keepdim=True))
        return torch.cat([sure, torch.zeros_like(sure)], 1)


def ranked(levels: list[float]) -> Problem:
    """Examples of class 0 whose confidence follows the levels, and four to retain."""
    inputs = torch.tensor([*levels, 0.5, 0.6, 0.7, 0.8]).view(-1, 1, 1, 1)
    targets = torch.zeros(len(inputs)).long()
    return Problem.split((inputs, targets), torch.arange(len(levels)), architecture=Sure)


class Watch(Step):
    """Writes down which rows the run calls forget, retain and train."""

    def __init__(self) -> None:
        self.seen: list[dict[str, list[int]]] = []
        self.places: list[str] = []

    def __call__(self, run: Run) -> None:
        sets = ("forget", "retain", "train")
        data = {name: run.data(name) for name in sets}
        read = {n: d.batch(torch.arange(len(d))).inputs.flatten().tolist() for n, d in data.items()}
        self.seen.append({n: [round(v, 3) for v in values] for n, values in read.items()})
        self.places.append(run.place)


def test_strata_by_hand() -> None:
    levels = [0.3, 0.9, 0.1, 0.7, 0.5, 0.2]
    low, middle, high = Watch(), Watch(), Watch()
    run = tiny.run(Sure(), ranked(levels))
    run.place = "/4"
    Strata(low=(low,), middle=(middle,), high=(high,))(run)
    kept = [0.5, 0.6, 0.7, 0.8]
    # the least confident are the most memorised; rows keep their order within a stratum
    assert high.seen == [{"forget": [0.1, 0.2], "retain": kept, "train": [*kept, 0.1, 0.2]}]
    assert middle.seen[0]["forget"] == [0.3, 0.5]
    assert low.seen[0]["forget"] == [0.9, 0.7]
    assert (low.places, high.places) == (["/4/low/0"], ["/4/high/0"])
    assert run.place == "/4"
    assert len(run.data("forget")) == 6
    assert run.counts.examples == {"forget": 6}


def test_strata_are_treated_from_low_to_high_and_the_empty_ones_not_at_all() -> None:
    order: list[str] = []

    class Said(Watch):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def __call__(self, run: Run) -> None:
            order.append(f"{self.name} {len(run.data('forget'))}")

    steps = {name: (Said(name),) for name in ("low", "middle", "high")}
    Strata(**steps)(tiny.run(Sure(), ranked([0.1, 0.2, 0.3, 0.4])))
    assert order == ["low 1", "middle 1", "high 2"]
    order.clear()
    Strata(**steps)(tiny.run(Sure(), ranked([0.1])))
    assert order == ["high 1"]


def test_ties_go_by_position() -> None:
    high, low = Watch(), Watch()
    levels = [0.5] * 6
    task = ranked(levels)
    rows: list[list[int]] = []

    class Rows(Watch):
        def __call__(self, run: Run) -> None:
            data = run.data("forget")
            rows.append(data.batch(torch.arange(len(data))).index.tolist())

    Strata(high=(Rows(),), middle=(Rows(),), low=(Rows(),))(tiny.run(Sure(), task))
    assert rows == [[4, 5], [2, 3], [0, 1]]
    assert not high.seen
    assert not low.seen


def test_a_stratum_is_trained_as_if_it_alone_were_to_be_forgotten() -> None:
    train = Train(CE("retain") - 0.1 * CE("forget"), epochs=2, batch=4, lr=0.01)
    run = carry_out(tiny.run(), Strata(high=(train,)))
    order = strata.confidence(tiny.run(), "forget").sort(stable=True).indices
    part = strata.stratum(tiny.problem(), "forget", order[:4].sort().values)
    twin = tiny.run(task=part)
    twin.place = "/0/high/0"
    train(twin)
    assert tiny.same(run.model, twin.model)
    assert [place for place, _, _ in run.counts.curve] == ["/0/high/0", "/0/high/0"]
    step = Strata(high=(train,))
    assert run.counts.examples == step.reads(tiny.problem()) == {"forget": 12 + 96, "retain": 96}


def test_a_part_means_its_stratum_and_is_not_remembered_for_the_whole() -> None:
    # Salient("forget") of a stratum is another mask than that of the whole forget set
    run = tiny.run()
    whole = {n: m.clone() for n, m in run.mask(Salient("forget", 0.2)).items()}
    inner = Train(CE("forget"), where=Salient("forget", 0.2), lr=0.01, optimiser=SGD(momentum=0.0))
    carry_out(run, Strata(high=(inner,)))
    moved = {
        n: w.detach() != dict(run.original.named_parameters())[n]
        for n, w in run.model.named_parameters()
    }
    assert any((moved[n] & ~whole[n]).any() for n in whole)
    again = run.mask(Salient("forget", 0.2))
    assert all(torch.equal(again[n], whole[n]) for n in whole)


def test_strata_within_turns_keep_their_optimisers() -> None:
    inner = Train(-CE("forget"), lr=0.001, batch=4)
    run = carry_out(tiny.run(), Repeat((Strata(high=(inner,), low=(inner,)),), 2))
    assert sorted(run.optimisers) == ["/0/0/high/0", "/0/0/low/0"]


def test_dampening_in_a_stratum_sees_that_stratum() -> None:
    run = carry_out(tiny.run(), Strata(high=(Dampen(alpha=1.2),)))
    assert run.counts.examples == {"forget": 12 + 4, "train": 52}


def test_strata_that_do_nothing_are_refused() -> None:
    with pytest.raises(BadSentence, match="there are none"):
        Strata()
    # one example is memorised the most, and nothing is done for such
    with pytest.raises(NothingChanged):
        unlearn(tiny.made(), Strata(low=(Noise(0.1),)), tiny.problem(1))


def test_strata_refuse_tokens() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(8, 10)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.last(inputs[:, 0])

    with pytest.raises(Unsupported, match="tokens"):
        carry_out(tiny.run(Tokens()), Strata(high=(Noise(0.1),)))


def test_the_order_of_the_data_changes_no_stratum() -> None:
    data = tiny.pictures()
    order = torch.randperm(12, generator=stream("test"))
    rows = torch.cat([order, torch.arange(12, 60)])
    turned = Tensors(data.inputs[rows], data.targets[rows])
    one = strata.confidence(tiny.run(), "forget").sort(stable=True).indices[:4]
    task = Problem.split(turned, torch.arange(12))
    two = strata.confidence(tiny.run(task=task), "forget").sort(stable=True).indices[:4]
    assert sorted(order[two].tolist()) == sorted(one.tolist())


def test_the_recipe_does_nothing_for_what_is_least_memorised() -> None:
    (step,) = PUBLISHED["rum"].steps
    assert isinstance(step, Strata)
    assert step.low == ()
    (middle,), (high,) = step.middle, step.high
    assert isinstance(middle, Train)
    assert isinstance(high, Train)
    assert replace(middle, epochs=high.epochs, lr=high.lr) == high
    assert (middle.epochs, middle.lr, high.epochs, high.lr) == (5, 0.01, 10, 0.001)


def test_strata_take_steps_alone() -> None:
    with pytest.raises(BadSentence):
        Strata(high=(CE("forget"),))  # type: ignore[arg-type]
