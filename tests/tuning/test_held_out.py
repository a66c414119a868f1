"""What is tuned on is never ranked by: other forget examples, other members, no test set."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from tuning_tools import experiment

from expunge.core.batch import all_targets
from expunge.errors import BadData
from expunge.experiments.experiment import Experiment, forget_chooser
from expunge.experiments.planning import plan_for
from expunge.experiments.tuning.held_out import TuningSplit, held_out, other_seed
from expunge.problems.images.loaders import digits

CHOOSERS = (
    "RandomShare(0.1)",
    "WholeClass(3)",
    "WholeClass(9)",
    "Given((5, 9, 20, 21, 22, 100))",
    "CoherentGroup(30)",
    "Mislabelled(3, 5, 0.3)",
)


def rows(thing: TuningSplit | Experiment) -> Tensor:
    plan = thing.plan if isinstance(thing, TuningSplit) else plan_for(thing)
    return plan.problem.sets["forget"].index  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("forget", CHOOSERS)
def test_no_example_is_tuned_on_and_scored(forget: str) -> None:
    ranked = experiment(forget=f'"{forget}"')
    split = held_out(ranked, 2)
    assert not set(rows(split).tolist()) & set(rows(ranked).tolist())
    assert split.overlap == 0
    assert torch.equal(rows(split), rows(held_out(ranked, 2)))


@pytest.mark.parametrize("forget", [c for c in CHOOSERS if "Whole" not in c])
def test_as_many_examples_are_forgotten(forget: str) -> None:
    ranked = experiment(forget=f'"{forget}"')
    assert abs(len(rows(held_out(ranked, 2))) - len(rows(ranked))) <= 1


def test_a_class_gives_way_to_the_next_class() -> None:
    for label, other in ((3, 4), (9, 0)):
        split = held_out(experiment(forget=f'"WholeClass({label})"'), 2)
        found = all_targets(split.problem.sets["forget"])
        assert found.unique().tolist() == [other]
        assert f"label={other})" in split.said


def test_given_rows_give_way_to_rows_of_the_same_classes() -> None:
    ranked = experiment(forget='"Given((5, 9, 20, 21, 22, 100))"')
    targets = digits().train.targets  # type: ignore[attr-defined]
    before, now = targets[rows(ranked)], targets[rows(held_out(ranked, 2))]
    assert before.sort()[0].tolist() == now.sort()[0].tolist()


def test_mislabelled_examples_are_others_and_the_ranking_s_are_right() -> None:
    ranked = experiment(forget='"Mislabelled(3, 5, 0.3)"')
    split = held_out(ranked, 2)
    truth = digits().train.targets  # type: ignore[attr-defined]
    trained = all_targets(split.problem.sets["train"])
    assert (trained != truth).nonzero().flatten().tolist() == rows(split).tolist()


def test_a_share_of_more_than_half_overlaps_and_says_so() -> None:
    split = held_out(experiment(forget='"RandomShare(0.7)"'), 2)
    assert split.overlap > 0
    assert "overlaps" in split.said


def test_where_nothing_else_can_be_drawn_one_is_asked_for() -> None:
    size = len(digits().train)
    ranked = experiment(forget=f'"CoherentGroup({size - 5})"')
    with pytest.raises(BadData, match="--held-out"):
        held_out(ranked, 2)
    told = held_out(ranked, 2, "RandomShare(0.1)")
    assert len(rows(told)) == round(0.1 * size)
    assert told.overlap > 0


@pytest.mark.parametrize("seed", [0, 1, -3, 10**9, 10**12, -(10**12)])
def test_the_seeds_are_not_those_of_the_ranking(seed: int) -> None:
    ranked = experiment()
    split = held_out(ranked, 3)
    ours = {*split.plan.experiment.seeds, *split.members(100), *split.members(100, 5)}
    assert not ours & set(ranked.seeds)
    assert other_seed(seed) != seed
    assert abs(other_seed(seed)) <= 10**12


def test_draws_and_halves_share_no_seed() -> None:
    split = held_out(experiment(), 3)
    assert not set(split.members(9)) & set(split.members(9, 1))
    assert not set(split.oracles()) & set(split.oracles(fresh=True))
    assert len(split.oracles()) == len(split.oracles(fresh=True)) == 3


def test_the_test_set_is_not_there() -> None:
    split = held_out(experiment(), 2)
    assert "test" not in split.problem.sets
    assert set(split.measured.sets) == {"forget", "retain", "val"}


def test_the_ground_is_another_problem_than_the_ranking() -> None:
    assert held_out(experiment(), 2).plan.spec != plan_for(experiment()).spec
    assert forget_chooser(experiment().forget)
