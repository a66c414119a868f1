"""The challenge's score against its slow twin, known values, invariances and mended faults."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from naive import double_family, exact_epsilon, quality, released_epsilon, single_family
from numpy.typing import NDArray

from expunge.core.evidence import Evidence
from expunge.errors import BadEvidence, ExpungeError
from expunge.metrics.challenge import thresholds as attacks
from expunge.metrics.challenge.quality import (
    RULES,
    ChallengeScore,
    ForgettingQuality,
    epsilons,
    forgetting_quality,
    score,
    signal,
)

Floats = NDArray[np.float64]
STEP = 4 / 399
QUIET = settings(deadline=None, derandomize=True, max_examples=40)


def normal(models: int, examples: int, seed: int = 0) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(models, examples)), rng.normal(size=(models, examples))


def ragged(values: st.SearchStrategy[float]) -> st.SearchStrategy[tuple[Floats, Floats]]:
    one = st.integers(2, 12).flatmap(lambda n: arrays.arrays(np.float64, n, elements=values))
    return st.tuples(one, one)


def shapes(models: int) -> list[tuple[Floats, Floats]]:
    """Pairs of samples of every kind that has a rule of its own."""
    rng = np.random.default_rng(models)
    found = []
    for scale in (0.003, 0.05, 1.0, 7.0):
        a, b = rng.normal(size=(2, models)) * scale
        found += [(a, b), (a + scale, b), (a, b - 3 * scale), (a * 0.3, b), (a, b * 0.02), (a, a)]
        found += [(a, b * 0.005), (a, b + 40 * scale), (a * 0 + 1, b), (a, b * 0 + a[0])]
        found += [(np.round(x / scale) * scale, np.round(y / scale) * scale) for x, y in [(a, b)]]
    flat = np.zeros(models)
    a, b = rng.integers(0, 9, size=(2, models)).astype(float)
    # Values on the lines of the grid, where only the last bit of an edge decides.
    found += [(a, b), (a * STEP, b * STEP), (a / 100, b / 100), (a / 3 + 0.1, b / 3 + 0.1)]
    found += [(flat, flat), (flat, flat + 1), (flat + 1e-9, flat)]
    return found


@pytest.mark.parametrize("models", [5, 16])
def test_released_is_the_slow_loop(models: int) -> None:
    for mine, theirs in shapes(models):
        found = epsilons(mine[:, None], theirs[:, None])[0]
        assert found == pytest.approx(released_epsilon(mine, theirs), abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("models", [4, 40, 256])
def test_released_is_the_slow_loop_with_many_models(models: int) -> None:
    for mine, theirs in shapes(models):
        found = epsilons(mine[:, None], theirs[:, None])[0]
        assert found == pytest.approx(released_epsilon(mine, theirs), abs=1e-6)


@QUIET
@given(ragged(st.floats(-3, 3) | st.integers(-300, 300).map(lambda n: n * STEP)))
def test_released_is_the_slow_loop_on_anything(pair: tuple[Floats, Floats]) -> None:
    mine, theirs = pair
    found = epsilons(mine[:, None], theirs[:, None])[0]
    assert found == pytest.approx(released_epsilon(mine, theirs), abs=1e-6)


@QUIET
@given(ragged(st.floats(-3, 3) | st.integers(-3, 3).map(float)))
def test_exact_is_the_slow_loop_on_anything(pair: tuple[Floats, Floats]) -> None:
    mine, theirs = pair
    found = epsilons(mine[:, None], theirs[:, None], rule="exact")[0]
    assert found == pytest.approx(exact_epsilon(mine, theirs), abs=1e-6)


def test_exact_sees_what_lies_beyond_many_values() -> None:
    # 136 alternating values, then ten of one side and ten of the other, then alternating again:
    # a zero, a one and the ten zeros make an interval with rates of 11/90 and 1/90.
    kind = np.array([0, 1] * 68 + [0] * 10 + [1] * 10 + [0, 1] * 12)
    place = np.arange(180.0)
    found = epsilons(place[kind == 0][:, None], place[kind == 1][:, None], rule="exact", delta=0.0)
    assert found == pytest.approx([np.log(11)])


def test_both_numbers_of_right_edges_occur() -> None:
    # Rounding makes 400 or 401 of them; the twin is only a test if both kinds are in it.
    counts = set()
    for mine, theirs in shapes(16):
        inner = mine if np.ptp(mine) < np.ptp(theirs) else theirs
        low, high = inner.min() + np.ptp(inner) - 2.0, inner.max() + 2.0
        counts.add(int(np.ceil((high - low) * 100)))
    assert counts == {400, 401}


@pytest.mark.parametrize("seed", range(30))
def test_intervals_reach_just_what_the_grid_reaches(seed: int) -> None:
    rng = np.random.default_rng(seed)
    inner = np.round(rng.normal(size=4) * 0.4, seed % 4 + 1)
    low, high, width = inner.min(), inner.max(), np.ptp(inner)
    first, last = low + width - 2.0, high + 2.0
    right = np.linspace(first, last, num=int(np.ceil((last - first) * 100)))
    left = np.array([np.linspace(r - width - 2.0, r - width + 2.0, num=400) for r in right])
    # The other sample lies on edges that the grid itself makes, to the last bit, and close by:
    # few values leave wide gaps, which only the outermost edges of a group can reach.
    near = np.concatenate([rng.choice(right, 2), rng.choice(left.ravel(), 2)])
    ends = rng.choice([left[0, 0], left[-1, 0], left[0, -1], left[-1, -1], right[0], right[-1]], 2)
    outer = np.concatenate([near, near[:3] + rng.choice([-1, 1], 3) * 1e-4, ends])
    (sample,) = attacks.samples(inner[:, None], outer[:, None])
    codes, values = sample.codes, sample.values
    cut = codes[np.searchsorted(values, right, "right")][:, None]
    reached = set((cut - codes[np.searchsorted(values, left)]).ravel().tolist())
    for code in range(1, codes[-1] + 1):
        only = np.zeros(codes[-1] + 1)
        only[code] = 1.0
        assert attacks.intervals(sample, low, high, only, 0.0) == float(code in reached)


@QUIET
@given(st.floats(-50, 50), st.floats(0.02, 50), st.integers(2, 500), st.integers(0, 2**32 - 1))
# Here start + 49 steps lies one bit beyond the end, which linspace sets by itself.
@example(0.1, 3.3, 50, 0)
def test_grid_hits_is_a_look_at_every_point(
    start: float, span: float, count: int, seed: int
) -> None:
    stop = start + span
    points = np.linspace(start, stop, num=count)
    rng = np.random.default_rng(seed)
    on = np.concatenate([points[[0, -1]], rng.choice(points, size=60)])
    low = np.concatenate([on, np.nextafter(on, -np.inf), np.nextafter(on, np.inf), [-np.inf]])
    high = np.nextafter(np.maximum(low, start - 1), np.inf)
    high[::3] = (low + rng.uniform(0, 2 * span / count, size=len(low)))[::3]
    found = attacks._grid_hits(low, high, start, stop, count)
    expected = [bool(((points > a) & (points <= b)).any()) for a, b in zip(low, high, strict=True)]
    assert found.tolist() == expected


def test_the_families_one_by_one() -> None:
    mine, theirs = normal(24, 6, seed=3)
    by_code = attacks.tables(24, 24, 1e-5)
    for sample in attacks.samples(mine, theirs):
        a, b = sample.unlearned, sample.retrained
        upper = int(np.median(b) > np.median(a))
        pos, neg = (b, a) if upper else (a, b)
        peaky = int(np.ptp(b) < np.ptp(a))
        inner = (a, b)[peaky]
        single = attacks.thresholds(sample, by_code[upper])
        double = attacks.intervals(sample, inner[0], inner[-1], by_code[peaky], -1.0)
        assert single == pytest.approx(single_family(pos, neg).max())
        assert double == pytest.approx(double_family(pos, neg).max())


@pytest.mark.parametrize(
    ("shift", "spread", "low", "high"),
    [(0.0, 1.0, 0.18, 0.20), (0.5, 1.0, 0.064, 0.084), (0.0, 0.5, 0.0, 0.01)],
)
def test_known_values_with_512_models(shift: float, spread: float, low: float, high: float) -> None:
    mine, theirs = normal(512, 250, seed=1)
    assert low <= forgetting_quality(mine * spread + shift, theirs) <= high


def test_single_family_alone_scores_twice_as_much() -> None:
    mine, theirs = normal(512, 2000, seed=1)
    found = []
    for sample in attacks.samples(mine, theirs):
        upper = int(np.median(sample.retrained) > np.median(sample.unlearned))
        by_code = attacks.tables(512, 512, 1e-5)[upper]
        found.append(max(attacks.thresholds(sample, by_code), 0.0))
    assert 0.37 <= quality(np.array(found), 512) <= 0.40


def test_largest_finite_epsilon() -> None:
    for one in attacks.tables(512, 512, 1e-5):
        assert one[np.isfinite(one)].max() == pytest.approx(np.log(511), abs=1e-4)


def test_table_by_hand() -> None:
    # Three unlearned, two retrained; unlearned positive: 2 of 3 found, 1 of 2 false.
    mine, theirs = attacks.tables(3, 2, 0.0)
    assert mine[2 * 3 + 1] == pytest.approx(max(np.log(0.5 / (1 / 3)), np.log((2 / 3) / 0.5)))
    assert theirs[1 * 3 + 1] == pytest.approx(max(np.log((2 / 3) / 0.5), np.log(0.5 / (1 / 3))))
    assert mine[3 * 3 + 0] == np.inf
    assert mine[2 * 3 + 0] == mine[3 * 3 + 1] == mine[0] == mine[-1] == attacks.DISCARDED
    # More false alarms than finds: no evidence, not evidence below zero.
    assert mine[1 * 3 + 1] == 0.0


@pytest.mark.parametrize("rule", RULES)
def test_constants(rule: str) -> None:
    spread, other = normal(64, 5)
    flat = np.zeros_like(spread)
    assert forgetting_quality(flat, other, rule=rule) == 0.0
    assert forgetting_quality(spread, flat + 0.1, rule=rule) == 0.0
    assert epsilons(flat, flat, rule=rule).tolist() == [0.0] * 5
    assert epsilons(flat, flat + 1, rule=rule).tolist() == [50.0] * 5


@pytest.mark.parametrize(
    ("mine", "theirs", "found"),
    [
        # Apart, but too close together for the grid: the first two values lie around the others.
        ([2e-4, -1e-4], [0.0, 1e-4], 50.0),
        # Every cut that the grid makes leaves exactly one error rate at zero.
        ([4e-4, 2e-4, 6e-4], [0.0, 6e-4, 0.0], 0.0),
    ],
)
def test_no_attack_survives(mine: list[float], theirs: list[float], found: float) -> None:
    first, second = np.array(mine), np.array(theirs)
    if np.median(second) > np.median(first):
        first, second = second, first
    assert len(single_family(first, second)) == len(double_family(first, second)) == 0
    assert epsilons(np.array(mine)[:, None], np.array(theirs)[:, None]) == [found]


def test_unequal_numbers_of_models() -> None:
    mine, theirs = normal(40, 4)
    found = epsilons(mine[:17], theirs)
    for at in range(4):
        assert found[at] == pytest.approx(released_epsilon(mine[:17, at], theirs[:, at]))


@QUIET
@given(ragged(st.floats(-30, 30, width=16)), st.integers(0, 2**32 - 1))
def test_exact_sees_ranks_alone(pair: tuple[Floats, Floats], seed: int) -> None:
    values, place = np.unique(np.concatenate(pair), return_inverse=True)
    steps = np.random.default_rng(seed).lognormal(sigma=2.0, size=len(values))
    moved = np.cumsum(steps)[place]
    first = len(pair[0])
    before = epsilons(pair[0][:, None], pair[1][:, None], rule="exact")
    after = epsilons(moved[:first, None], moved[first:, None], rule="exact")
    assert before == after


@QUIET
@given(ragged(st.floats(-3, 3) | st.integers(-3, 3).map(float)))
def test_exact_is_symmetric_and_stricter(pair: tuple[Floats, Floats]) -> None:
    mine, theirs = pair[0][:, None], pair[1][:, None]
    found = epsilons(mine, theirs, rule="exact")
    assert found == epsilons(theirs, mine, rule="exact")
    collapsed = min(np.ptp(mine), np.ptp(theirs)) < 0.01 * max(np.ptp(mine), np.ptp(theirs))
    assert collapsed or found >= epsilons(mine, theirs)


@pytest.mark.parametrize("rule", RULES)
def test_order_does_not_matter(rule: str) -> None:
    mine, theirs = normal(20, 15, seed=5)
    before = epsilons(mine, theirs, rule=rule)
    rng = np.random.default_rng(9)
    models, examples = rng.permutation(20), rng.permutation(15)
    assert (epsilons(mine[models], theirs[models[::-1]], rule=rule) == before).all()
    moved = epsilons(mine[:, examples], theirs[:, examples], rule=rule)
    assert (moved == before[examples]).all()
    assert len(set(before)) > 5


@pytest.mark.parametrize("models", [3, 4, 8, 100, 512])
def test_bins(models: int) -> None:
    mine, theirs = normal(models, 40)
    theirs = theirs + np.linspace(0, 3, 40)
    found = epsilons(mine, theirs)
    assert forgetting_quality(mine, theirs) == pytest.approx(quality(found, models))


def test_two_models_keep_a_bin() -> None:
    same = np.array([[0.0], [1.0]])
    assert forgetting_quality(same, same) == 1.0


def test_a_larger_shift_never_looks_better() -> None:
    mine, theirs = normal(128, 60)
    found = [forgetting_quality(mine + shift, theirs) for shift in (0, 0.5, 1, 2, 3)]
    assert all(one > next_one for one, next_one in pairwise(found))


def test_signal_by_hand() -> None:
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], dtype=np.float32))
    found = signal(logits, np.array([0, 1]))
    assert found == pytest.approx([np.log(0.7 / 0.3), np.log(0.1 / 0.9)], rel=1e-6)
    assert found.dtype == np.float64


def test_signal_leaves_its_input_and_takes_models() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 5, 4)).astype(np.float32)
    before, targets = logits.copy(), rng.integers(0, 4, size=5)
    found = signal(logits, targets)
    assert (logits == before).all()
    assert found.shape == (3, 5)
    assert (found[1] == signal(logits[1], targets)).all()


def test_signal_of_the_sure() -> None:
    logits = np.array([[2000.0, 0.0], [0.0, 40.0]])
    sure = np.log(1e-45)
    assert signal(logits, np.array([0, 1])) == pytest.approx([-sure, 40.0])
    assert signal(logits, np.array([1, 0])) == pytest.approx([sure, -40.0])


BAD = {
    "nan": (np.full((3, 2), np.nan), np.zeros((3, 2))),
    "infinite": (np.zeros((3, 2)), np.full((3, 2), np.inf)),
    "absurd": (np.zeros((3, 2)), np.full((3, 2), 1e7)),
    "one model": (np.zeros((1, 2)), np.zeros((3, 2))),
    "no example": (np.zeros((3, 0)), np.zeros((3, 0))),
    "other examples": (np.zeros((3, 2)), np.zeros((3, 1))),
    "one axis": (np.zeros(3), np.zeros(3)),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_signals(case: str) -> None:
    with pytest.raises(BadEvidence):
        epsilons(*BAD[case])


def test_bad_rule_and_delta() -> None:
    pair = normal(4, 1)
    with pytest.raises(ExpungeError, match="Did you mean released"):
        epsilons(*pair, rule="relesed")
    with pytest.raises(ExpungeError, match="delta"):
        epsilons(*pair, delta=1.0)


@pytest.mark.parametrize(
    ("logits", "targets"),
    [
        (np.zeros((2, 3, 4)), np.array([0, 1])),
        (np.zeros(4), np.array([0])),
        (np.full((1, 2), np.nan), np.array([0])),
        (np.zeros((1, 2)), np.array([2])),
        (np.zeros((1, 2)), np.array([-1])),
        (np.zeros((0, 2)), np.array([], dtype=int)),
    ],
)
def test_bad_logits(logits: Floats, targets: NDArray[np.int64]) -> None:
    with pytest.raises(BadEvidence):
        signal(logits, targets)


def evidence(models: int, seed: int, spoil: float = 0.0) -> Evidence:
    """Answers on three sets; `spoil` lowers the logits of the right class."""
    rng = np.random.default_rng(seed)
    targets = np.random.default_rng(0).integers(0, 4, size=30)
    logits = rng.normal(size=(models, 30, 4))
    logits[:, np.arange(30), targets] += 2 - spoil
    sets = {"retain": slice(0, 10), "forget": slice(10, 20), "test": slice(20, 30)}
    return Evidence(logits.astype(np.float32), targets, sets)


def test_score_is_the_product_of_its_factors() -> None:
    mine, theirs = evidence(20, 1, spoil=1.0), evidence(30, 2)
    found = score(mine, theirs)
    shares = {}
    for name, rows in theirs.sets.items():
        right = [(side.logits[:, rows].argmax(2) == side.targets[rows]) for side in (mine, theirs)]
        shares[name] = right[0].mean() / right[1].mean()
    rows = theirs.sets["forget"]
    signals = [signal(side.logits[:, rows], side.targets[rows]) for side in (mine, theirs)]
    assert found.forgetting == forgetting_quality(*signals)
    assert found.retain == pytest.approx(shares["retain"])
    assert found.test == pytest.approx(shares["test"])
    assert found.value == pytest.approx(found.forgetting * shares["retain"] * shares["test"])
    assert found.retain < 0.95


def test_metrics_are_these_functions() -> None:
    mine, theirs = evidence(20, 1, spoil=1.0), evidence(20, 2)
    for rule in RULES:
        whole = ChallengeScore(rule)(mine, theirs, np.random.default_rng(0))
        part = ForgettingQuality(rule)(mine, theirs, np.random.default_rng(0))
        factors = score(mine, theirs, rule=rule)
        assert (whole.value, part.value) == (factors.value, factors.forgetting)
        assert whole.low < whole.value < whole.high
        assert 0 <= part.low < part.value < part.high <= 1
        assert part.n == 20
    assert repr(ForgettingQuality()) == "ForgettingQuality(rule='released')"


def test_score_needs_a_right_oracle() -> None:
    mine, theirs = evidence(3, 1), evidence(3, 2, spoil=100.0)
    with pytest.raises(BadEvidence, match="never right"):
        score(mine, theirs)
