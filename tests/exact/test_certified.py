"""Certified removal against slow twins: autograd, a general solver, and the true gradient."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import norm
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, one_hot

from expunge.errors import BadData, BadSentence, BudgetSpent
from expunge.methods.exact.certified import (
    SMALLEST_GAMMA,
    CertifiedHead,
    RemovalConstants,
    UnitRows,
    gradient,
    hessian,
    minimum,
    noise,
    unit_rows,
)

STATED = "Raw numbers; nothing was trained on them."


def examples(n: int = 40, d: int = 4, k: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    x = unit_rows(torch.randn(n, d, generator=draws, dtype=torch.float64))
    targets = (x[:, :k] + 0.3 * torch.randn(n, k, generator=draws)).argmax(1)
    return x, targets


def head(x: Tensor | None = None, targets: Tensor | None = None, **rest: Any) -> CertifiedHead:
    known = examples()
    names = {field.name for field in fields(RemovalConstants)} & rest.keys()
    constants = {"lam": 0.1, "std": 1.0, **{name: rest.pop(name) for name in names}}
    given = {"statement": STATED, "classes": 3, "seed": 7, **rest}
    return CertifiedHead(
        known[0] if x is None else x,
        known[1] if targets is None else targets,
        constants=RemovalConstants(**constants),
        **given,
    )


def objective(weights: Tensor, x: Tensor, targets: Tensor, lam: float, linear: Tensor) -> Tensor:
    """The published objective, written out: classes are independent, so their sum will do."""
    signs = one_hot(targets, linear.shape[1]).double() * 2 - 1
    losses = -logsigmoid(signs * (x @ weights)).sum()
    return losses + lam * len(x) / 2 * weights.square().sum() + (linear * weights).sum()


def slope_by_autograd(weights: Tensor, *rest: Any) -> Tensor:
    leaf = weights.clone().requires_grad_()
    (found,) = torch.autograd.grad(objective(leaf, *rest), leaf)
    return found


def left(one: CertifiedHead, x: Tensor, targets: Tensor, seed: int = 7) -> float:
    """The true norm of the gradient over the rows that stay, with the noise made anew."""
    kept = torch.ones(len(x), dtype=torch.bool)
    kept[one.gone] = False
    linear = one.constants.std * noise(seed, x.shape[1], one.weights.shape[1])
    slope = slope_by_autograd(one.weights, x[kept], targets[kept], one.constants.lam, linear)
    return float(slope.norm())


def test_training_finds_the_minimum_of_the_published_objective() -> None:
    x, targets = examples()
    linear = 1.0 * noise(7, 4, 3)

    def value(flat: np.ndarray) -> float:
        weights = torch.from_numpy(flat).reshape(4, 3)
        return float(objective(weights, x, targets, 0.1, linear))

    def slope(flat: np.ndarray) -> np.ndarray:
        weights = torch.from_numpy(flat).reshape(4, 3)
        return slope_by_autograd(weights, x, targets, 0.1, linear).flatten().numpy()

    slow = minimize(value, np.zeros(12), jac=slope, method="BFGS", options={"gtol": 1e-10})
    assert np.allclose(head().weights.flatten().numpy(), slow.x, atol=1e-6)
    assert head().bound < 1e-12
    assert head().bound == pytest.approx(left(head(), x, targets), abs=1e-13)


def test_one_weight_by_hand() -> None:
    """Two equal rows x = 1 of class 1, no noise: 2 / (1 + e^w) = 2 lam w at the minimum."""
    x, signs = torch.ones(2, 1).double(), torch.ones(2, 1).double()
    found = float(minimum(x, signs, 0.5, torch.zeros(1, 1).double()))
    assert 1 / (1 + math.exp(found)) == pytest.approx(0.5 * found, abs=1e-14)
    share = 1 / (1 + math.exp(-found))
    bend = float(hessian(torch.tensor([[found]]).double(), x, 0.5))
    assert bend == pytest.approx(2 * share * (1 - share) + 2 * 0.5)


def test_gradient_and_hessian_are_those_of_autograd() -> None:
    x, targets = examples()
    weights = noise(3, 4, 3)
    signs = one_hot(targets, 3).double() * 2 - 1
    zero = torch.zeros(4, 3).double()
    slow = slope_by_autograd(weights, x, targets, 0.2, zero)
    assert torch.allclose(gradient(weights, x, signs, 0.2), slow)
    bends = hessian(weights, x, 0.2)
    whole = torch.autograd.functional.hessian(
        lambda w: objective(w, x, targets, 0.2, zero), weights
    )
    for k in range(3):
        assert torch.allclose(bends[k], whole[:, k, :, k])


def test_the_removal_step_by_a_slow_twin() -> None:
    x, targets = examples()
    one = head()
    before = one.weights.clone()
    one.forget([5])
    kept = torch.arange(40) != 5
    for k in range(3):
        y = 1.0 if targets[5] == k else -1.0
        w = before[:, k].numpy()
        pull = -y * x[5].numpy() / (1 + math.exp(y * float(x[5] @ before[:, k])))
        slope = pull + 0.1 * w  # one row's loss, and its share lam of the penalty
        bends = 0.1 * 39 * np.eye(4)
        for row in x[kept].numpy():
            share = 1 / (1 + math.exp(-row @ w))
            bends += share * (1 - share) * np.outer(row, row)
        step = np.linalg.inv(bends) @ slope
        assert np.allclose(one.weights[:, k].numpy(), w + step, atol=1e-12)


def test_where_the_loss_is_nearly_quadratic_the_step_is_exact() -> None:
    """With a strong penalty all answers stay near 0, where the third derivative vanishes."""
    x, targets = examples()
    one = head(lam=1000.0, std=1e-3)
    one.forget([0, 9, 30])
    assert left(one, x, targets) < 1e-8
    kept = torch.ones(40, dtype=torch.bool)
    kept[[0, 9, 30]] = False
    signs = one_hot(targets[kept], 3).double() * 2 - 1
    retrained = minimum(x[kept], signs, 1000.0, 1e-3 * noise(7, 4, 3))
    assert torch.allclose(one.weights, retrained, atol=1e-12)


def test_the_step_is_much_nearer_to_retraining_than_no_step() -> None:
    x, targets = examples(200)
    one = head(x, targets, lam=0.05)
    before = one.weights.clone()
    one.forget([11])
    kept = torch.arange(200) != 11
    signs = one_hot(targets[kept], 3).double() * 2 - 1
    retrained = minimum(x[kept], signs, 0.05, noise(7, 4, 3))
    assert (one.weights - retrained).norm() < 0.02 * (before - retrained).norm()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(6, 60),
    d=st.integers(1, 6),
    lam=st.sampled_from([0.003, 0.03, 0.3]),
    std=st.sampled_from([0.1, 1.0, 10.0]),
    length=st.sampled_from([0.1, 1.0]),
    gamma=st.sampled_from([SMALLEST_GAMMA, 0.25]),
)
def test_the_bound_is_never_below_the_true_gradient(
    seed: int, n: int, d: int, lam: float, std: float, length: float, gamma: float
) -> None:
    x, targets = examples(n, d, min(d, 2), seed)
    x = x * length
    one = head(x, targets, classes=2, lam=lam, std=std, gamma=gamma)
    one.constants = replace(one.constants, std=1e30)  # so that no budget stops it
    for row in range(min(4, n - 2)):
        one.forget([row])
        one.constants = replace(one.constants, std=std)
        assert left(one, x, targets) <= one.bound * (1 + 1e-9) + 1e-12
        one.constants = replace(one.constants, std=1e30)


def test_the_bound_is_close_for_one_repeated_row() -> None:
    """All rows equal, one weight: |X| |step| |X step| is n step^2, and only gamma is loose."""
    x, targets = torch.ones(30, 1).double(), torch.arange(30) % 2
    one = head(x, targets, classes=2, gamma=SMALLEST_GAMMA)
    before = one.weights.clone()
    one.constants = replace(one.constants, std=1e30)  # so that no budget stops it
    one.forget([3])
    step = (one.weights - before)[0]
    assert one.bound == pytest.approx(float((SMALLEST_GAMMA * 29 * step.square()).norm()), rel=1e-6)


def test_no_smaller_gamma_would_do() -> None:
    """Where the second derivative is steepest the remainder comes up to the smallest gamma."""
    steep = math.log(2 + math.sqrt(3))
    share = 1 / (1 + math.exp(-steep))
    tiny = 1e-4
    moved = 1 / (1 + math.exp(-(steep + tiny)))
    rest = abs(moved - share - share * (1 - share) * tiny) / tiny**2
    assert rest == pytest.approx(SMALLEST_GAMMA, rel=1e-3)
    grid = np.linspace(-12, 12, 4001)
    sigma = 1 / (1 + np.exp(-grid))
    assert np.abs(sigma * (1 - sigma) * (1 - 2 * sigma)).max() / 2 <= SMALLEST_GAMMA + 1e-12


def test_the_budget_by_hand_and_the_gaussian_tail() -> None:
    assert head(std=10.0, epsilon=1.0, delta=1e-4).budget == pytest.approx(
        10 / math.sqrt(2 * math.log(15000))
    )
    assert head(std=2.0, epsilon=0.5, delta=1e-4).budget == pytest.approx(
        1 / math.sqrt(2 * math.log(15000))
    )
    # a fixed shift of the noise by the budget is (epsilon, delta)-indistinguishable, exactly
    for epsilon in (0.01, 0.1, 0.5, 1.0):
        for delta in (1e-12, 1e-5, 1e-2, 0.5, 0.99):
            mu = head(epsilon=epsilon, delta=delta).budget / 1.0
            exact = norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * norm.cdf(
                -mu / 2 - epsilon / mu
            )
            assert exact <= delta


def test_bounds_add_up_over_removals() -> None:
    one, many = head(std=10.0), head(std=10.0)
    bounds = [one.forget([row]).bounds[-1] for row in (4, 8, 15)]
    told = many.forget([15, 4, 8])
    assert told.rows == (4, 8, 15)
    assert told.bounds == pytest.approx(bounds)
    assert bounds == sorted(bounds)
    assert torch.equal(one.weights, many.weights)
    assert many.bound == told.bounds[-1]
    assert many.gone.tolist() == [4, 8, 15]
    assert "Removed 3 rows" in str(told)


def test_a_spent_budget_is_refused_and_nothing_changes() -> None:
    one = head(std=0.5)
    before, spent = one.weights.clone(), one.spent.clone()
    with pytest.raises(BudgetSpent, match=r"covers (\d+) of these 30 removals.*Retrain") as fault:
        one.forget(range(30))
    possible = fault.value.possible
    assert 0 < possible < 30
    assert torch.equal(one.weights, before)
    assert torch.equal(one.spent, spent)
    assert (len(one.gone), len(one.x), len(one.rows)) == (0, 40, 40)
    assert BudgetSpent.exit_code > 10
    one.forget(range(possible))
    assert one.bound <= one.budget
    with pytest.raises(BudgetSpent, match=f"covers 0 of these 1 removals, after {possible} before"):
        one.forget([possible])


def test_retraining_makes_the_budget_whole() -> None:
    one = head(std=0.5)
    one.forget([0, 1])
    assert one.bound > 1e-6
    before = one.weights.clone()
    one.retrain([2], seed=8)
    assert one.gone.tolist() == [0, 1, 2]
    assert one.bound < 1e-12
    x, targets = examples()
    fresh = head(x[3:], targets[3:], std=0.5, seed=8)
    assert torch.allclose(one.weights, fresh.weights, atol=1e-12)
    assert not torch.allclose(one.weights, before, atol=0.01)
    one.retrain(seed=9)
    assert one.gone.tolist() == [0, 1, 2]


def test_a_removed_row_is_nowhere_but_in_the_bound() -> None:
    """Heads that saw different rows there, once retrained on the rest, are the same."""
    x, targets = examples()
    other = x.clone()
    other[6] = -x[6]
    one, two = head(x, targets), head(other, 2 - targets)
    assert not torch.equal(one.weights, two.weights)
    one, two = head(x, targets, std=3.0), head(other, targets, std=3.0)
    apart = (one.weights - two.weights).norm()
    one.forget([6])
    two.forget([6])
    assert torch.equal(one.x, two.x)
    assert torch.equal(one.signs, two.signs)
    # the objective's curvature is n lam at least, so a gradient of g keeps within g / (n lam)
    reach = (one.bound + two.bound) / (39 * 0.1)
    assert (one.weights - two.weights).norm() <= reach < apart
    one.retrain(seed=1)
    two.retrain(seed=1)
    assert torch.equal(one.weights, two.weights)


def test_the_noise_comes_from_the_seed_or_from_the_system() -> None:
    assert torch.equal(head(seed=3).weights, head(seed=3).weights)
    drawn = [head(seed=None).weights for _ in range(2)]
    assert not torch.allclose(drawn[0], drawn[1], atol=1e-3)
    kept = [value for value in vars(head(seed=3, std=1.0)).values() if isinstance(value, Tensor)]
    assert len(kept) == 6
    assert not any(torch.equal(value, noise(3, 4, 3)) for value in kept)
    numbers = [value for value in vars(head(seed=12345)).values() if isinstance(value, int)]
    assert 12345 not in numbers
    draws = noise(1, 200, 200)
    assert draws.std() == pytest.approx(1, abs=0.02)
    assert draws.mean() == pytest.approx(0, abs=0.02)


def test_the_head_as_a_model() -> None:
    x, targets = examples()
    one = head(std=0.1, lam=0.001)
    logits = one.model()(x.float().reshape(40, 1, 2, 2))
    assert torch.allclose(logits.double(), x @ one.weights, atol=1e-5)
    assert (logits.argmax(1) == targets).float().mean() > 0.7
    scaled = one.model(nn.Sequential(nn.Flatten(), UnitRows()))(5 * x.float())
    assert torch.allclose(scaled, logits, atol=1e-5)
    assert not any(weight.requires_grad for weight in one.model().parameters())


def test_unit_rows() -> None:
    rows = unit_rows(torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-8, 0.0]]))
    assert torch.allclose(rows, torch.tensor([[0.6, 0.8], [0.0, 0.0], [1.0, 0.0]]))
    lengths = head(examples()[0].float()).x.norm(dim=1)
    assert (lengths <= 1 + 1e-15).all()


def test_the_guarantee_quotes_the_statement() -> None:
    one = head(epsilon=0.5, delta=1e-6)
    one.forget([2])
    said = one.guarantee
    assert STATED in said
    assert "(0.5, 1e-06)-removal of 1 rows" in said
    assert all(word in said for word in ("Assumes", "Checked", "Not covered", "not checked"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lam": 0.0}, "lam must be a finite number above 0, got 0.0"),
        ({"lam": -1.0}, "lam must"),
        ({"lam": math.nan}, "lam must"),
        ({"std": 0.0}, "std must"),
        ({"std": math.inf}, "std must"),
        ({"epsilon": 0.0}, "epsilon must"),
        ({"epsilon": -0.5}, "epsilon must"),
        ({"epsilon": 1.5}, "epsilon must be 1 at most, got 1.5"),
        ({"delta": 0.0}, "delta must"),
        ({"delta": 1.0}, "delta must lie between 0 and 1"),
        ({"gamma": 0.04}, "gamma must be 0.048113 or more"),
        ({"statement": "  "}, "The statement is empty"),
    ],
)
def test_constants_out_of_range(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadSentence, match=message):
        head(**changes)


X, Y = examples()
BROKEN = X.clone()
BROKEN[3, 1] = math.nan


@pytest.mark.parametrize(
    ("x", "targets", "message"),
    [
        (X[:0], Y[:0], "at least one row"),
        (X[:, :0], Y, "at least one row"),
        (X[0], Y[0], r"expected \[n, d\]"),
        (X, Y[:-1], r"features \(40, 4\) and targets \(39,\)"),
        (BROKEN, Y, "NaN or infinite"),
        (-BROKEN.nan_to_num(math.inf, math.inf), Y, "NaN or infinite"),
        (1.01 * X, Y, r"length 1.01; the bound allows 1 at most.*unit_rows"),
        (X, Y + 1, "whole numbers from 0 to 2.* to 3"),
        (X, Y - 1, "from -1"),
        (X, Y.double(), "whole numbers"),
        (X, Y > 0, "whole numbers"),
    ],
)
def test_examples_that_cannot_be_used(x: Tensor, targets: Tensor, message: str) -> None:
    with pytest.raises(BadData, match=message):
        head(x, targets)


def test_one_class_is_refused() -> None:
    with pytest.raises(BadData, match="two classes at least"):
        head(X, 0 * Y, classes=1)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "is empty"),
        ([40], "names row 40"),
        ([1, 1], "more than once"),
        ([3, 5], "Row 3 was deleted before"),
        ([row for row in range(40) if row != 3], "expected at least one to keep"),
    ],
)
def test_rows_that_cannot_be_removed(rows: list[int], message: str) -> None:
    one = head(std=10.0)
    one.forget([3])
    with pytest.raises(BadData, match=message):
        one.forget(rows)
    if rows:
        with pytest.raises(BadData, match=message):
            one.retrain(rows)
    assert one.gone.tolist() == [3]
