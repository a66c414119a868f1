"""One-vs-rest logistic regression with an L2 penalty, solved to the last digit, in float64.

The objective of class k over n rows is a sum, not a mean:
sum_i log(1 + exp(-y_ik w_k x_i)) + n lam / 2 |w_k|^2 + b_k w_k, with y_ik = 1 or -1.
"""

from __future__ import annotations

import torch
from torch import Tensor

MOST_STEPS = 100
SMALLEST_STEP = 2.0**-40


def gradient(weights: Tensor, x: Tensor, signs: Tensor, lam: float) -> Tensor:
    """The gradient without the perturbation, [d, k]; of some rows, their share of the whole.

    Args:
        weights: float64 [d, k].
        x: float64 [n, d].
        signs: float64 [n, k], 1 for the row's class and -1 for the others.
        lam: strength of the L2 penalty, a row's share of it.
    """
    slopes = -signs * torch.sigmoid(-signs * (x @ weights))
    return x.T @ slopes + len(x) * lam * weights


def hessian(weights: Tensor, x: Tensor, lam: float) -> Tensor:
    """The Hessian of each class, [k, d, d]; it does not depend on the labels."""
    answers = torch.sigmoid(x @ weights)
    bends = answers * (1 - answers)
    ridge = len(x) * lam * torch.eye(x.shape[1], dtype=x.dtype)
    return torch.stack([x.T @ (bend[:, None] * x) for bend in bends.T]) + ridge


def solve(hessians: Tensor, slopes: Tensor) -> Tensor:
    """The Newton step of each class: H_k^-1 g_k for hessians [k, d, d] and slopes [d, k]."""
    return torch.linalg.solve(hessians, slopes.T[..., None])[..., 0].T


def minimum(x: Tensor, signs: Tensor, lam: float, linear: Tensor) -> Tensor:
    """The minimiser, [d, k], by Newton's method with halved steps where a full one overshoots.

    It stops where no step makes the gradient much smaller, which is at the last digits.
    """
    weights = torch.zeros_like(linear)
    for _ in range(MOST_STEPS):
        slope = gradient(weights, x, signs, lam) + linear
        step = solve(hessian(weights, x, lam), slope)
        size, found = torch.ones(linear.shape[1], dtype=linear.dtype), torch.zeros(())
        while (found == 0).any() and size.max() > SMALLEST_STEP:
            there = gradient(weights - size * step, x, signs, lam) + linear
            flatter = there.norm(dim=0) < (1 - size / 4) * slope.norm(dim=0)
            found = torch.where((found == 0) & flatter, size, found)
            size = size / 2
        if not found.any():
            break
        weights = weights - found * step
    return weights
