"""SISA: after a deletion the ensemble is what training without the rows gives, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import tiny
from expunge.core.batch import Tensors
from expunge.core.problem import Problem
from expunge.core.store import Store
from expunge.engine.training import Repeat, Train
from expunge.errors import BadData, BadSentence, Diverged, OffLimits, Unsupported
from expunge.experiments.collect import evidence_of
from expunge.methods.exact.deletions import Layout, forget_rows
from expunge.methods.exact.sisa import MeanSoftmax, Sisa, Stage, Votes, train_stage
from expunge.methods.losses.answers import CE
from expunge.methods.sentences import as_method

# With 2 slices a stage gets 2/3 of the epochs, with 3 a half.
RECIPE = as_method("Train(CE('train'), epochs=6, lr=0.05, batch=16)", "recipe")


def problem(**rest: Any) -> Problem:
    return tiny.problem(**{"recipe": RECIPE, "test": tiny.pictures(20), **rest})


def sisa(**rest: Any) -> Sisa:
    task = rest.pop("task", None) or problem()
    return Sisa(task, **{"shards": 2, "slices": 3, "seed": 4, **rest})


def same(one: Sisa, two: Sisa) -> bool:
    return one.members.keys() == two.members.keys() and tiny.same(one.model(), two.model())


@pytest.fixture(scope="module")
def layout() -> Layout:
    return Layout(60, 2, 3, 4)


@pytest.fixture(scope="module")
def refusing() -> Sisa:
    return sisa(without=[7])


def test_a_deletion_is_training_without_the_rows(layout: Layout) -> None:
    rows = [int(layout.parts[0][1][0]), int(layout.parts[0][2][3])]
    ours = sisa()
    before = ours.model()
    ours.forget(rows)
    assert same(ours, sisa(without=rows))
    assert not tiny.same(before, ours.model())


def test_the_deleted_rows_decide_nothing(layout: Layout) -> None:
    """Whatever the deleted examples were, the ensemble after their deletion is the same."""
    rows = layout.parts[1][0][:2]
    train = problem().sets["train"]
    assert isinstance(train, Tensors)
    inputs, targets = train.inputs.clone(), train.targets.clone()
    inputs[rows], targets[rows] = 7.0, 9 - targets[rows]
    other = Problem.split((inputs, targets), [0], architecture=tiny.net, recipe=RECIPE)
    one, two = sisa(), sisa(task=other)
    assert not tiny.same(one.model(), two.model())
    one.forget(rows)
    two.forget(rows)
    assert same(one, two)


def test_one_request_after_another_is_one_request() -> None:
    ours = sisa()
    for rows in ([3], [50, 1], [17]):
        ours.forget(rows)
    assert same(ours, sisa(without=[1, 3, 17, 50]))
    assert ours.gone.tolist() == [1, 3, 17, 50]


def test_only_the_stages_that_saw_a_row_are_trained(layout: Layout) -> None:
    ours = sisa()
    assert ours.trained.stages == 6
    before = {shard: tiny.state(model) for shard, model in ours.members.items()}
    done = ours.forget([int(layout.parts[1][2][0])])
    assert (done.shards, done.stages) == ((1,), 1)
    now = tiny.state(ours.members[0])
    assert all(torch.equal(before[0][name], now[name]) for name in now)
    assert ours.forget([int(layout.parts[1][1][0])]).stages == 2
    assert ours.forget([int(layout.parts[1][0][0])]).stages == 3
    both = [int(layout.parts[0][2][0]), int(layout.parts[1][1][1])]
    done = ours.forget(both)
    assert (done.shards, done.stages) == ((0, 1), 3)


def test_the_work_is_the_one_forecast(layout: Layout) -> None:
    ours = sisa()
    assert ours.trained.share == pytest.approx(1)
    for rows in ([0, 5, 9], [30], layout.parts[0][0][:4].tolist()):
        rows = [row for row in rows if row not in ours.gone]
        told = ours.forecast(rows)
        done = ours.forget(rows)
        assert done.share == pytest.approx(told)
        assert done.examples == round(told * 6 * (60 - len(ours.gone)))
        assert f"{len(rows)} rows" in str(done)


def test_a_whole_slice_and_a_whole_shard(layout: Layout) -> None:
    ours = sisa()
    ours.forget(layout.parts[0][0])
    assert same(ours, sisa(without=layout.parts[0][0]))
    assert len(ours.model().members) == 2
    ours.forget(torch.cat(layout.parts[0][1:]))
    assert same(ours, sisa(without=torch.cat(layout.parts[0])))
    assert len(ours.model().members) == 1
    answers = ours.model(MeanSoftmax)(tiny.pictures().inputs)
    alone = ours.members[1](tiny.pictures().inputs).log_softmax(1)
    assert torch.allclose(answers, alone)


def test_a_shard_with_one_row_left_has_no_vote(layout: Layout) -> None:
    shard = torch.cat(layout.parts[0])
    ours = sisa()
    done = ours.forget(shard[:-1])
    assert (done.stages, done.examples, done.share) == (0, 0, 0)
    assert list(ours.members) == [1]
    assert same(ours, sisa(without=shard[:-1]))
    ours.forget(shard[-1:])
    assert list(ours.members) == [1]


def test_no_shard_left() -> None:
    ours = Sisa(problem(n=8, forget=2), shards=4, seed=0)
    rows = [int(part[0][0]) for part in ours.layout.parts]
    with pytest.raises(BadData, match="No shard has 2 rows left"):
        ours.forget(rows)
    assert len(ours.members) == 4
    assert len(ours.gone) == 0


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "is empty"),
        ([60], "names row 60, but the training set has rows 0 to 59"),
        ([-1], "names row -1"),
        ([2, 2], "row 2 more than once"),
        ([7, 8], "Row 7 was deleted before"),
        ([row for row in range(60) if row != 7], "all 59 rows that are left"),
        ([1.5], "whole row numbers"),
        (torch.zeros(60, dtype=torch.bool), "mask of booleans"),
    ],
)
def test_requests_that_cannot_be_carried_out(refusing: Sisa, rows: Any, message: str) -> None:
    ours = refusing
    before = ours.model()
    with pytest.raises(BadData, match=message):
        ours.forget(rows)
    with pytest.raises(BadData, match=message):
        ours.forecast(rows)
    assert tiny.same(before, ours.model())
    assert ours.gone.tolist() == [7]


def test_an_interrupted_training_goes_on_from_its_checkpoints(tmp_path: Path) -> None:
    first = sisa(folder=tmp_path / "store")
    again = sisa(folder=tmp_path / "store")
    assert again.trained.stages == 0
    assert same(first, again)
    assert same(first, sisa())
    again.forget([3, 40])
    assert same(again, sisa(without=[3, 40]))
    third = sisa(folder=tmp_path / "store", without=[3, 40])
    assert third.trained.stages == 0
    assert same(again, third)


def test_checkpoints_that_saw_a_deleted_row_are_destroyed(tmp_path: Path, layout: Layout) -> None:
    ours = sisa(folder=tmp_path / "store")
    other = sisa(folder=tmp_path / "store", seed=5)
    before = {file: file.read_bytes() for file in (tmp_path / "store").rglob("*.safetensors")}
    assert len(before) == 12
    ours.forget([int(layout.parts[0][1][0])])
    now = {file: file.read_bytes() for file in (tmp_path / "store").rglob("*.safetensors")}
    assert len(now) == 12
    gone = [file for file in before if file not in now]
    assert len(gone) == 2
    assert not {before[file] for file in gone} & set(now.values())
    assert sisa(folder=tmp_path / "store", seed=5).trained.stages == 0
    assert same(other, sisa(seed=5))


def test_a_checkpoint_belongs_to_the_pictures_and_the_labels(tmp_path: Path) -> None:
    sisa(folder=tmp_path / "store")
    train = tiny.pictures()
    for inputs, targets in ((train.inputs + 0.1, train.targets), (train.inputs, 9 - train.targets)):
        task = Problem.split((inputs, targets), [0], architecture=tiny.net, recipe=RECIPE)
        other = sisa(folder=tmp_path / "store", task=task)
        assert other.trained.stages == 6
        assert same(other, sisa(task=task))


def test_every_stage_draws_its_own_orders() -> None:
    models = [tiny.made() for _ in range(3)]
    for model, name in zip(models, ("shard 0", "shard 1", "shard 0"), strict=True):
        train_stage(model, RECIPE.steps, Stage(name, tiny.pictures()), 0)
    assert tiny.same(models[0], models[2])
    assert not tiny.same(models[0], models[1])


def test_checkpoints_in_memory_are_destroyed_too(layout: Layout) -> None:
    ours = sisa()
    assert len(ours.checkpoints.states) == 6  # type: ignore[attr-defined]
    ours.forget(torch.cat(layout.parts[0]))
    assert len(ours.checkpoints.states) == 3  # type: ignore[attr-defined]


def test_a_corrupt_checkpoint_is_made_again(tmp_path: Path, layout: Layout) -> None:
    ours = sisa(folder=tmp_path / "store")
    store = Store(tmp_path / "store")
    for job in ours.jobs[0]:
        (store.folder(job) / "model.safetensors").write_bytes(b"torn")
    again = sisa(folder=tmp_path / "store")
    assert again.trained.stages == 3
    assert same(ours, again)
    assert not list((tmp_path / "store" / "corrupt").glob("*"))


def test_an_error_while_retraining_leaves_the_ensemble(
    monkeypatch: pytest.MonkeyPatch, layout: Layout
) -> None:
    ours = sisa()
    before = ours.model()

    def fails(*_: object) -> int:
        raise Diverged("as planted")

    monkeypatch.setattr("expunge.methods.exact.sisa.train_stage", fails)
    rows = [int(layout.parts[0][0][0]), int(layout.parts[1][0][0])]
    with pytest.raises(Diverged):
        ours.forget(rows)
    monkeypatch.undo()
    assert tiny.same(before, ours.model())
    ours.forget(rows)
    assert same(ours, sisa(without=rows))


def test_dropout_and_random_parts_are_exact_too() -> None:
    recipe = as_method("Train(CE('train'), epochs=3, lr=0.05, batch=8, where=Random(0.7))")
    task = problem(architecture=tiny.dropping, recipe=recipe)
    ours = sisa(task=task)
    ours.forget([0, 20])
    assert same(ours, sisa(task=task, without=[0, 20]))


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    sisa().forget([0])
    assert torch.equal(before, torch.get_rng_state())


def test_votes_by_hand() -> None:
    class Says(nn.Module):
        def __init__(self, *shares: float) -> None:
            super().__init__()
            self.shares = nn.Parameter(torch.tensor([shares]))

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.shares.log().expand(len(inputs), -1) + 3.0  # logits, not normalised

    members = [Says(0.5, 0.4, 0.1), Says(0.5, 0.4, 0.1), Says(0.0, 0.98, 0.02)]
    mean = [1.0 / 3, 1.78 / 3, 0.22 / 3]
    answers = MeanSoftmax(members)(torch.zeros(2, 1))
    assert torch.allclose(answers.exp(), torch.tensor([mean, mean]))
    votes = [(2 + mean[0]) / 4, (1 + mean[1]) / 4, mean[2] / 4]
    answers = Votes(members)(torch.zeros(2, 1))
    assert torch.allclose(answers.exp(), torch.tensor([votes, votes]))
    assert answers.argmax(1).tolist() == [0, 0]  # the majority, which the mean would overrule


def test_metrics_take_the_ensemble_for_one_model() -> None:
    found = evidence_of([sisa().model(), sisa().model(MeanSoftmax)], problem(), ["retain", "test"])
    assert found.logits.shape == (2, 68, 10)
    total = torch.from_numpy(found.logits).exp().sum(2)
    assert torch.allclose(total, torch.ones(2, 68), atol=1e-5)


def test_more_training_learns_the_digits() -> None:
    recipe = as_method("Train(CE('train'), epochs=30, lr=0.1, batch=8)", "recipe")
    model = sisa(task=problem(recipe=recipe)).model()
    right = (model(tiny.pictures().inputs).argmax(1) == tiny.pictures().targets).float().mean()
    assert right > 0.8


@pytest.mark.parametrize(
    "recipe",
    [
        "Noise(0.1), Train(CE('train'))",
        "Train(CE('train') - CE('forget'))",
        "Train(CE('train') + KL('train'))",
        "Train(CE('retain'))",
    ],
)
def test_recipes_that_are_not_training_alone(recipe: str) -> None:
    with pytest.raises(BadSentence, match="must consist of Train steps on the set 'train' alone"):
        sisa(task=problem(recipe=as_method(recipe, "recipe")))


def test_a_problem_that_lacks_something() -> None:
    with pytest.raises(Unsupported, match="no recipe"):
        sisa(task=problem(recipe=None))
    with pytest.raises(Unsupported, match="no architecture"):
        sisa(task=problem(architecture=None))
    task = problem()
    bare = replace(task, sets={name: task.sets[name] for name in ("forget", "retain")})
    with pytest.raises(BadData, match="no set 'train'"):
        sisa(task=bare)
    with pytest.raises(BadData, match="cut from its set 'train'"):
        forget_rows(bare)


def test_a_stage_shows_its_rows_alone() -> None:
    with pytest.raises(OffLimits, match="not 'forget'"):
        Stage("shard 0, slice 0", tiny.pictures()).data("forget")


def test_the_rows_of_a_forget_set() -> None:
    assert forget_rows(problem()).tolist() == list(range(12))
    x, y = tiny.pictures().inputs, tiny.pictures().targets
    apart = Problem.of(forget=(x[:5], y[:5]), retain=(x[5:], y[5:]))
    rows = forget_rows(apart)
    assert torch.equal(apart.sets["train"].batch(rows).inputs, x[:5])


def test_a_recipe_in_turns() -> None:
    recipe = as_method("Repeat((Train(CE('train'), epochs=2, lr=0.05, batch=8),), times=3)", "r")
    ours = sisa(task=problem(recipe=recipe))
    assert ours.trained.share == pytest.approx(1)
    assert ours.steps == (Repeat((Train(CE("train"), epochs=1.0, lr=0.05, batch=8),), 3),)


def test_the_guarantee_says_what_it_leaves_out() -> None:
    said = sisa().guarantee
    assert all(word in said for word in ("Exact", "Assumes", "Not covered", "copies"))
