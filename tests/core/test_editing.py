"""The linear algebra of locate-and-edit methods, worked out by hand and by other means."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from expunge.errors import BadData
from expunge.methods.steps.editing import damped, rank_one, spread, write


def drawn(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def covariance(seed: int, width: int) -> Tensor:
    keys = drawn(seed, width, 3 * width)
    return keys @ keys.mT / keys.shape[1]


def test_a_rank_one_edit_by_hand() -> None:
    # C^-1 k = (1 / 2, 2), (C^-1 k)' k = 2.5; the residual (5, -5) is spread as 5 * (0.5, 2) / 2.5
    moments = torch.tensor([[2.0, 0.0], [0.0, 0.5]], dtype=torch.float64)
    key = torch.tensor([1.0, 1.0], dtype=torch.float64)
    change = rank_one(moments, key, key, torch.tensor([5.0, -5.0], dtype=torch.float64))
    wanted = torch.tensor([[1.0, 4.0], [-1.0, -4.0]], dtype=torch.float64)
    assert torch.allclose(change, wanted)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.integers(2, 6), st.integers(2, 5))
def test_the_edited_key_maps_to_the_value_and_others_move_as_the_formula_says(
    seed: int, width: int, out: int
) -> None:
    weight, moments = drawn(seed, out, width), covariance(seed + 1, width)
    key, mean, other = drawn(seed + 2, 3, width)
    value = drawn(seed + 3, out)
    after = weight + rank_one(moments, mean, key, value - weight @ key)
    assert torch.allclose(after @ key, value)
    turned = torch.linalg.inv(moments) @ mean
    moved = (value - weight @ key) * (other @ turned) / (key @ turned)
    assert torch.allclose(after @ other, weight @ other + moved)


def test_no_other_edit_that_reaches_the_value_is_noticed_less() -> None:
    moments, key, residual = covariance(1, 4), drawn(2, 4), drawn(3, 3)
    best = rank_one(moments, key, key, residual)
    for seed in range(20):
        aside = drawn(10 + seed, 3, 4)
        aside -= torch.outer(aside @ key, key) / (key @ key)  # leaves the edited key alone
        other = best + 0.1 * aside
        assert torch.allclose(other @ key, residual)
        assert torch.trace(other @ moments @ other.mT) > torch.trace(best @ moments @ best.mT)


@given(st.integers(0, 999), st.floats(0.1, 50))
@settings(max_examples=25, deadline=None)
def test_many_edits_are_the_minimum_of_what_they_say(seed: int, weight: float) -> None:
    moments, keys, residuals = covariance(seed, 5), drawn(seed + 1, 5, 3), drawn(seed + 2, 4, 3)
    change = spread(moments, weight, keys, residuals).requires_grad_(True)
    off = (change @ keys - residuals).square().sum()
    (off + weight * torch.trace(change @ moments @ change.mT)).backward()
    assert change.grad is not None
    assert change.grad.abs().max() < 1e-8 * max(1.0, weight)


def test_many_edits_without_other_keys_reach_their_values() -> None:
    keys, residuals = drawn(1, 5, 3), drawn(2, 4, 3)
    change = spread(1e-12 * torch.eye(5, dtype=torch.float64), 1.0, keys, residuals)
    assert torch.allclose(change @ keys, residuals, atol=1e-6)


def test_keys_that_do_not_span_are_told_and_damping_mends_it() -> None:
    one = drawn(1, 4)
    flat = torch.outer(one, one)
    with pytest.raises(BadData, match="damping"):
        rank_one(flat - 1e-9 * torch.eye(4), one, one, drawn(2, 3))
    mended = damped(flat, 0.01)
    assert torch.allclose(mended.diagonal(), flat.diagonal() + 0.01 * flat.diagonal().mean())
    assert torch.isfinite(rank_one(mended, one, one, drawn(2, 3))).all()


@pytest.mark.parametrize("layer", [nn.Linear(3, 3), Conv1D(3, 3)], ids=["Linear", "Conv1D"])
def test_a_change_is_written_the_way_round_that_the_layer_has(layer: nn.Module) -> None:
    key, change = torch.randn(3, generator=torch.Generator().manual_seed(1)), drawn(4, 3, 3)
    before = layer(key).detach()
    write(layer, change)
    assert torch.allclose(layer(key), before + change.float() @ key, atol=1e-5)
