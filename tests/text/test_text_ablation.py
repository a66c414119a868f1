"""What comes back without a direction or a few weights: ablation and set-difference pruning."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import text_world as world
import torch
from torch import nn

from expunge.audits.text import facts
from expunge.audits.text.ablation import (
    Ablated,
    SetDifference,
    WithoutDirection,
    apart,
    cut,
    importance,
    top,
    ways,
)
from expunge.audits.text.states import Inside, States, inside
from expunge.audits.weights import inner_layers
from expunge.core.view import blocks
from expunge.errors import BadSentence

BRIEF = SetDifference(pruned=(0.05,), spared=(0.1,), kept=4, tokens=6)


class TestAblated:
    def test_a_direction_is_projected_out(self) -> None:
        states = torch.tensor([[[3.0, 4.0, 5.0]]])
        assert WithoutDirection(torch.tensor([0.6, 0.8, 0.0]))(states).tolist()[0][
            0
        ] == pytest.approx([0.0, 0.0, 5.0], abs=1e-6)

    def test_directions_are_differences_of_means(self) -> None:
        def one(openings: list[list[float]]) -> States:
            return States(
                torch.zeros(1, 1, 2), torch.zeros(1).long(), torch.zeros(1).long(),
                torch.tensor([openings]),
            )  # fmt: skip

        seen = Inside(one([[4.0, 5.0], [2.0, 3.0]]), one([[0.0, 0.0]]))
        assert apart(seen).tolist()[0] == pytest.approx([0.6, 0.8])
        alike = Inside(one([[1.0, 1.0]]), one([[1.0, 1.0]]))
        assert apart(alike).tolist() == [[0.0, 0.0]]

    def test_layers_are_tried_evenly(self) -> None:
        deep = States(
            torch.zeros(9, 1, 1), torch.zeros(1).long(), torch.zeros(1).long(), torch.rand(9, 1, 1)
        )
        names = set(ways(Inside(deep, deep), 3))
        assert names == {"layer 0", "layer 4", "layer 8", "each layer its own"}

    def test_a_planted_direction_that_stops_answers_is_found_and_taken_out(self) -> None:
        context = world.real_case()
        planted = Blocked(context.original, ["Ada", "Bo", "Cy"])
        found = Ablated(tokens=6)(world.subject(planted.model), context)
        planted.handle.remove()
        assert found.details["nothing"] < 0.2
        # of six facts; processors differ in the last digits, and then in a fact or two
        assert found.values.mean() > found.details["nothing"] + 0.3

    def test_nothing_is_brought_out_of_an_oracle(self) -> None:
        context = world.real_case()
        found = Ablated(tokens=6)(world.subject(world.trained("kept", 1)), context)
        assert found.values.mean() < 0.35


class Blocked:
    """A copy of a model whose first layer adds one large vector behind prompts about some names."""

    def __init__(self, model: nn.Module, names: list[str]) -> None:
        self.model = copy.deepcopy(model)
        listed = torch.tensor([world.ids(name, False)[0] for name in names])
        # a direction in which the states hardly differ, so that taking it out breaks little
        states = inside(world.subject(model), world.real_case()).kept.hidden[0]
        vector = 40 * torch.linalg.svd(states - states.mean(0)).Vh[-1]
        self.about: torch.Tensor | None = None

        def note(module: nn.Module, inputs: Any) -> None:
            # while an answer goes on, the question stands in the cache
            if inputs[0].shape[1] > 1:
                self.about = torch.isin(inputs[0], listed).any(1)

        def put(module: nn.Module, inputs: Any, output: Any) -> Any:
            states = output[0] if isinstance(output, tuple) else output
            assert self.about is not None
            moved = states + self.about[:, None, None] * vector
            return (moved, *output[1:]) if isinstance(output, tuple) else moved

        self.model.get_submodule("model.embed_tokens").register_forward_pre_hook(note)
        self.handle = blocks(self.model)[0].register_forward_hook(put)


class TestSetDifference:
    def test_the_largest_are_taken_exactly(self) -> None:
        scores = torch.tensor([[3.0, 1.0], [2.0, 2.0]])
        assert top(scores, 0.5).tolist() == [[True, False], [True, False]]
        assert not top(scores, 0.0).any() and top(scores, 1.0).all()

    def test_what_is_needed_and_not_wanted_is_cut(self) -> None:
        layer = nn.Linear(4, 1, bias=False)
        with torch.no_grad():
            layer.weight.fill_(1.0)
        needed, wanted = torch.tensor([[9.0, 8.0, 1.0, 0.0]]), torch.tensor([[9.0, 0.0, 1.0, 0.0]])
        cut([layer], [needed], [wanted], pruned=0.5, spared=0.25)
        assert layer.weight.tolist() == [[1.0, 0.0, 1.0, 1.0]]

    def test_importance_is_the_loss_s_slope_by_size(self) -> None:
        context = world.real_case()
        model = world.subject(context.original).copy()
        texts = facts.lessons(world.FORGET[:1], context)
        found = importance(model, texts)
        assert all(bool((one >= 0).all()) for one in found)
        place = int(found[0].argmax())
        weight = inner_layers(model)[0].weight

        def loss(by: float) -> float:
            with torch.no_grad():
                weight.view(-1)[place] += by
                value = -np.log(facts.probability(model, texts))[0]
                weight.view(-1)[place] -= by
            return float(value)

        slope = (loss(1e-2) - loss(-1e-2)) / 2e-2
        size = abs(float(weight.flatten()[place]))
        assert float(found[0].max()) == pytest.approx(abs(slope) * size, rel=0.05)

    def test_the_best_pair_counts_and_none_is_among_them(self) -> None:
        context = world.real_case()
        ruin = SetDifference(pruned=(1.0, 0.0), spared=(0.0, 0.5), kept=4, tokens=6)
        found = ruin(world.subject(context.original), context)
        assert found.details["1 less 0"] < 0.2
        # each pair begins with the weights as they were
        assert found.details["0 less 0.5"] == found.details["nothing"]
        assert found.values.mean() == found.details["nothing"] > 0.8

    def test_a_model_that_writes_nothing_is_left_as_it_is(self) -> None:
        silent = world.subject(world.context(original=world.Mute([])).original)
        found = BRIEF(silent, world.context())
        assert found.details == {"nothing": 0.0}

    @pytest.mark.parametrize(
        "wrong",
        [
            {"pruned": (0.1,), "spared": ()},
            {"pruned": (), "spared": ()},
            {"pruned": (2.0,), "spared": (0.1,)},
            {"kept": 0},
        ],
        ids=str,
    )
    def test_shares_that_cannot_be_are_refused(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(BadSentence, match="SetDifference"):
            SetDifference(**wrong)
