"""Matching an oracle or a prediction of it, and unlearning in strata."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import tiny
from brief import brief
from expunge.core.batch import Subset
from expunge.core.method import Method, Step
from expunge.core.problem import Problem
from expunge.core.schedules import SGD
from expunge.engine import datamodels
from expunge.engine.loop import SingleModel
from expunge.engine.run import Run, frozen, run_steps
from expunge.engine.stacking import StackedModels
from expunge.engine.training import Train, from_scratch
from expunge.errors import BadSentence, Unsupported
from expunge.methods.cost import forecast
from expunge.methods.losses.answers import CE, KL, MSE
from expunge.methods.losses.teachers import Predicted
from expunge.methods.published import PUBLISHED
from expunge.methods.published.teachers import MATCHING
from expunge.unlearn import unlearn

TWO = Method("two epochs", (Train(CE("train"), epochs=2, lr=0.05, batch=16),))


def carry_out(run: Run, *steps: Step) -> Run:
    list(run_steps(steps, SingleModel(run)))
    return run


# -- oracle matching --------------------------------------------------------------------------


def test_the_oracle_teacher_is_retrained_on_the_retain_set_alone() -> None:
    task = tiny.problem(recipe=TWO)
    data = tiny.pictures()
    # the same problem with other examples to forget: what they are cannot matter
    inputs, targets = data.inputs.clone(), data.targets.clone()
    inputs[:12], targets[:12] = 7.0, 9
    other = Problem.split((inputs, targets), torch.arange(12), architecture=tiny.net, recipe=TWO)
    one, two = tiny.run(task=task).teacher("oracle"), tiny.run(task=other).teacher("oracle")
    assert tiny.same(one, two)
    assert not one.training
    assert not any(weight.requires_grad for weight in one.parameters())


def test_the_oracle_teacher_owes_nothing_to_the_original_and_is_each_members_own() -> None:
    task = tiny.problem(recipe=TWO)
    one = tiny.run(tiny.made(seed=0), task).teacher("oracle")
    assert tiny.same(one, tiny.run(tiny.made(seed=5), task).teacher("oracle"))
    assert not tiny.same(one, tiny.run(task=task, seed=1).teacher("oracle"))


def test_the_oracle_teacher_is_not_the_oracle_that_one_is_measured_against() -> None:
    task = tiny.problem(recipe=TWO)
    start = task.untrained("oracle", 0)
    measured = Run(start, frozen(start), task, 0, "oracle")
    carry_out(measured, *from_scratch(task, "retain", "oracle").steps)
    assert not tiny.same(tiny.run(task=task).teacher("oracle"), measured.model.eval())


def test_the_oracles_cost_is_in_the_receipt_once_and_forecast() -> None:
    task = tiny.problem(recipe=TWO)
    step = Train(KL("retain", teacher="oracle"), batch=24)
    method = Method("twice", (step, step))
    done = unlearn(tiny.made(), method, task)
    assert done.receipt.examples == {"retain": 2 * 48 + 2 * 48}
    assert forecast(method, task).examples == done.receipt.examples
    assert unlearn(tiny.made(), Train(KL("retain"), batch=24), task).receipt.examples == {
        "retain": 48
    }


def test_members_of_a_stack_have_their_own_oracles() -> None:
    task, original = tiny.problem(recipe=TWO), frozen(tiny.made())
    runs = [
        Run(copy.deepcopy(original).requires_grad_(True), original, task, seed) for seed in (1, 2)
    ]
    group = StackedModels(runs)
    _, (weights, _), axis = group._teacher("oracle")
    assert axis == 0
    for place, seed in enumerate((1, 2)):
        alone = dict(tiny.run(task=task, seed=seed).teacher("oracle").named_parameters())
        for name, weight in alone.items():
            torch.testing.assert_close(weights[name][place], weight)


def test_teachers_never_move_and_the_model_does() -> None:
    # fault of a benchmark: the optimiser was built over the teacher's parameters
    run = tiny.run(task=tiny.problem(recipe=TWO))
    before = tiny.state(run.teacher("oracle"))
    carry_out(run, *brief(PUBLISHED["oracle_matching"]).steps)
    assert all(torch.equal(before[n], t) for n, t in run.teacher("oracle").state_dict().items())
    assert not tiny.same(run.model, run.original)


def test_oracle_matching_reaches_the_oracle() -> None:
    task = tiny.problem(recipe=TWO)
    step = Train(
        MSE("forget", teacher="oracle") + MSE("retain", teacher="oracle"),
        epochs=150,
        lr=0.1,
        batch=60,
        optimiser=SGD(momentum=0.9),
    )
    run = carry_out(tiny.run(task=task), step)
    x = tiny.pictures().inputs
    oracle = run.teacher("oracle")(x)
    before = (run.original(x) - oracle).square().mean()
    after = (run.model.eval()(x).detach() - oracle).square().mean()
    assert after < 0.1 * before


def test_without_a_recipe_there_is_no_oracle() -> None:
    with pytest.raises(Unsupported, match="no recipe"):
        unlearn(tiny.made(), Train(KL("retain", teacher="oracle")), tiny.problem(recipe=None))


# -- datamodels -------------------------------------------------------------------------------


def test_what_all_add_is_the_sum_of_a_dense_ridge_regression() -> None:
    generator = torch.Generator().manual_seed(0)
    inside = torch.rand(9, 6, generator=generator) < 0.5
    answered = torch.randn(9, 6, 3, generator=generator, dtype=torch.float64)
    who = inside.double() - inside.double().mean(0)
    penalty = 0.3 * float((who @ who.T).diagonal().mean())
    dense = torch.linalg.solve(who.T @ who + penalty * torch.eye(6).double(), who.T)
    said = answered - answered.mean(0)
    wanted = torch.einsum("jm,mnk->jnk", dense, said).sum(0)
    told = datamodels.added_by_all(inside, answered, 0.3)
    torch.testing.assert_close(told, wanted, atol=1e-8, rtol=1e-6)


def test_a_world_that_is_linear_is_told_exactly() -> None:
    # each example adds its own vector to every answer: with enough models, the sum comes out
    generator = torch.Generator().manual_seed(1)
    inside = torch.rand(40, 5, generator=generator) < 0.5
    adds = torch.randn(5, 4, 3, generator=generator, dtype=torch.float64)
    answered = 2.0 + torch.einsum("mj,jnk->mnk", inside.double(), adds)
    told = datamodels.added_by_all(inside, answered, 0.0)
    torch.testing.assert_close(told, adds.sum(0), atol=1e-6, rtol=1e-6)


def test_halves_are_the_same_for_all_and_run_from_none_to_all() -> None:
    task = tiny.problem()
    first, again = datamodels.halves(task, 5), datamodels.halves(task, 5)
    for one, two in zip(first, again, strict=True):
        assert torch.equal(one.forget, two.forget)
        assert torch.equal(one.retain, two.retain)
        assert len(one.retain) == 24 == len(set(one.retain.tolist()))
        assert len(set(one.forget.tolist())) == len(one.forget)
    assert [len(half.forget) for half in first] == [0, 3, 6, 9, 12]
    assert not torch.equal(first[0].retain, first[1].retain)


def test_a_half_is_trained_on_its_own_examples_alone() -> None:
    task = tiny.problem()
    half = datamodels.halves(task, 3)[1]
    data = datamodels.half_problem(task, half).data("retain")
    batch = data.batch(torch.arange(len(data)))
    rows = torch.cat([half.retain + 12, half.forget])  # the first twelve are to be forgotten
    assert torch.equal(batch.inputs, tiny.pictures().inputs[rows])
    assert torch.equal(batch.targets, tiny.pictures().targets[rows])


def test_predicted_facts_are_the_originals_answers_less_what_the_set_adds() -> None:
    run = tiny.run()
    term = Predicted(models=4, ridge=0.2)
    facts = run.facts(term)
    inside, answered = datamodels.outcomes(tiny.run(), 4)
    with torch.no_grad():
        wanted = run.original(tiny.pictures().inputs[:12]) - datamodels.added_by_all(
            inside, answered, 0.2
        )
    torch.testing.assert_close(facts["answers"], wanted)
    assert facts["index"].tolist() == list(range(12))
    assert [int(row.sum()) for row in inside] == [0, 4, 8, 12]


def test_each_example_is_matched_with_its_own_prediction() -> None:
    # the forget set lies scattered in the training set and in no order; minibatches come in any
    rows = torch.tensor([40, 3, 25, 17])
    kept = torch.tensor([row for row in range(60) if row not in rows.tolist()])
    train = tiny.pictures()
    sets = {"train": train, "forget": Subset(train, rows), "retain": Subset(train, kept)}
    task = Problem("scattered", sets, tiny.net, tiny.RECIPE)
    run, term = tiny.run(task=task), Predicted(models=3)
    inside, answered = datamodels.outcomes(tiny.run(task=task), 3)
    added = datamodels.added_by_all(inside, answered, term.ridge)
    run.model.eval()
    for order in ([0, 1, 2, 3], [2, 0, 3, 1], [3]):
        batch = task.data("forget").batch(torch.tensor(order))
        told = SingleModel(run).losses(term, {"forget": batch}, 0.0)[0]
        # the model is still the original: what is left of the distance is what the set adds
        torch.testing.assert_close(told.detach(), added[order].square().mean())


def test_the_cost_of_datamodels_is_counted_for_each_member_and_forecast() -> None:
    task, original = tiny.problem(), frozen(tiny.made())
    memo: dict[Any, Any] = {}
    method = Method("m", (Train(Predicted(models=3) + MSE("retain"), batch=12, over="forget"),))
    told = []
    for seed in (1, 2):
        mine = copy.deepcopy(original).requires_grad_(True)
        run = Run(mine, original, task, seed, memo=memo)
        told.append(carry_out(run, *method.steps).counts.examples)
    # halves of 24 with 0, 6 and 12 more, an epoch each; three models and the original are asked
    assert told[0] == told[1] == {"forget": 18 + 4 * 12 + 12, "retain": 72 + 12}
    assert forecast(method, task).examples == told[0]
    assert len(memo) == 1


def test_members_of_one_original_share_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    trained = datamodels.trained

    def counting(run: Run, half: datamodels.TrainingHalf, number: int) -> nn.Module:
        made.append(number)
        return trained(run, half, number)

    monkeypatch.setattr(datamodels, "trained", counting)
    memo: dict[Any, Any] = {}
    original = frozen(tiny.made())
    for seed in (1, 2):
        mine = copy.deepcopy(original).requires_grad_(True)
        Run(mine, original, tiny.problem(), seed, memo=memo).facts(Predicted(models=3))
    assert made == [0, 1, 2]


def test_predictions_come_nearer_to_the_oracles_than_the_original_is() -> None:
    # examples with a wrong class each are memorised: the original repeats it, the oracles do not
    data = tiny.pictures(60)
    targets = data.targets.clone()
    targets[:12] = (targets[:12] + 1) % 10
    recipe = Method("recipe", (Train(CE("train"), epochs=25, lr=0.1, batch=16),))
    task = Problem.split(
        (data.inputs, targets), torch.arange(12), architecture=tiny.plain, recipe=recipe
    )
    original = unlearn(task.untrained("o"), from_scratch(task, "train", "o"), task).model
    run = tiny.run(original, task)
    told = run.facts(Predicted(models=12))["answers"]
    x = data.inputs[:12]
    oracles = [tiny.run(original, task, seed).teacher("oracle")(x) for seed in range(3)]
    oracle = torch.stack(oracles).mean(0)
    assert (told - oracle).square().mean() < 0.5 * (original(x) - oracle).square().mean()


def test_large_problems_are_refused_with_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Predicted(models=4).unfit(tiny.problem()) == ""
    assert "recipe" in Predicted().unfit(tiny.problem(recipe=None))
    assert "architecture" in Predicted().unfit(tiny.problem(architecture=None))
    monkeypatch.setattr(datamodels, "LARGEST", 100)
    reads = datamodels.cost(tiny.problem(), 4).total()
    assert reads == 4 * 24 + 24 + 4 * 12
    assert f"{reads:,}" in Predicted(models=4).unfit(tiny.problem())
    with pytest.raises(Unsupported, match="fewer models"):
        unlearn(tiny.made(), Train(Predicted()), tiny.problem())


# -- recipes ----------------------------------------------------------------------------------


def test_the_recipes_are_the_authors_and_say_what_they_are() -> None:
    assert [m.name for m in MATCHING] == ["oracle_matching", "datamodel_matching", "rum"]
    assert all(PUBLISHED[m.name] is m and "arXiv" in m.source for m in MATCHING)
    assert "upper bound: it retrains" in PUBLISHED["oracle_matching"].source


WRONG: list[Any] = [
    lambda: Predicted(models=1),
    lambda: Predicted(ridge=-0.1),
    lambda: Predicted("retain"),
]


@pytest.mark.parametrize("make", WRONG)
def test_words_refuse_arguments_that_make_no_sense(make: Any) -> None:
    with pytest.raises(BadSentence):
        make()
