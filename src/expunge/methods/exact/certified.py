"""Certified removal: a linear head whose noise hides what a Newton step leaves of a row."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from expunge.core.seeds import stream
from expunge.errors import BadData, BadSentence, BudgetSpent
from expunge.methods.exact.deletions import NO_ROWS, Rows, requested

MOST_STEPS = 100
SMALLEST_STEP = 2.0**-40


def gradient(weights: Tensor, x: Tensor, signs: Tensor, lam: float) -> Tensor:
    """Return the gradient without the perturbation, [d, k]; of some rows, their share of it.

    Args:
        weights: float64 [d, k].
        x: float64 [n, d].
        signs: float64 [n, k], 1 for the row's class and -1 for the others.
        lam: strength of the L2 penalty, a row's share of it.
    """
    slopes = -signs * torch.sigmoid(-signs * (x @ weights))
    return x.T @ slopes + len(x) * lam * weights


def hessian(weights: Tensor, x: Tensor, lam: float) -> Tensor:
    """Return the Hessian of each class, [k, d, d]; it does not depend on the labels."""
    answers = torch.sigmoid(x @ weights)
    bends = answers * (1 - answers)
    ridge = len(x) * lam * torch.eye(x.shape[1], dtype=x.dtype)
    return torch.stack([x.T @ (bend[:, None] * x) for bend in bends.T]) + ridge


def solve(hessians: Tensor, slopes: Tensor) -> Tensor:
    """Return the Newton step of each class: H_k^-1 g_k for hessians [k, d, d] and slopes [d, k]."""
    return torch.linalg.solve(hessians, slopes.T[..., None])[..., 0].T


def minimum(x: Tensor, signs: Tensor, lam: float, linear: Tensor) -> Tensor:
    """Find the minimiser, [d, k], by Newton's method, halving steps that overshoot.

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


# Half the largest slope of the logistic loss's second derivative, 1 / (6 sqrt 3): no remainder of
# a Newton step exceeds this share of its second-order size. The paper takes 1/4, which is larger.
SMALLEST_GAMMA = 1 / (12 * math.sqrt(3))


# Rounding may lift the length of a row scaled to 1 by this much.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Removal:
    """How much of the budget some removals spent.

    Args:
        rows: the rows removed, in this order.
        bounds: after each, the bound on the norm of the gradient over all removals so far.
        budget: what the bound may grow to.
    """

    rows: tuple[int, ...]
    bounds: tuple[float, ...]
    budget: float

    def __str__(self) -> str:
        return (
            f"Removed {len(self.rows)} rows: {self.bounds[-1]:.3g} of the budget "
            f"{self.budget:.3g} is spent"
        )


@dataclass(frozen=True)
class RemovalConstants:
    """The guarantee of a certified head, and the constants of its training.

    Args:
        lam: L2 penalty of each row; the objective has n lam / 2 |w|^2.
        std: standard deviation of the random linear term b.
        epsilon, delta: the guarantee, 0 < epsilon <= 1 and 0 < delta < 1.
        gamma: bound on the curvature's change; 1/4 is the authors', 1 / (12 sqrt 3) the smallest
            that can be proved.

    Raises:
        BadSentence: constants for which no theorem holds.
    """

    lam: float = 1e-3
    std: float = 10.0
    epsilon: float = 1.0
    delta: float = 1e-4
    gamma: float = 0.25

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (math.isfinite(value) and value > 0):
                raise BadSentence(f"{name} must be a finite number above 0, got {value}.")
        if self.epsilon > 1:
            raise BadSentence(
                f"epsilon must be 1 at most, got {self.epsilon}: the Gaussian tail that the "
                "guarantee rests on is proved up to there."
            )
        if self.delta >= 1:
            raise BadSentence(f"delta must lie between 0 and 1, got {self.delta}.")
        if self.gamma < SMALLEST_GAMMA:
            raise BadSentence(
                f"gamma must be {SMALLEST_GAMMA:.6f} or more for the logistic loss, got "
                f"{self.gamma}; the authors take 0.25."
            )

    @property
    def budget(self) -> float:
        """The largest norm of the gradient that the noise covers."""
        return self.std * self.epsilon / math.sqrt(2 * math.log(1.5 / self.delta))


DEFAULTS = RemovalConstants()


class CertifiedHead:
    """Train one-vs-rest logistic regression on frozen features, and remove rows from it.

    Training adds a random linear term b to the loss. A removal is one Newton step of the loss over
    the rows that stay; what it leaves of the gradient is bounded, the bounds add up, and while
    their sum stays within the budget std epsilon / sqrt(2 log(1.5 / delta)) the noise covers it.

    Args:
        features: [n, d], each row of length 1 at most (see `unit_rows`).
        targets: whole numbers [n], the class of each row.
        statement: how the features were made, and that no row which may be removed was used for
            them; the guarantee quotes it.
        classes: outputs; fixed beforehand, since a removed row may be the last of its class.
        constants: the guarantee, and how the head is trained.
        seed: of b; whoever knows it can undo the noise. None takes one from the system.

    Raises:
        BadData: features or targets that are empty, not finite, too long or out of range.
        BadSentence: no statement.

    Source: Guo et al., Certified Data Removal, arXiv 1911.03030 (bound from the data, Gaussian
    noise); facebookresearch/certified-removal at 7693b26. There the bounds of the classes are
    added, and the spectral norm comes from 20 power iterations, which can fall short of it. Here
    the classes are one problem, whose gradient has the classes' root sum of squares as its norm;
    the spectral norm is exact; and the gradient that training leaves counts too.
    """

    def __init__(
        self,
        features: Tensor,
        targets: Tensor,
        *,
        statement: str,
        classes: int,
        constants: RemovalConstants = DEFAULTS,
        seed: int | None = None,
    ) -> None:
        _check_examples(features, targets, classes)
        if not statement.strip():
            raise BadSentence(
                "The statement is empty. Say how the features were made, and that no row which may "
                "be removed was used for them: the guarantee is about the head alone."
            )
        self.statement, self.constants = statement.strip(), constants
        self.n, self.gone = len(features), NO_ROWS
        self.rows = torch.arange(self.n)
        x = features.detach().cpu().double()
        self.x = x / x.norm(dim=1, keepdim=True).clamp_min(1)  # what rounding left above 1
        self.signs = nn.functional.one_hot(targets.detach().cpu().long(), classes) * 2.0 - 1.0
        self.signs = self.signs.double()
        self.weights, self.spent = self._trained(secrets.randbits(63) if seed is None else seed)

    @property
    def budget(self) -> float:
        """The largest norm of the gradient that the noise covers."""
        return self.constants.budget

    @property
    def bound(self) -> float:
        """The bound on the norm of the gradient at the weights, all classes together."""
        return float(self.spent.norm())

    @property
    def guarantee(self) -> str:
        """What is guaranteed, what it assumes, and what it leaves out."""
        return (
            f"Certified: ({self.constants.epsilon:g}, {self.constants.delta:g})-removal of "
            f"{len(self.gone)} rows from the head, against a head trained without them by the "
            "same mechanism. Checked: the loss is logistic, lam > 0, features are of length 1 "
            f"at most, and the bound {self.bound:.3g} lies within the budget {self.budget:.3g}. "
            "Assumes: the noise theorem of arXiv 1911.03030, which takes what a step leaves for "
            "a shift that does not depend on the noise; that nobody knows the noise or its "
            "seed; that the requests do not depend on the published head. As stated, not "
            f"checked: {self.statement} Not covered: the features and what made them, copies of "
            "a removed row that stay, heads that were published before, and constants that were "
            "chosen by looking at the rows."
        )

    def forget(self, rows: Rows) -> Removal:
        """Remove rows, one Newton step each: all of them or none.

        Raises:
            BadData: rows that are unknown, named twice or removed before, or none would be left.
            BudgetSpent: the noise does not cover all of them; `possible` says how many it does.
        """
        wanted = requested(rows, self.n, self.gone)
        weights, spent = self.weights, self.spent
        kept = torch.ones(len(self.rows), dtype=torch.bool)
        bounds: list[float] = []
        for row in wanted.tolist():
            place = int((self.rows == row).nonzero())
            kept[place] = False
            weights, more = self._step(weights, kept, place)
            spent = spent + more
            bounds.append(float(spent.norm()))
            if not bounds[-1] <= self.budget:
                raise self._refusal(len(bounds) - 1, len(wanted))
        self.x, self.signs, self.rows = self.x[kept], self.signs[kept], self.rows[kept]
        self.weights, self.spent = weights, spent
        self.gone = torch.cat([self.gone, wanted]).sort()[0]
        return Removal(tuple(wanted.tolist()), tuple(bounds), self.budget)

    def retrain(self, rows: Rows = (), *, seed: int | None = None) -> None:
        """Train again without some rows, with fresh noise: the whole budget is there again.

        Raises:
            BadData: as for `forget`.
        """
        if len(rows):
            wanted = requested(rows, self.n, self.gone)
            kept = ~torch.isin(self.rows, wanted)
            self.x, self.signs, self.rows = self.x[kept], self.signs[kept], self.rows[kept]
            self.gone = torch.cat([self.gone, wanted]).sort()[0]
        self.weights, self.spent = self._trained(secrets.randbits(63) if seed is None else seed)

    def model(self, extractor: nn.Module | None = None) -> nn.Module:
        """Return an extractor and the head as one module from inputs to logits, float32.

        Args:
            extractor: inputs -> features [b, d] as the head was trained on; for features of length
                1, `nn.Sequential(extractor, UnitRows())`. Inputs are only flattened when None.
        """
        width, classes = self.weights.shape
        last = nn.Linear(width, classes, bias=False)
        with torch.no_grad():
            last.weight.copy_(self.weights.T)
        return nn.Sequential(extractor or nn.Flatten(), last).eval().requires_grad_(False)

    def _trained(self, seed: int) -> tuple[Tensor, Tensor]:
        """The minimiser under fresh noise, and what is left of each class's gradient."""
        linear = self.constants.std * noise(seed, self.x.shape[1], self.signs.shape[1])
        weights = minimum(self.x, self.signs, self.constants.lam, linear)
        left = gradient(weights, self.x, self.signs, self.constants.lam) + linear
        return weights, left.norm(dim=0)

    def _step(self, weights: Tensor, kept: Tensor, place: int) -> tuple[Tensor, Tensor]:
        """One removal: the new weights, and a bound on what it adds to each class's gradient.

        The remainder of the step is at most gamma |X| |step| |X step| in Euclidean and spectral
        norms; to that comes what the solver left of its equation.
        """
        x, one = self.x[kept], slice(place, place + 1)
        slope = gradient(weights, self.x[one], self.signs[one], self.constants.lam)
        bends = hessian(weights, x, self.constants.lam)
        step = solve(bends, slope)
        unsolved = (torch.einsum("kij,jk->ik", bends, step) - slope).norm(dim=0)
        spectral = torch.linalg.eigvalsh(x.T @ x)[-1].clamp_min(0).sqrt()
        remainder = self.constants.gamma * spectral * step.norm(dim=0) * (x @ step).norm(dim=0)
        return weights + step, remainder + unsolved

    def _refusal(self, possible: int, wanted: int) -> BudgetSpent:
        return BudgetSpent(
            f"The noise covers {possible} of these {wanted} removals, after {len(self.gone)} "
            f"before (budget {self.budget:.3g}, {self.bound:.3g} of it spent). Nothing was "
            "removed. Retrain without all of them, or train with more noise (std) or a larger lam.",
            possible,
        )


class UnitRows(nn.Module):
    """Scales each row to length 1; inputs of any shape are flattened to [b, d]."""

    def forward(self, features: Tensor) -> Tensor:
        """Map [b, ...] to [b, d]."""
        return unit_rows(features.flatten(1))


def unit_rows(features: Tensor) -> Tensor:
    """Scale each row of features [n, d] to length 1 by itself; a row of zeros stays.

    No statistic of other rows is used, since it would outlive their removal.
    """
    return features / features.norm(dim=-1, keepdim=True).clamp_min(1e-30)


def noise(seed: int, width: int, classes: int) -> Tensor:
    """Draw standard normal numbers, float64 [d, k]."""
    draws = stream("certified removal", seed, "loss perturbation")
    return torch.randn(width, classes, generator=draws, dtype=torch.float64)


def _check_examples(features: Tensor, targets: Tensor, classes: int) -> None:
    """Refuse features and targets that the theorem is not about."""
    if features.ndim != 2 or not features.numel() or targets.shape != features.shape[:1]:
        raise BadData(
            f"Got features {tuple(features.shape)} and targets {tuple(targets.shape)}; expected "
            "[n, d] and [n], with at least one row."
        )
    if not torch.isfinite(features).all():
        raise BadData("The features hold NaN or infinite values; clean them first.")
    longest = float(features.double().norm(dim=1).max())
    if longest > 1 + (ROUNDING if features.dtype == torch.float64 else 1e-6):
        raise BadData(
            f"A row of the features has length {longest:.6g}; the bound allows 1 at most. "
            "Scale each row by itself: unit_rows(features)."
        )
    whole = not (targets.is_floating_point() or targets.dtype == torch.bool)
    if classes < 2 or not whole or not 0 <= int(targets.min()) <= int(targets.max()) < classes:
        raise BadData(
            f"Targets must be whole numbers from 0 to {classes - 1}, two classes at least: got "
            f"{targets.dtype} from {targets.min()} to {targets.max()}."
        )
