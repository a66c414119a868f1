"""RMIA and IAM: against loops, against the authors' numbers, and refusals."""

from __future__ import annotations

import naive_attacks
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit

from expunge.errors import BadEvidence, ExpungeError
from expunge.metrics.attacks.rmia import (
    offline_typical,
    online_typical,
    rmia,
    rmia_offline,
    rmia_online,
)
from expunge.metrics.attacks.ruli import iam

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def normal(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).normal(size=shape)


def world(seed: int) -> tuple[Floats, Flags, Floats]:
    rng = np.random.default_rng(seed)
    member = np.stack([rng.permutation(6) % 2 == 0 for _ in range(4)], axis=1)
    return expit(rng.normal(size=(6, 4)) + member), member, expit(rng.normal(size=(6, 9)))


@settings(deadline=None, derandomize=True, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0.5, 3))
def test_offline_is_its_definition(seed: int, a: float, gamma: float) -> None:
    confidence, member, population = world(seed)
    found = rmia_offline(confidence, ~member, population, a=a, gamma=gamma)
    slow = naive_attacks.rmia_offline(confidence, ~member, population, a, gamma)
    assert found == pytest.approx(slow)


def test_online_is_its_definition() -> None:
    confidence, member, population = world(0)
    found = rmia_online(confidence, member, population, a=0.4, gamma=1.2)
    for row, example in np.ndindex(6, 4):
        rest = np.arange(6) != row
        inside = confidence[rest & member[:, example], example].mean()
        outside = confidence[rest & ~member[:, example], example].mean()
        ratio = confidence[row, example] / ((inside + outside) / 2)
        others = population[row] / (1.4 / 2 * population[rest].mean(axis=0) + 0.3)
        assert found[row, example] == pytest.approx(np.mean(ratio / others > 1.2))


def test_rmia_by_hand() -> None:
    # ratio(x) = 0.9 / 0.5 = 1.8; of z: 0.5, 1, 1.8, 2. Above 1.2 x ratio(z): the first two.
    target, typical = np.array([[0.9]]), np.array([0.5])
    population, usual = np.array([[0.25, 0.5, 0.9, 1.0]]), np.full(4, 0.5)
    assert rmia(target, population, typical, usual, gamma=1.2).tolist() == [[0.5]]
    # A ratio that is just gamma is not above it.
    assert rmia(target, population, typical, usual, gamma=1.0).tolist() == [[0.5]]


def test_typical_by_hand() -> None:
    assert offline_typical(np.array([0.5]), a=0.33) == pytest.approx([1.33 / 4 + 0.335])
    assert offline_typical(np.array([0.2]), a=1.0) == pytest.approx([0.2])
    assert online_typical(np.array([0.9]), np.array([0.5])) == pytest.approx([0.7])


def test_one_reference_model_is_enough() -> None:
    target, reference = expit(normal(0, 1, 5)), expit(normal(1, 5))
    points, usual = expit(normal(2, 1, 7)), expit(normal(3, 7))
    found = rmia(target, points, offline_typical(reference), offline_typical(usual))
    assert found.shape == (1, 5)
    assert ((found >= 0) & (found <= 1)).all()
    assert len(np.unique(found)) > 1


def test_rmia_against_the_authors() -> None:
    """run_rmia of privacytrustlab/ml_privacy_meter @ e384af8: gamma 1, a 0.33, 3 references."""
    target, references = expit(normal(0, 5)), expit(normal(1, 3, 5))
    points, usual = expit(normal(2, 40)), expit(normal(3, 3, 40))
    ordinary = offline_typical(usual.mean(axis=0))
    typical = offline_typical(references.mean(axis=0))
    found = rmia(target[None], points[None], typical, ordinary, gamma=1.0)
    assert found[0] == pytest.approx([0.45, 0.35, 0.725, 0.6, 0.225])
    # Where a reference saw the example, theirs averages a zero in: 0.7, 0.35, 0.95, 0.6, 0.625.
    saw = np.array([[1, 0, 0, 0, 1], [0, 0, 1, 0, 1], [0, 0, 0, 0, 0]], dtype=bool)
    typical = offline_typical(np.nanmean(np.where(saw, np.nan, references), axis=0))
    found = rmia(target[None], points[None], typical, ordinary, gamma=1.0)
    assert found[0] == pytest.approx([0.45, 0.35, 0.75, 0.6, 0.325])


def test_rmia_order_does_not_matter() -> None:
    confidence, member, population = world(3)
    rng = np.random.default_rng(0)
    rows, columns, points = rng.permutation(6), rng.permutation(4), rng.permutation(9)
    whole = rmia_offline(confidence, ~member, population)
    mixed = rmia_offline(
        confidence[rows][:, columns], ~member[rows][:, columns], population[rows][:, points]
    )
    assert (mixed == whole[rows][:, columns]).all()


def test_bad_rmia() -> None:
    confidence, member, population = world(0)
    for broken in (
        (confidence, ~member, population[:5]),
        (confidence, ~member, population[:, :0]),
        (confidence * 0, ~member, population),
        (np.full_like(confidence, 0.5), ~member, population),
        (-confidence, ~member, population),
        (confidence, ~member[:3], population),
        (confidence, (~member).astype(float), population),
        (np.where(member, np.nan, confidence), ~member, population),
        (confidence, np.zeros_like(member), population),
    ):
        with pytest.raises(BadEvidence):
            rmia_offline(*broken)
    with pytest.raises(BadEvidence, match="inside of 1 models"):
        rmia_online(confidence, np.arange(6)[:, None] == np.zeros(4), population)
    for settings_ in ({"gamma": 0.0}, {"a": 1.5}, {"a": -0.1}):
        with pytest.raises(ExpungeError):
            rmia_offline(confidence, ~member, population, **settings_)
    same, points = np.full_like(confidence, 0.5), np.full_like(population, 0.5)
    with pytest.raises(BadEvidence, match=r"answer 0\.5 on all examples and points"):
        rmia(same, points, same[0], points[0])
    with pytest.raises(BadEvidence, match="targets"):
        rmia(confidence, population[:2], confidence[0], population[0])
    with pytest.raises(BadEvidence, match="typical"):
        rmia(confidence, population, confidence[:, 0], population[0])


IAM = (normal(5, 4), normal(6, 4) + 2, normal(7, 3, 4))
EVERY = np.ones((3, 4), dtype=bool)


@pytest.mark.parametrize("steps", [2, 5, 100])
@pytest.mark.parametrize("variance", ["global", "example"])
def test_iam_is_its_definition(steps: int, variance: str) -> None:
    unlearned, original, shadows = IAM
    found = iam(unlearned[None], original, shadows, EVERY, steps=steps, variance=variance)
    slow = naive_attacks.iam(unlearned, original, shadows, steps, variance == "global")
    assert found[0] == pytest.approx(slow, rel=1e-6, abs=1e-9)


def test_iam_against_the_authors() -> None:
    """interpolate_appro of Happy2Git/Unlearning_Inference_IAM @ 13f385b, unlearning scores."""
    unlearned, original, shadows = IAM
    theirs = {
        (5, True): [0.9777407181754041, 0.9965700738986155, 0.46840497577837215, 0.732937876951808],
        (100, True): [
            0.9990155273977931,
            0.9999626141596948,
            0.42107262346263563,
            0.7884810961476678,
        ],
        (100, False): [
            0.9999999719318569,
            0.9999920263755815,
            0.2531871247916142,
            0.9281620963660163,
        ],
    }
    for (steps, shared), printed in theirs.items():
        released = naive_attacks.released_iam(unlearned, original, shadows, steps, shared)
        # They round Euler's constant to 0.5772.
        assert 1 - released == pytest.approx(printed, abs=2e-4)
    ours = 1 - iam(unlearned[None], original, shadows, EVERY)[0]
    assert ours == pytest.approx([0.99924952, 0.99997954, 0.41858104, 0.79065883])
    assert np.abs(ours - theirs[100, True]).max() == pytest.approx(0.0025, abs=1e-4)


def test_iam_ends() -> None:
    """As the shadows: gone; as the original and above: member; in between: in between."""
    rng = np.random.default_rng(0)
    shadows = rng.normal(size=(4, 300)) * 0.1
    original = np.full(300, 2.0)
    unlearned = np.stack([shadows[0] - 1, np.full(300, 1.0), np.full(300, 3.0)])
    unseen = np.ones(shadows.shape, dtype=bool)
    for variance in ("global", "example"):
        low, middle, high = iam(unlearned, original, shadows, unseen, variance=variance)
        assert low.max() < 0.01
        assert 0.1 < middle.min() < middle.max() < 0.5
        assert high.min() > 0.99


def test_iam_does_not_depend_on_the_scale_of_the_signal() -> None:
    unlearned, original, shadows = IAM
    found = iam(unlearned[None], original, shadows, EVERY)
    scaled = iam(3 * unlearned[None] + 7, 3 * original + 7, 3 * shadows + 7, EVERY)
    assert scaled == pytest.approx(found)


def test_iam_with_one_shadow_and_with_masks() -> None:
    unlearned, original, shadows = IAM
    one = iam(unlearned[None], original, shadows[:1], EVERY[:1])
    # 0.99999, 1, 0.3613, 0.5818 in the released code.
    assert 1 - one[0] == pytest.approx([0.99999165, 1.0, 0.36113276, 0.58974656])
    seen = np.array([[True] * 4, [False] * 4, [False] * 4])
    assert iam(unlearned[None], original, shadows, seen) == pytest.approx(one)
    targets = np.stack([unlearned, unlearned + 1])
    both = iam(targets, np.stack([original, original + 1]), shadows[:1], EVERY[:1])
    assert both[0] == pytest.approx(one[0])
    alone = iam(targets[1:], original + 1, shadows[:1], EVERY[:1])
    assert both[1] == pytest.approx(alone[0])


def test_iam_uneven_masks_are_weighed() -> None:
    unlearned, original, shadows = IAM
    unseen = np.array([[1, 1, 0, 1], [1, 0, 1, 1], [0, 1, 0, 1]], dtype=bool)
    found = iam(unlearned[None], original, shadows, unseen, steps=7)[0]
    alphas = np.linspace(0, 1, 7)
    total = np.zeros(4)
    for alpha in alphas:
        mixed = (1 - alpha) * shadows + alpha * original
        spread = mixed[unseen].std() * np.sqrt(6) / np.pi
        place = np.array([mixed[unseen[:, e], e].mean() for e in range(4)])
        total += alpha * np.exp(-np.exp(-((unlearned - place) / spread + np.euler_gamma)))
    assert found == pytest.approx(total / alphas.sum())


def test_bad_iam() -> None:
    unlearned, original, shadows = IAM
    target = unlearned[None]
    for broken in (
        (unlearned, original, shadows, EVERY),
        (target, original[:3], shadows, EVERY),
        (target, original, shadows[:, :3], EVERY[:, :3]),
        (target, original, shadows, EVERY[:2]),
        (target, original, shadows * np.nan, EVERY),
        (target * np.inf, original, shadows, EVERY),
        (target, original, shadows, ~EVERY),
    ):
        with pytest.raises(BadEvidence):
            iam(*broken)
    same = np.full_like(shadows, 2.0)
    for variance in ("global", "example"):
        with pytest.raises(BadEvidence, match="All models answer 2 on all examples"):
            iam(same[:1], same[0], same, EVERY, variance=variance)
    with pytest.raises(BadEvidence, match="never seen by 1 shadows; expected at least 2"):
        iam(target, original, shadows[:1], EVERY[:1], variance="example")
    with pytest.raises(ExpungeError, match="2 steps"):
        iam(target, original, shadows, EVERY, steps=1)
    with pytest.raises(ExpungeError, match="'example' or 'global'"):
        iam(target, original, shadows, EVERY, variance="none")  # type: ignore[arg-type]
