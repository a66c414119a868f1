"""Canaries, strata of memorisation, and the worst case."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from expunge.core.batch import Indexed, Subset, Tensors, all_targets
from expunge.errors import BadData, BadEvidence, BadSentence, ExpungeError, Unsupported
from expunge.experiments.experiment import parse
from expunge.metrics.attacks.signals import influence, memorisation
from expunge.problems.forget_sets import ForgetSet, Mislabelled, RandomShare
from expunge.problems.images.canaries import (
    Canaries,
    Memorised,
    PatternCanaries,
    WorstCase,
    greedy,
    patterns,
    planted,
    stored,
)

LOOSE = settings(deadline=None, derandomize=True, max_examples=40)
N = 60


def data() -> Tensors:
    return tiny.pictures(N)


@pytest.mark.parametrize("word", [Canaries(7), PatternCanaries(7)])
def test_canaries_are_drawn_once_a_seed(word: Canaries | PatternCanaries) -> None:
    found = [word(data(), data().targets, seed=seed) for seed in (3, 3, 4)]
    assert len(found[0].indices) == 7
    assert torch.equal(found[0].indices, found[1].indices)
    assert torch.equal(found[0].targets, found[1].targets)
    assert not torch.equal(found[0].indices, found[2].indices)
    assert parse(repr(word)) == word
    others = torch.ones(N, dtype=torch.bool)
    others[found[0].indices] = False
    assert torch.equal(found[0].targets[others], data().targets[others])


def test_every_canary_has_a_wrong_label_and_every_wrong_label_is_as_likely() -> None:
    targets = torch.arange(3000) % 3 * 2  # the classes 0, 2 and 4
    many = Tensors(torch.zeros(3000, 1, 2, 2), targets)
    found = Canaries(2000)(many, targets, seed=0)
    given_, true = found.targets[found.indices], targets[found.indices]
    assert (given_ != true).all()
    for label in (0, 2, 4):
        counts = given_[true == label].bincount(minlength=5)
        assert counts[label] == counts[1] == counts[3] == 0
        expected = len(given_[true == label]) / 2
        assert counts[counts > 0].tolist() == pytest.approx([expected] * 2, rel=0.2)


def test_patterns_stand_in_the_place_of_pictures() -> None:
    chosen = PatternCanaries(7)(data(), data().targets, seed=0)
    assert chosen.images is not None
    train = planted(data(), chosen)
    assert isinstance(train, Tensors)
    assert torch.equal(train.inputs[chosen.indices], chosen.images)
    untouched = torch.ones(N, dtype=torch.bool)
    untouched[chosen.indices] = False
    assert torch.equal(train.inputs[untouched], data().inputs[untouched])
    assert torch.equal(train.targets, chosen.targets)
    assert not torch.equal(train.inputs, data().inputs)  # the pool's own stay as they were


def test_planting_into_a_part_of_a_larger_set() -> None:
    part = Subset(data(), torch.tensor([50, 3, 9, 20]))
    pictures = torch.full((2, 1, 8, 8), 0.5)
    chosen = ForgetSet(torch.tensor([0, 2]), torch.tensor([1, 1, 1, 1]), pictures)
    train = planted(part, chosen)
    batch = train.batch(torch.arange(4))
    assert batch.targets.tolist() == [1, 1, 1, 1]
    assert (batch.inputs[[0, 2]] == 0.5).all()
    assert torch.equal(batch.inputs[[1, 3]], data().inputs[[3, 20]])


@pytest.mark.parametrize("chooser", [RandomShare(0.1), Mislabelled(3, 5, 0.5), Canaries(5)])
def test_planting_without_pictures_is_relabelling(chooser: Callable[..., ForgetSet]) -> None:
    chosen = chooser(data(), data().targets, seed=0)
    train = planted(data(), chosen)
    assert torch.equal(all_targets(train), chosen.targets)
    assert isinstance(train, Tensors)
    assert train.inputs is data().inputs


def test_patterns_are_of_the_kind_that_is_stored() -> None:
    draws = torch.Generator().manual_seed(0)
    whole = patterns(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), 500, draws)
    assert (whole.dtype, whole.shape) == (torch.uint8, (500, 3, 4, 4))
    assert (int(whole.min()), int(whole.max())) == (0, 255)
    real = patterns(torch.tensor([[[[-1.0, 2.0]]]]), 2000, draws)
    assert -1 <= real.min() < -0.99 < 1.99 < real.max() <= 2
    assert real.mean().item() == pytest.approx(0.5, abs=0.05)


class Files(torch.utils.data.Dataset):  # type: ignore[type-arg]
    targets = (0, 1, 0, 1)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return torch.zeros(1, 8, 8), self.targets[row]


def test_canaries_that_cannot_be() -> None:
    for make in (Canaries, PatternCanaries):
        with pytest.raises(BadSentence):
            make(0)
        with pytest.raises(BadData, match="all 60 rows"):
            make(N)(data(), data().targets, seed=0)
    with pytest.raises(BadData, match="at least two classes"):
        Canaries(2)(data(), torch.zeros(N).long(), seed=0)
    with pytest.raises(Unsupported, match="use Canaries"):
        stored(Indexed(Files()))


def test_memorisation_by_hand() -> None:
    signal = np.array([[1, 0.2], [0, 0.4], [1, 0.6], [0, 0.8]], dtype=float)
    inside = np.array([[1, 0], [0, 1], [1, 0], [0, 1]], dtype=bool)
    found = memorisation(signal, inside)
    assert found.score == pytest.approx([1.0, 0.2])
    # example 1: 0.2 and 0.6 against 0.4 and 0.8, each with a variance of 0.08 over two models
    assert found.error[1] == pytest.approx(math.sqrt(0.08 / 2 + 0.08 / 2))
    assert found.error[0] == 0


@LOOSE
@given(st.integers(0, 10_000))
def test_the_order_of_models_and_examples_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    signal, inside = rng.random((12, 5)), np.array([rng.permutation(12) < 6 for _ in range(5)]).T
    models, examples = rng.permutation(12), rng.permutation(5)
    first = memorisation(signal, inside)
    other = memorisation(signal[models][:, examples], inside[models][:, examples])
    assert other.score == pytest.approx(first.score[examples])
    assert other.error == pytest.approx(first.error[examples])
    pairs = influence(signal, inside)
    turned = influence(signal[models][:, examples], inside[models][:, examples])
    assert turned == pytest.approx(pairs[np.ix_(examples, examples)])
    assert np.diag(pairs) == pytest.approx(first.score)


def test_scores_of_noise_are_as_large_as_their_errors_say() -> None:
    rng = np.random.default_rng(0)
    inside = np.array([rng.permutation(64) < 32 for _ in range(2000)]).T
    found = memorisation(rng.random((64, 2000)), inside)
    assert np.mean(np.abs(found.score) > 1.96 * found.error) == pytest.approx(0.055, abs=0.02)
    truth = memorisation(rng.normal(size=(64, 2000)) + 0.3 * inside, inside)
    assert truth.score.mean() == pytest.approx(0.3, abs=0.02)


def test_influence_by_hand() -> None:
    rng = np.random.default_rng(0)
    inside = np.array([rng.permutation(200) < 100 for _ in range(3)]).T
    # example 1 is known where 0 was there, and 2 is noise
    signal = np.stack([0.9 * inside[:, 0], 0.5 * inside[:, 0], rng.random(200)], axis=1)
    signal += 0.01 * rng.normal(size=signal.shape)
    found = influence(signal, inside)
    assert found[0, 0] == pytest.approx(0.9, abs=0.01)
    assert found[0, 1] == pytest.approx(0.5, abs=0.01)
    assert abs(found[0, 2]) < 0.1
    raw = influence(signal, inside, errors=0.0)
    off = ~np.eye(3, dtype=bool)
    assert (np.abs(found[off]) <= np.abs(raw[off])).all()
    assert np.isclose(found[off], 0).any()
    with pytest.raises(ExpungeError):
        influence(signal, inside, errors=-1.0)


def test_shadows_that_cannot_tell() -> None:
    inside = np.array([[1, 1], [0, 1], [1, 0], [0, 1]], dtype=bool)
    with pytest.raises(BadEvidence, match="Example 1 is outside of 1 models"):
        memorisation(np.random.default_rng(0).random((4, 2)), inside)
    with pytest.raises(BadEvidence, match="expected bool"):
        memorisation(np.zeros((4, 2)), np.zeros((4, 3), dtype=bool))
    with pytest.raises(BadEvidence, match="NaN"):
        memorisation(np.full((4, 2), np.nan), inside)


SCORES = np.linspace(1, 0, N)  # row 0 is the most memorised


@pytest.mark.parametrize(
    ("stratum", "rows"), [("high", range(9)), ("mid", range(25, 34)), ("low", range(51, 60))]
)
def test_strata_by_hand(stratum: str, rows: range) -> None:
    word = Memorised(stratum, 9)
    found = word(data(), data().targets, seed=0, scores=SCORES)
    middle = {"mid": {r + 1 for r in rows}}.get(stratum, set(rows))
    assert set(found.indices.tolist()) in (set(rows), middle)
    assert torch.equal(found.targets, data().targets)
    assert parse(repr(word)) == word


def test_strata_of_one_seed_do_not_overlap_even_among_equal_scores() -> None:
    flat = np.zeros(N)
    found = [
        set(Memorised(s, 20)(data(), data().targets, seed=1, scores=flat).indices.tolist())
        for s in ("low", "mid", "high")
    ]
    assert set.union(*found) == set(range(N))
    other = Memorised("low", 20)(data(), data().targets, seed=2, scores=flat)
    assert set(other.indices.tolist()) != found[0]


def test_the_worst_case_finds_a_group_whose_members_stand_in_for_each_other() -> None:
    matrix = np.zeros((N, N))
    matrix[7, 7] = 0.5  # memorised alone
    matrix[np.ix_([1, 2, 3], [1, 2, 3])] = 0.3  # each alone 0.3, together 0.9 each
    assert greedy(matrix, 1) == [7]
    assert greedy(matrix, 4) == [7, 1, 2, 3]
    matrix[7, 7] = 0.2
    assert sorted(greedy(matrix, 3)) == [1, 2, 3]
    found = WorstCase(3)(data(), data().targets, seed=0, scores=matrix)
    assert found.indices.tolist() == [1, 2, 3]
    assert parse("WorstCase(3)") == WorstCase(3)


def test_each_greedy_step_takes_what_adds_most() -> None:
    matrix = np.random.default_rng(3).normal(size=(12, 12))
    taken: list[int] = []
    for row in greedy(matrix, 12):
        worth = {r: matrix[np.ix_([*taken, r], [*taken, r])].sum() for r in range(12)}
        left = {r: worth[r] for r in worth if r not in taken}
        assert worth[row] == pytest.approx(max(left.values()))
        taken.append(row)
    assert sorted(taken) == list(range(12))


def test_strata_that_cannot_be() -> None:
    for make in (lambda: Memorised("top", 3), lambda: Memorised("low", 0), lambda: WorstCase(0)):
        with pytest.raises(BadSentence):
            make()
    with pytest.raises(BadData, match="expected fewer"):
        Memorised("low", N)(data(), data().targets, seed=0, scores=SCORES)
    with pytest.raises(BadData, match=r"shape \(60,\)"):
        Memorised("low", 3)(data(), data().targets, seed=0, scores=SCORES[:5])
    with pytest.raises(BadData, match=r"shape \(60, 60\)"):
        WorstCase(3)(data(), data().targets, seed=0, scores=SCORES)
    with pytest.raises(BadData, match="finite"):
        Memorised("low", 3)(data(), data().targets, seed=0, scores=SCORES * np.nan)
