"""Retraining that is checked: trap 11 of the design at run time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import tiny
from expunge import unlearn
from expunge.core.batch import Images
from expunge.core.problem import Problem
from expunge.engine.training import from_scratch
from expunge.errors import BadSentence, Unsupported
from expunge.methods.exact.retraining import Watched, retrain
from expunge.methods.sentences import as_method

RECIPE = as_method("Train(CE('train'), epochs=2, lr=0.05, batch=16)", "recipe")


def problem(**rest: Any) -> Problem:
    return tiny.problem(**{"recipe": RECIPE, **rest})


def test_it_is_the_oracle_of_the_recipe() -> None:
    task, original = problem(), tiny.made()
    twin = unlearn(original, from_scratch(task, "retain", "retrain"), task, seed=3)
    done = retrain(original, task, seed=3)
    assert tiny.same(done.model, twin.model)
    assert done.rows.tolist() == list(range(12, 60))
    assert done.receipt.examples == {"retain": 96}
    assert done.shared == ()
    assert not done.model.training


def test_every_weight_and_statistic_differs() -> None:
    original, done = tiny.made(), retrain(tiny.made(), problem())
    for name, was in original.state_dict().items():
        if was.is_floating_point():
            assert not torch.equal(done.model.state_dict()[name], was), name


def test_without_an_architecture_layers_reset_themselves() -> None:
    done = retrain(tiny.made(), problem(architecture=None))
    assert not tiny.same(done.model, tiny.made())


@pytest.mark.parametrize("share", [0.9, 0.5])
def test_a_recipe_that_goes_back_cannot_reach_the_original(share: float) -> None:
    """Blend moves back to what the run began with, which is not the original."""
    recipe = as_method(f"Train(CE('train'), batch=16), Blend({share})", "recipe")
    task = problem(recipe=recipe)
    one, two = (retrain(tiny.made(seed=seed), task) for seed in (0, 1))
    assert tiny.same(one.model, two.model)


def test_a_recipe_that_reads_the_forget_set() -> None:
    recipe = as_method("Train(CE('train') + CE('forget'), batch=16)", "recipe")
    with pytest.raises(BadSentence, match="read 12 rows of the set 'forget'"):
        retrain(tiny.made(), problem(recipe=recipe))


def test_rows_of_the_forget_set_that_a_faulty_set_hands_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = Watched.batch

    def faulty(self: Watched, positions: torch.Tensor) -> Images:
        found = batch(self, positions)
        self.seen[-1] = self.seen[-1] - 1  # one row too early
        return found

    monkeypatch.setattr(Watched, "batch", faulty)
    with pytest.raises(BadSentence, match="read 1 rows that must be forgotten"):
        retrain(tiny.made(), problem())


def test_an_architecture_that_hands_out_the_original() -> None:
    original = tiny.made()
    with pytest.raises(BadSentence, match="comes from the original"):
        retrain(original, problem(architecture=tiny.made))


def test_an_architecture_with_one_trained_layer_of_the_original() -> None:
    original = tiny.made()

    def half() -> nn.Module:
        model = tiny.net()
        model[0].load_state_dict(original[0].state_dict())
        return model

    with pytest.raises(BadSentence, match=r"0\.weight comes from the original"):
        retrain(original, problem(architecture=half))
    frozen = as_method("Train(CE('train'), batch=16, where=Last(1))", "recipe")
    done = retrain(original, problem(architecture=half, recipe=frozen))
    assert done.shared == ("0.weight",)
    assert "Shared with the original: 0.weight" in done.guarantee


def test_a_unit_that_never_fired_is_no_leftover() -> None:
    """Its bias is as it was made, in the original too."""

    def dead() -> nn.Module:
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 10))
        nn.init.constant_(model[1].bias, -1000.0)
        return model

    task = problem(architecture=dead)
    original = unlearn(dead(), from_scratch(task, "train", "original"), task)
    with pytest.raises(BadSentence, match="another seed"):  # equal first weights that never moved
        retrain(original.model, task)
    done = retrain(original.model, task, seed=1)
    assert torch.equal(done.model[1].bias, original.model[1].bias)


def test_no_recipe() -> None:
    with pytest.raises(Unsupported, match="no recipe"):
        retrain(tiny.made(), problem(recipe=None))


def test_the_guarantee() -> None:
    said = retrain(tiny.made(), problem()).guarantee
    assert all(word in said for word in ("Exact", "Assumes", "Not covered", "pretrained"))
