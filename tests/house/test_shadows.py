"""Shadow models: trained on random halves, made once, shared by all forget sets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from house_tools import ONE, STACKED, carried_out, plan, problem, timed

from expunge.core.batch import Subset
from expunge.core.problem import Problem
from expunge.core.store import Store
from expunge.experiments.graph import make

SHADOWS = 6


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = plan(methods=ONE, members=2, shadows=SHADOWS)
    return carried_out(made, Store(tmp_path_factory.mktemp("shadows") / "s"))


def test_pairs_have_opposite_halves() -> None:
    made = plan(shadows=SHADOWS)
    size = len(made.problem.sets["train"])
    known = torch.zeros(size, dtype=torch.int64)
    for seed in made.experiment.shadow_seeds:
        rows = made.half(seed)
        assert len(rows.unique()) == len(rows) == size // 2
        known[rows] += 1
    assert torch.equal(known, torch.full((size,), SHADOWS // 2))
    assert not torch.equal(made.half(0), made.half(2))
    assert torch.equal(made.half(3), made.half(3))


def test_of_an_odd_number_of_examples_one_is_left_out_of_both_halves() -> None:
    whole = problem()
    odd = Subset(whole.sets["train"], torch.arange(59))
    made = plan(
        Problem.split(
            odd,
            torch.arange(5),
            architecture=whole.architecture,
            recipe=whole.recipe,
            test=whole.sets["test"],
        ),
        shadows=2,
    )
    first, second = made.half(0), made.half(1)
    assert len(first) == len(second) == 29
    assert not torch.isin(first, second).any()


def test_a_shadow_is_made_with_its_evidence_on_the_whole_training_set(store: Store) -> None:
    made = plan(methods=ONE, members=2, shadows=SHADOWS)
    sizes = {name: len(data) for name, data in made.problem.sets.items()}
    for seed in made.experiment.shadow_seeds:
        job = made.shadow(seed)
        answers = store.tensors(made.evidence(job), "evidence")["logits"]
        assert len(answers) == sizes["train"] + sizes["test"]
        # two epochs over half of the training set, and nothing else was read
        assert store.about(job)["receipt"]["examples"] == {"train": 2 * (sizes["train"] // 2)}


def test_shadows_belong_to_no_forget_set(store: Store) -> None:
    whole = problem()
    other = Problem.split(
        whole.sets["train"],
        torch.arange(10, 20),
        name="other",
        val=whole.sets["val"],
        test=whole.sets["test"],
        architecture=whole.architecture,
        recipe=whole.recipe,
    )
    made, again = plan(methods=ONE, shadows=SHADOWS), plan(other, methods=ONE, shadows=SHADOWS)
    assert made.oracle(0).key != again.oracle(0).key
    assert made.shadow(0).key == again.shadow(0).key
    assert store.has(again.evidence(again.shadow(0)))


def test_another_recipe_makes_other_shadows() -> None:
    from expunge.methods.sentences import as_method

    longer = as_method("Train(CE('train'), epochs=3, lr=0.1, batch=16)", "recipe")
    there, here = plan(shadows=2), plan(problem(recipe=longer), shadows=2)
    assert there.shadow(0).key != here.shadow(0).key


def test_no_shadows_unless_asked(tmp_path: Path) -> None:
    made = plan(methods=ONE, members=2)
    carried_out(made, Store(tmp_path / "s"))
    assert not (tmp_path / "s" / "shadow").exists()


def test_stacked_shadows_are_those_made_alone(store: Store, tmp_path: Path) -> None:
    made, other = plan(methods=ONE, members=2, shadows=SHADOWS), Store(tmp_path / "stacked")
    timed(made, other, STACKED)
    list(make(made, other))
    for seed in made.experiment.shadow_seeds:
        job = made.shadow(seed)
        assert other.about(job)["receipt"]["engine"] == f"stacked of {SHADOWS}"
        alone = store.tensors(job, "model")
        for name, tensor in other.tensors(job, "model").items():
            torch.testing.assert_close(tensor, alone[name], atol=1e-5, rtol=1e-4)
