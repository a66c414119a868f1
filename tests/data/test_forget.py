from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.core.batch import Data, Tensors, check_indices
from expunge.errors import BadData, BadSentence
from expunge.problems.forget_sets import (
    Chooser,
    CoherentGroup,
    Given,
    Mislabelled,
    PixelPCA,
    RandomShare,
    WholeClass,
)
from expunge.problems.images.loaders import digits

N = 60
TARGETS = torch.arange(N) % 6
CHOOSERS = [
    RandomShare(0.1),
    WholeClass(3),
    Given((5, 2)),
    CoherentGroup(size=7, example=4, features=PixelPCA(components=2)),
    Mislabelled(1, 4, 0.5),
]


def toys() -> Tensors:
    """Sixty 2x2 images; image i is near image i + 1."""
    return Tensors(torch.arange(N).float().reshape(N, 1, 1, 1).expand(N, 1, 2, 2) / N, TARGETS)


@dataclass(frozen=True)
class Points:
    """Feature space given by hand."""

    values: tuple[float, ...]

    def __call__(self, train: Data) -> torch.Tensor:
        return torch.tensor(self.values)[:, None]


@pytest.mark.parametrize("chooser", CHOOSERS, ids=repr)
def test_rows_are_sorted_unique_in_range_and_the_same_for_a_seed(chooser: Chooser) -> None:
    found = chooser(toys(), TARGETS, seed=3)
    rows = found.indices.tolist()
    assert found.indices.dtype == torch.int64
    assert rows == sorted(set(rows))
    assert 0 <= rows[0] <= rows[-1] < N
    assert torch.equal(found.indices, chooser(toys(), TARGETS, seed=3).indices)
    assert TARGETS.tolist() == [i % 6 for i in range(N)]


@pytest.mark.parametrize(
    ("chooser", "sentence"),
    list(
        zip(
            CHOOSERS,
            [
                "RandomShare(share=0.1)",
                "WholeClass(label=3)",
                "Given(indices=(5, 2))",
                "CoherentGroup(size=7, example=4, features=PixelPCA(components=2))",
                "Mislabelled(a=1, b=4, share=0.5)",
            ],
            strict=True,
        )
    ),
)
def test_the_repr_is_a_sentence_that_says_it_all(chooser: Chooser, sentence: str) -> None:
    assert repr(chooser) == sentence
    assert hash(chooser) == hash(replace(chooser))  # type: ignore[type-var]


@pytest.mark.parametrize("chooser", CHOOSERS[:4], ids=repr)
def test_only_mislabelled_changes_targets(chooser: Chooser) -> None:
    assert torch.equal(chooser(toys(), TARGETS, seed=0).targets, TARGETS)


def test_random_share_draws_the_share_and_heeds_the_seed() -> None:
    sets = [RandomShare(0.25)(toys(), TARGETS, seed=seed).indices for seed in range(40)]
    assert {len(rows) for rows in sets} == {15}
    assert len({tuple(rows.tolist()) for rows in sets}) == 40
    # Over 40 draws of a quarter each row is drawn 10 times, give or take five deviations (2.7).
    counts = torch.cat(sets).bincount(minlength=N)
    assert counts.min() >= 1
    assert counts.max() <= 24


def test_a_share_that_rounds_to_nothing_or_everything_is_refused() -> None:
    with pytest.raises(BadData, match="empty"):
        RandomShare(0.001)(toys(), TARGETS, seed=0)
    with pytest.raises(BadData, match="all 60 rows"):
        RandomShare(0.999)(toys(), TARGETS, seed=0)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 2.0, float("nan")])
def test_a_share_outside_0_to_1_is_refused(share: float) -> None:
    with pytest.raises(BadSentence, match=f"share={share}|a finite number, got {share}"):
        RandomShare(share)


def test_whole_class_takes_all_of_it() -> None:
    found = WholeClass(3)(toys(), TARGETS, seed=0).indices
    assert found.tolist() == list(range(3, N, 6))
    with pytest.raises(BadData, match="class 9; the classes are 0, 1, 2, 3, 4, 5"):
        WholeClass(9)(toys(), TARGETS, seed=0)


def test_a_class_that_is_the_whole_training_set_is_refused() -> None:
    with pytest.raises(BadData, match="at least one to retain"):
        WholeClass(0)(toys(), torch.zeros(N, dtype=torch.int64), seed=0)


def test_coherent_group_by_hand() -> None:
    # Distances from row 2 (at 5.0): 5, 1, 0, 0, 2, 1; rows 1 and 5 tie, and the lower wins.
    train = Tensors(torch.zeros(6, 1, 1, 1), torch.zeros(6, dtype=torch.int64))
    place = Points((0.0, 4.0, 5.0, 5.0, 3.0, 6.0))

    def group(size: int, example: int) -> list[int]:
        return CoherentGroup(size, example, place)(train, train.targets, seed=0).indices.tolist()

    assert group(1, 2) == [2]
    assert group(1, 3) == [3]
    assert group(2, 2) == [2, 3]
    assert group(3, 2) == [1, 2, 3]
    assert group(4, 2) == [1, 2, 3, 5]


def test_coherent_group_of_digits_looks_like_its_example() -> None:
    train = digits().train
    assert isinstance(train, Tensors)
    found = CoherentGroup(50, example=0)(train, train.targets, seed=0).indices
    assert (train.targets[found] == train.targets[0]).float().mean() >= 0.9
    assert 0 in found.tolist()


def test_pixel_pca_keeps_distances_and_shrinks_large_images() -> None:
    inputs = torch.rand(12, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    train = Tensors(inputs, torch.zeros(12, dtype=torch.int64))
    points = PixelPCA(components=9)(train)
    expected = torch.cdist(inputs.flatten(1), inputs.flatten(1))
    assert torch.allclose(torch.cdist(points, points), expected, atol=1e-5)
    large = Tensors(torch.rand(3, 3, 40, 50), torch.zeros(3, dtype=torch.int64))
    assert PixelPCA(components=32)(large).shape == (3, 3)


def test_coherent_group_refuses_sizes_and_examples_that_do_not_fit() -> None:
    with pytest.raises(BadSentence, match="size=0"):
        CoherentGroup(0)
    with pytest.raises(BadData, match="size=60, but the training set has 60"):
        CoherentGroup(60)(toys(), TARGETS, seed=0)
    with pytest.raises(BadData, match="row 60"):
        CoherentGroup(5, example=60)(toys(), TARGETS, seed=0)


def test_mislabelled_swaps_a_share_of_two_classes() -> None:
    found = Mislabelled(1, 4, 0.3)(toys(), TARGETS, seed=2)
    forgotten = torch.zeros(N, dtype=torch.bool)
    forgotten[found.indices] = True
    assert TARGETS[found.indices].bincount(minlength=6).tolist() == [0, 3, 0, 0, 3, 0]
    assert torch.equal(found.targets[~forgotten], TARGETS[~forgotten])
    assert torch.equal(found.targets[forgotten], 5 - TARGETS[forgotten])
    assert TARGETS.tolist() == [i % 6 for i in range(N)]


def test_mislabelled_draws_by_the_seed_and_may_take_all_of_both() -> None:
    sets = {tuple(Mislabelled(1, 4, 0.5)(toys(), TARGETS, seed=s).indices.tolist()) for s in (0, 1)}
    assert len(sets) == 2
    assert len(Mislabelled(1, 4, 1.0)(toys(), TARGETS, seed=0).indices) == 20


def test_mislabelled_refuses_bad_classes_and_shares() -> None:
    with pytest.raises(BadSentence, match="class 2 twice"):
        Mislabelled(2, 2, 0.5)
    with pytest.raises(BadSentence, match=r"share=1\.1"):
        Mislabelled(1, 2, 1.1)
    with pytest.raises(BadData, match="class 7"):
        Mislabelled(1, 7, 0.5)(toys(), TARGETS, seed=0)


@pytest.mark.parametrize(
    ("indices", "complaint"),
    [
        ([], "empty"),
        (torch.zeros(0), "empty"),
        ([1, 2, 1], "row 1 more than once"),
        ([0, 10], "row 10, but the training set has rows 0 to 9"),
        ([-1], "row -1"),
        ([2**70], "object values"),
        (np.array([2**64 - 1], dtype=np.uint64), "row 18446744073709551615"),
        ([1.0, 2.0], "float64 values"),
        (torch.tensor([1.0]), "float64 values"),
        (["1"], "<U1 values"),
        ([None], "object values"),
        (torch.tensor([True, False]), "mask of booleans"),
        ([[1, 2]], r"shape \(1, 2\)"),
        (3, r"shape \(\)"),
        ([[1], [2, 3]], "ragged"),
        (range(10), "all 10 rows"),
    ],
)
def test_bad_indices_are_refused_with_the_reason(indices: Any, complaint: str) -> None:
    with pytest.raises(BadData, match=complaint):
        check_indices(indices, 10)


@given(st.sets(st.integers(0, 49), min_size=1, max_size=49), st.randoms(use_true_random=False))
@settings(deadline=None, derandomize=True, max_examples=50)
def test_good_indices_come_back_sorted_whatever_they_came_in(rows: set[int], random: Any) -> None:
    mixed = random.sample(sorted(rows), len(rows))
    for given_as in (mixed, tuple(mixed), np.array(mixed), torch.tensor(mixed)):
        found = check_indices(given_as, 50)
        assert found.dtype == torch.int64
        assert found.tolist() == sorted(rows)
