"""Three levels of seeds: mean squares by hand, coverage, which level dominates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from audit_worlds import at_most, sharing
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from expunge.errors import BadEvidence, ExpungeError
from expunge.statistics.compare import compare_means
from expunge.statistics.levels import Seeds, decompose


def nested(
    rng: np.random.Generator, sds: tuple[float, float, float], shape: tuple[int, int, int]
) -> Seeds:
    outer, middle = rng.normal(size=(shape[0], 1, 1)), rng.normal(size=(*shape[:2], 1))
    return Seeds(sds[0] * outer + sds[1] * middle + sds[2] * rng.normal(size=shape))


def test_mean_squares_by_hand() -> None:
    # training means 2 and 6 about 4; unlearning means 1 3 and 5 7; evaluations one apart from them
    seeds = Seeds(np.array([[[0.0, 2.0], [2.0, 4.0]], [[4.0, 6.0], [6.0, 8.0]]]))
    # MS: 4 (4 + 4) / 1 = 32;  2 (1 + 1 + 1 + 1) / 2 = 4;  8 / 4 = 2
    training, unlearning, evaluation = decompose(seeds).components
    assert (training.variance, unlearning.variance, evaluation.variance) == (7.0, 1.0, 2.0)
    assert (training.share, unlearning.share, evaluation.share) == (0.7, 0.1, 0.2)
    assert [one.freedom for one in (training, unlearning, evaluation)] == [1, 2, 4]
    # 4 MS / chi2 quantiles of 4: 11.1433 and 0.4844
    assert (evaluation.low, evaluation.high) == pytest.approx((8 / 11.1433, 8 / 0.48442), rel=1e-4)


def test_the_interval_of_ting_by_hand() -> None:
    """Mean squares 3200 and 4 with 1 and 2 degrees of freedom; quantiles from a table, at 5 % each.

    chi2(1) 3.84146 and 0.0039321, chi2(2) 5.99146 and 0.102587, F(1, 2) 18.5128 and 0.0050125.
    """
    # training means -20 and 20, so that 4 (400 + 400) / 1 is the outer mean square
    below = np.array([[-2.0, 0.0], [0.0, 2.0]])
    seeds = Seeds(np.stack([below - 20, below + 20]))
    g1, h1, g2, h2 = 1 - 1 / 3.84146, 1 / 0.0039321 - 1, 1 - 2 / 5.99146, 2 / 0.102587 - 1
    g12 = ((18.5128 - 1) ** 2 - (g1 * 18.5128) ** 2 - h2**2) / 18.5128
    h12 = ((1 - 0.0050125) ** 2 - (h1 * 0.0050125) ** 2 - g2**2) / 0.0050125
    low = 3196 - math.sqrt((g1 * 3200) ** 2 + (h2 * 4) ** 2 + g12 * 12800)
    high = 3196 + math.sqrt((h1 * 3200) ** 2 + (g2 * 4) ** 2 + h12 * 12800)
    training = decompose(seeds, alpha=0.1).components[0]
    assert training.low == pytest.approx(low / 4, rel=1e-3) != 0
    assert training.high == pytest.approx(high / 4, rel=1e-3)


def test_the_mean_rests_on_training_seeds() -> None:
    seeds = Seeds(np.array([[[0.0, 2.0], [2.0, 4.0]], [[4.0, 6.0], [6.0, 8.0]]]))
    found = seeds.mean()
    assert seeds.by_training().tolist() == [2.0, 6.0]
    assert (found.value, found.n) == (4.0, 2)
    half = student.isf(0.025, 1) * math.sqrt(8) / math.sqrt(2)
    assert found.high - 4.0 == pytest.approx(half)


def test_levels_that_were_not_varied() -> None:
    rng = np.random.default_rng(0)
    one = decompose(Seeds(rng.normal(size=(1, 6, 4))))
    assert [c.level for c in one.components] == ["unlearning", "evaluation"]
    assert one.fixed == ("training",)
    mixed = decompose(Seeds(rng.normal(size=(6, 4, 1))))
    assert [c.level for c in mixed.components] == ["training", "unlearning and evaluation"]
    assert mixed.fixed == ()
    only = decompose(Seeds(rng.normal(size=(9, 1, 1))))
    assert [c.level for c in only.components] == ["training and unlearning and evaluation"]
    assert only.components[0].share == 1.0
    assert only.dominant == "training and unlearning and evaluation"


@pytest.mark.parametrize(
    ("sds", "level"),
    [((5, 0.5, 0.5), "training"), ((0.1, 5, 0.2), "unlearning"), ((0.1, 0.1, 3), "evaluation"),
     ((1, 1, 1), None)],
)  # fmt: skip
def test_which_level_dominates(sds: tuple[float, float, float], level: str | None) -> None:
    found = decompose(nested(np.random.default_rng(0), sds, (12, 6, 4)))
    assert found.dominant == level


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 10), st.floats(-5, 5))
def test_scale_shift_and_order(seed: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    seeds = nested(rng, (1, 1, 1), (3, 4, 2))
    moved = Seeds(rng.permutation(seeds.values, axis=0) * scale + shift)
    for one, other in zip(decompose(seeds).components, decompose(moved).components, strict=True):
        assert other.variance == pytest.approx(one.variance * scale**2, rel=1e-6, abs=1e-9)
        assert other.low == pytest.approx(one.low * scale**2, rel=1e-6, abs=1e-9)
        assert other.low <= max(other.variance, 0) <= other.high


@pytest.mark.parametrize("sds", [(1, 1, 1), (0, 1, 1), (3, 1, 0.3)], ids=str)
@pytest.mark.parametrize("shape", [(3, 3, 3), (6, 4, 2)], ids=str)
def test_intervals_cover(sds: tuple[float, float, float], shape: tuple[int, int, int]) -> None:
    rng, runs, missed = np.random.default_rng(0), 400, np.zeros(3)
    for _ in range(runs):
        found = decompose(nested(rng, sds, shape)).components
        missed += [not c.low <= sd**2 <= c.high for c, sd in zip(found, sds, strict=True)]
    assert (missed <= at_most(0.055, runs)).all()


def test_models_of_one_original_are_no_independent_units() -> None:
    """Counted one by one they raise false alarms; averaged by original they do not."""
    rng, runs = np.random.default_rng(0), 200
    naive = honest = 0
    for _ in range(runs):
        a, b = (sharing(rng, 6, 8, 1.0) for _ in range(2))
        naive += compare_means(a.ravel(), b.ravel(), margin=1.0).p <= 0.05
        first, second = (Seeds(one[:, :, None]).by_training() for one in (a, b))
        honest += compare_means(first, second, margin=1.0).p <= 0.05
    assert naive / runs > 0.3
    assert honest <= at_most(0.05, runs)


def test_the_mean_of_dependent_models_covers() -> None:
    rng, runs = np.random.default_rng(0), 600
    missed = sum(0.0 not in Seeds(sharing(rng, 5, 6, 2.0)[:, :, None]).mean() for _ in range(runs))
    assert 0.01 * runs <= missed <= at_most(0.05, runs)


def test_bad_seeds() -> None:
    for bad in (np.zeros((3, 3)), np.zeros((0, 3, 3)), np.full((2, 2, 2), math.nan)):
        with pytest.raises(BadEvidence):
            Seeds(bad)
    with pytest.raises(BadEvidence, match="at least 2"):
        decompose(Seeds(np.zeros((1, 1, 1))))
    with pytest.raises(BadEvidence, match="1 training seed"):
        Seeds(np.zeros((1, 3, 3))).mean()
    for alpha in (0.0, 1.0, math.nan):
        with pytest.raises(ExpungeError):
            decompose(Seeds(np.zeros((2, 2, 2))), alpha=alpha)
        with pytest.raises(ExpungeError):
            Seeds(np.zeros((2, 2, 2))).mean(alpha)


def test_no_variance_at_all() -> None:
    found = decompose(Seeds(np.ones((2, 2, 2))))
    assert [one.share for one in found.components] == [0.0, 0.0, 0.0]
    assert found.dominant is None
