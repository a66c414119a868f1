"""KLoM: against NumPy's histogram, the fault of the released code, the cap, the noise floor."""

from __future__ import annotations

import naive_attacks
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from expunge.errors import BadEvidence
from expunge.metrics.attacks.klom import klom, klom_floor

Floats = NDArray[np.float64]


def normal(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).normal(size=shape)


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.sampled_from([3, 21, 10**6]))
def test_klom_is_its_definition(seed: int, models: int, kinds: int) -> None:
    """Integers put margins on the very edges of bins."""
    rng = np.random.default_rng(seed)
    unlearned = rng.integers(0, kinds, size=(models, 3)) / 7 - 20
    oracle = rng.integers(0, kinds, size=(models + 1, 3)) / 7 - 20
    slow = [naive_attacks.klom(unlearned[:, i], oracle[:, i]) for i in range(3)]
    assert klom(unlearned, oracle) == pytest.approx(slow, abs=1e-12)


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1))
def test_margins_on_and_just_below_the_edges_are_in_their_bins(seed: int) -> None:
    low, high = np.sort(np.random.default_rng(seed).normal(size=2) * 30)
    edges = np.linspace(low, high, 21)
    oracle = np.concatenate([edges, edges[5:6]])
    unlearned = np.concatenate([[low], np.nextafter(edges[1:], -np.inf), [high]])
    found = klom(unlearned[:, None], oracle[:, None])
    assert found == pytest.approx([naive_attacks.klom(unlearned, oracle)])


def test_the_largest_margin_is_in_the_last_bin() -> None:
    """compute_binned_KL_div of RoyRin/data-unlearning-bench @ eb261f9 counts 3 of 4 values."""
    oracle = np.array([0.0, 1, 2, 3, 10] * 2)
    unlearned = np.array([0.0, 1, 2, 3, 3] * 2)
    faulty = naive_attacks.released_klom(unlearned, oracle)
    assert faulty == pytest.approx(0.049856756174223374)
    # p = 1/5 in each; q = 1/5, 1/5, 1/5, 2/5 and the floor.
    by_hand = 0.2 * np.log(0.5) + 0.2 * np.log(0.2 / 1e-5) + np.log(1 + 1e-5)
    assert klom(unlearned[:, None], oracle[:, None]) == pytest.approx([by_hand])
    assert by_hand == pytest.approx(1.842, abs=1e-3)


def test_klom_against_the_authors() -> None:
    """The same function on 30 and on 5,000 models: it is off by what it leaves out."""
    theirs = [1.9361946625746012, 2.9423905405256408, 1.6708871592317032]
    unlearned, oracle = normal(0, 30, 6) + 0.5, normal(1, 30, 6)
    released = [naive_attacks.released_klom(unlearned[:, i], oracle[:, i]) for i in range(3)]
    assert released == pytest.approx(theirs)
    ours = klom(unlearned, oracle)[:3]
    assert ours == pytest.approx([1.94980040, 2.96612163, 1.69913845])
    many = klom(normal(0, 5000, 3) + 0.5, normal(1, 5000, 3))
    assert many == pytest.approx([0.1284906, 0.1435286, 0.1472053], abs=6e-4)


def test_the_direction_is_oracle_from_unlearned() -> None:
    """A bin that only the oracle reaches costs; one that only the unlearned reach does not."""
    narrow, wide = normal(0, 400, 1) * 0.2, normal(1, 400, 1)
    assert klom(narrow, wide)[0] > 2 * klom(wide, narrow)[0]


def test_the_cap() -> None:
    apart = klom(normal(0, 10, 2), normal(1, 10, 2) + 50)
    assert apart == pytest.approx(np.log((1 + 1e-5) / 1e-5), abs=2e-4)
    assert apart.max() < 11.52
    # Cut to [-100, 100], all are one margin.
    assert klom(normal(0, 10, 2) + 200, normal(1, 10, 2) + 300).tolist() == [0.0, 0.0]


def test_equal_groups_are_at_0_and_equal_truths_are_not() -> None:
    margins = normal(0, 100, 50)
    assert klom(margins, margins) == pytest.approx(0, abs=1e-14)
    others = normal(1, 100, 50)
    assert 0.2 < klom(others, margins).mean() < 0.6
    floor = klom_floor(margins, np.random.default_rng(0))
    assert floor.shape == (50,)
    assert klom(others, margins).mean() < floor.mean() < klom(others + 1.5, margins).mean()


def test_klom_order_and_shift() -> None:
    unlearned, oracle = normal(0, 20, 5), normal(1, 30, 5) + 1
    rng = np.random.default_rng(2)
    found = klom(unlearned, oracle)
    assert klom(unlearned[rng.permutation(20)], oracle[rng.permutation(30)]) == pytest.approx(found)
    assert klom(unlearned[:, ::-1], oracle[:, ::-1]) == pytest.approx(found[::-1])
    # Powers of two keep the margins exact, so that no bin changes.
    assert klom(4 * unlearned, 4 * oracle) == pytest.approx(found)


def test_bad_margins() -> None:
    good = normal(0, 4, 3)
    for unlearned, oracle in (
        (good, good[:, :2]),
        (good[0], good[0]),
        (good[:, :0], good[:, :0]),
        (good[:1], good),
        (good, good[:1]),
        (good * np.nan, good),
        (good, good + np.inf),
    ):
        with pytest.raises(BadEvidence):
            klom(unlearned, oracle)
    with pytest.raises(BadEvidence, match="at least 4 oracles"):
        klom_floor(good[:3], np.random.default_rng(0))
    with pytest.raises(BadEvidence, match="1 split"):
        klom_floor(good, np.random.default_rng(0), splits=0)
