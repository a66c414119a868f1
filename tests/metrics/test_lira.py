"""U-LiRA and RULI: against refits one by one, what leaves scores as they are, and refusals."""

from __future__ import annotations

import warnings

import naive_attacks
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit

from expunge.errors import BadEvidence, ExpungeError
from expunge.metrics.attacks.lira import lira, u_lira
from expunge.metrics.attacks.ruli import ruli_efficacy, ruli_privacy

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

ATTACKS = {
    "example": (u_lira, naive_attacks.u_lira),
    "global": (
        lambda *arrays: u_lira(*arrays, variance="global"),
        naive_attacks.global_u_lira,
    ),
    "ruli": (lambda *arrays: expit(ruli_privacy(*arrays)), naive_attacks.ruli),
}


def world(seed: int, models: int = 12, examples: int = 4) -> tuple[Floats, Flags, Flags]:
    """A third inside, a third outside, the rest in neither; members are a bit higher."""
    rng = np.random.default_rng(seed)
    role = np.stack([rng.permutation(models) % 3 for _ in range(examples)], axis=1)
    signal = rng.normal(size=(models, examples)) + 3 * rng.normal(size=examples)
    return signal + (role == 0), role == 0, role == 1


@pytest.mark.parametrize("name", ATTACKS)
@settings(deadline=None, derandomize=True, max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_scores_are_those_of_refits(name: str, seed: int) -> None:
    fast, slow = ATTACKS[name]
    arrays = world(seed)
    assert fast(*arrays) == pytest.approx(slow(*arrays), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", ATTACKS)
def test_order_of_models_and_examples_does_not_matter(name: str) -> None:
    fast, _ = ATTACKS[name]
    arrays = world(7)
    rng = np.random.default_rng(1)
    rows, columns = rng.permutation(12), rng.permutation(4)
    mixed = fast(*(one[rows][:, columns] for one in arrays))
    assert mixed == pytest.approx(fast(*arrays)[rows][:, columns])


@pytest.mark.parametrize("name", ATTACKS)
def test_a_constant_on_one_example_does_not_matter(name: str) -> None:
    fast, _ = ATTACKS[name]
    signal, inside, outside = world(3)
    moved = signal + np.array([100.0, -100.0, 0.0, 5.0])
    assert fast(moved, inside, outside) == pytest.approx(fast(signal, inside, outside), rel=1e-7)


@pytest.mark.parametrize("name", ATTACKS)
def test_inside_and_outside_exchanged_turn_the_sign(name: str) -> None:
    fast, _ = ATTACKS[name]
    signal, inside, outside = world(5)
    one, other = fast(signal, inside, outside), fast(signal, outside, inside)
    assert other == pytest.approx(1 - one if name == "ruli" else -one)


@pytest.mark.parametrize("name", ATTACKS)
def test_the_target_is_not_in_its_own_fit(name: str) -> None:
    """Put far away, a model is judged by the others; in its own fit it would widen that."""
    fast, slow = ATTACKS[name]
    signal, inside, outside = world(11)
    signal[np.flatnonzero(inside[:, 0])[0], 0] += 4
    assert fast(signal, inside, outside) == pytest.approx(slow(signal, inside, outside))


def test_lira_is_u_lira_of_members_and_others() -> None:
    signal, inside, _ = world(2)
    assert (lira(signal, inside) == u_lira(signal, inside, ~inside)).all()
    shared = u_lira(signal, inside, ~inside, variance="global")
    assert (lira(signal, inside, variance="global") == shared).all()


def test_lira_by_hand() -> None:
    # Rows 0 to 2 inside at 0, 2, 4; rows 3 to 5 outside at -1, 0, 1; the last is in no group.
    signal = np.array([[0.0], [2.0], [4.0], [-1.0], [0.0], [1.0], [2.0]])
    inside, outside = np.zeros((7, 1), dtype=bool), np.zeros((7, 1), dtype=bool)
    inside[:3], outside[3:6] = True, True
    found = u_lira(signal, inside, outside)
    # Mean 2, variance 4 against mean 0, variance 1: 0 - ln(4)/2 + 4/2.
    assert found[6, 0] == pytest.approx(2 - np.log(2))
    # The model at 4 is judged by 0 and 2: mean 1, variance 2: -9/4 - ln(2)/2 + 16/2.
    assert found[2, 0] == pytest.approx(8 - 9 / 4 - np.log(2) / 2)


def test_the_floor_keeps_scores_finite() -> None:
    """xcadet/deepunlearn @ 6830ff6 gives NaN here: correctness that is always 1, and spread 0."""
    signal = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0], [1.0, 0.5], [1.0, 1.5], [1.0, 3.0]])
    inside = np.zeros((6, 2), dtype=bool)
    inside[:3] = True
    found = u_lira(signal, inside, ~inside)
    assert np.isfinite(found).all()
    assert (found[:, 0] == 0).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        faulty = naive_attacks.released_membership(1.0, signal[:3, 0], signal[3:, 0])
    assert np.isnan(faulty)


def test_scores_are_not_those_of_fits_with_the_target() -> None:
    """predicted_membership_probability of xcadet/deepunlearn @ 6830ff6, on confidences."""
    inner = np.random.default_rng(11).normal(size=6) + 1
    outer = np.random.default_rng(12).normal(size=6)
    theirs = [naive_attacks.released_membership(z, inner, outer) for z in inner[:3]]
    assert theirs == pytest.approx([0.5726521155304881, 0.7775265579650323, 0.7656493405512075])
    signal = np.concatenate([inner, outer])[:, None]
    inside = np.arange(12)[:, None] < 6
    ours = expit(u_lira(signal, inside, ~inside))[:3, 0]
    assert ours == pytest.approx([0.5389288041548282, 0.5839764435376065, 0.6456037287914302])
    # Judged by a fit that holds it, each looks more like a member than it is.
    assert (ours < theirs).all()


def test_ruli_against_the_authors_formula() -> None:
    """KernelDensity() of scikit-learn, as in datasec-lab/Ruli @ 9541122; at 60 theirs is 0 / 0."""
    inner = np.random.default_rng(11).normal(size=6) + 1
    outer = np.random.default_rng(12).normal(size=6)
    signal = np.concatenate([inner, outer, [0.3, 60.0]])[:, None]
    inside, outside = np.zeros((14, 1), dtype=bool), np.zeros((14, 1), dtype=bool)
    inside[:6], outside[6:12] = True, True
    found = ruli_privacy(signal, inside, outside)
    assert expit(found[12, 0]) == pytest.approx(0.47909317918447436)
    assert found[13, 0] == pytest.approx(42.98470593176876)


def test_the_efficacy_game_is_the_privacy_game_against_other_models() -> None:
    signal, inside, _ = world(4)
    retrained = np.random.default_rng(9).normal(size=(5, 4))
    unseen = np.ones((5, 4), dtype=bool)
    mine, theirs = ruli_efficacy(signal, inside, retrained, unseen)
    assert mine.shape == (12, 4)
    assert theirs.shape == (5, 4)
    no, yes = np.zeros((12, 4), dtype=bool), np.zeros((5, 4), dtype=bool)
    both = np.concatenate([signal, retrained])
    whole = naive_attacks.ruli(both, np.concatenate([inside, yes]), np.concatenate([no, unseen]))
    assert expit(np.concatenate([mine, theirs])) == pytest.approx(whole)
    with pytest.raises(BadEvidence, match="same examples"):
        ruli_efficacy(signal, inside, retrained[:, :3], unseen[:, :3])


def few(inside: int, outside: int) -> tuple[Floats, Flags, Flags]:
    signal = np.random.default_rng(0).normal(size=(10, 2))
    first, second = np.zeros((10, 2), dtype=bool), np.zeros((10, 2), dtype=bool)
    first[:5], second[5:] = True, True
    first[inside:5, 1], second[5 + outside :, 1] = False, False
    return signal, first, second


@pytest.mark.parametrize(
    ("attack", "inside", "outside", "words"),
    [
        ("example", 2, 5, "Example 1 is inside of 2 models.*give 3 or more .1 of 2"),
        ("example", 5, 2, "outside of 2 models.*give 3 or more"),
        ("global", 1, 5, "inside of 1 models.*give 2 or more"),
        ("ruli", 5, 1, "outside of 1 models.*give 2 or more"),
        ("ruli", 0, 5, "inside of 0 models"),
    ],
)
def test_too_few_models_are_refused_with_the_number(
    attack: str, inside: int, outside: int, words: str
) -> None:
    with pytest.raises(BadEvidence, match=words):
        ATTACKS[attack][0](*few(inside, outside))


def test_a_shared_variance_needs_something_to_share() -> None:
    signal = np.array([[0.0], [1.0], [2.0], [3.0]])
    inside = np.array([[True], [True], [False], [False]])
    with pytest.raises(BadEvidence, match="no spread"):
        u_lira(signal, inside, ~inside, variance="global")


@pytest.mark.parametrize("name", ATTACKS)
def test_bad_arrays(name: str) -> None:
    fast, _ = ATTACKS[name]
    signal, inside, outside = world(0)
    for broken in (
        (np.full_like(signal, 2.0), inside, outside),
        (signal[:1], inside[:1], outside[:1]),
        (signal, inside[:5], outside),
        (signal, inside.astype(int), outside),
        (signal, inside | outside, outside),
        (np.where(inside, np.inf, signal), inside, outside),
        (np.where(inside, np.nan, signal), inside, outside),
        (signal[0], inside[0], outside[0]),
        (signal[:, :0], inside[:, :0], outside[:, :0]),
    ):
        with pytest.raises(BadEvidence):
            fast(*broken)


def test_bad_settings() -> None:
    arrays = world(0)
    with pytest.raises(ExpungeError, match="'example' or 'global'"):
        u_lira(*arrays, variance="shared")  # type: ignore[arg-type]
    with pytest.raises(ExpungeError, match="floor"):
        u_lira(*arrays, floor=0.0)
    with pytest.raises(ExpungeError, match="bandwidth"):
        ruli_privacy(*arrays, bandwidth=0.0)
