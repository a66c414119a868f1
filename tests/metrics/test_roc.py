"""ROC: by hand, against counts of pairs, ties, what too few non-members cannot show, intervals."""

from __future__ import annotations

import naive_attacks
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from expunge.errors import BadEvidence, ExpungeError
from expunge.metrics.attacks.exposure import exposure
from expunge.metrics.attacks.roc import Roc, TooFewNonMembers, interval, roc

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def split(members: list[float], others: list[float]) -> Roc:
    scores = np.array([[*members, *others]])
    inside = np.arange(scores.shape[1])[None, :] < len(members)
    return roc(scores, inside, ~inside)


def test_auc_and_advantage_by_hand() -> None:
    curve = split([3.0, 2.0, 0.0], [1.0, 2.0])
    # Of six pairs: 3 beats both, 2 beats one and ties one, 0 beats none.
    assert curve.auc() == pytest.approx(3.5 / 6)
    # Above 2: one member in three and nobody else.
    assert curve.advantage() == pytest.approx(1 / 3)
    assert split([1.0, 1.0], [1.0, 1.0, 1.0]).auc() == 0.5
    assert split([1.0, 1.0], [1.0, 1.0, 1.0]).advantage() == 0
    assert split([2.0], [1.0]).advantage() == 1
    assert split([0.0], [1.0]).advantage() == 0


def test_tpr_by_hand() -> None:
    """30 others at 0 to 29; members at 29.5, at 28 (a tie) and at 10."""
    curve = split([29.5, 28.0, 10.0], [float(k) for k in range(30)])
    # 10 % of 30 is 3: above 26 are 27, 28, 29 and two members.
    assert curve.tpr_at(0.1) == pytest.approx(2 / 3)
    curve = split([29.5, 28.0, 10.0], [float(k) for k in range(29)] + [28.0])
    assert curve.tpr_at(0.1) == pytest.approx(2 / 3)
    # Five tied at the top are more than 3: none of them may be called.
    curve = split([28.0, 28.0, 10.0], [float(k) for k in range(25)] + [28.0] * 5)
    assert curve.tpr_at(0.1) == 0
    assert split([5.0], [float(k) for k in range(40)]).tpr_at(0.9) == 1.0


@settings(deadline=None, derandomize=True)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 6),
    st.integers(30, 45),
    st.sampled_from([2, 5, 10**6]),
    st.sampled_from([0.1, 0.15, 0.2, 1 / 3]),
)
def test_the_curve_is_a_count(seed: int, first: int, second: int, kinds: int, fpr: float) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, kinds, size=(1, first + second)).astype(float)
    inside = (np.arange(first + second) < first)[None, :]
    curve, members, others = roc(scores, inside, ~inside), scores[inside], scores[~inside]
    assert curve.auc() == pytest.approx(naive_attacks.auc(members, others))
    assert curve.auc() == pytest.approx(roc_auc_score(inside[0], scores[0]))
    assert curve.tpr_at(fpr) == pytest.approx(naive_attacks.tpr_at(members, others, fpr))
    assert curve.advantage() == pytest.approx(naive_attacks.advantage(members, others))
    # A rising function of the scores keeps every rank.
    again = roc(np.exp(scores / kinds), inside, ~inside)
    assert (again.auc(), again.advantage()) == (curve.auc(), curve.advantage())


def test_entries_in_neither_group_are_left_out() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4, 6))
    inside, outside = rng.random((4, 6)) < 0.4, np.zeros((4, 6), dtype=bool)
    outside[~inside] = rng.random((~inside).sum()) < 0.5
    whole = roc(scores, inside, outside)
    scores[~(inside | outside)] = np.nan
    assert roc(scores, inside, outside).auc() == whole.auc()
    assert whole.auc() == pytest.approx(naive_attacks.auc(scores[inside], scores[outside]))
    assert whole.non_members == outside.sum()


def test_a_rate_that_cannot_be_shown_is_refused() -> None:
    curve = split([1.0, 2.0], [float(k) for k in range(298)])
    with pytest.raises(TooFewNonMembers, match=r"Got 298 non-members.*takes 299") as caught:
        curve.tpr_at(0.01)
    assert (caught.value.fpr, caught.value.got, caught.value.needed) == (0.01, 298, 299)
    assert isinstance(caught.value, BadEvidence)
    assert split([1.0, 400.0], [float(k) for k in range(299)]).tpr_at(0.01) == 0.5
    for fpr in (0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(ExpungeError, match="above 0 and below 1"):
            curve.tpr_at(fpr)


def crossed(seed: int, models: int = 8, examples: int = 40) -> tuple[Floats, Flags]:
    """Scores with a common part of each model and of each example, members 0.5 higher."""
    rng = np.random.default_rng(seed)
    inside = rng.random((models, examples)) < 0.5
    scores = rng.normal(size=(models, examples)) + rng.normal(size=examples) + 0.5 * inside
    return scores + 0.5 * rng.normal(size=(models, 1)), inside


def test_resampling_is_counting_more_often() -> None:
    scores, inside = crossed(0, 3, 4)
    curve = roc(scores, inside, ~inside)
    models, examples = np.array([2.0, 0.0, 1.0]), np.array([1.0, 1.0, 0.0, 3.0])
    rows, columns = np.repeat([0, 1, 2], [2, 0, 1]), np.repeat([0, 1, 2, 3], [1, 1, 0, 3])
    drawn, known = scores[rows][:, columns], inside[rows][:, columns]
    expected = naive_attacks.auc(drawn[known], drawn[~known])
    found = curve.reweighted(models, examples)
    assert found.auc() == pytest.approx(expected)
    assert found.advantage() == pytest.approx(naive_attacks.advantage(drawn[known], drawn[~known]))
    # The number of non-members is of the study, not of the draw.
    assert found.non_members == curve.non_members


@pytest.mark.parametrize("over", ["models", "examples", "both"])
def test_intervals_hold_the_value_and_follow_the_seed(over: str) -> None:
    scores, inside = crossed(1)
    curve = roc(scores, inside, ~inside)
    found, again, other = (
        interval(Roc.auc, curve, np.random.default_rng(s), over=over, unit="AUC") for s in (0, 0, 1)
    )
    assert found == again != other
    assert found.low < found.value < found.high
    assert found.value == curve.auc()
    assert (found.n, found.unit) == (8, "AUC")


def test_both_axes_are_wider_than_one() -> None:
    scores, inside = crossed(2, 10, 30)
    curve = roc(scores, inside, ~inside)
    width = {
        over: (found := interval(Roc.auc, curve, np.random.default_rng(0), over=over, unit="")).high
        - found.low
        for over in ("models", "examples", "both")
    }
    assert width["both"] > max(width["models"], width["examples"])


def test_the_interval_of_one_model_is_as_wide_as_its_error_says() -> None:
    rng = np.random.default_rng(0)
    inside = np.arange(300)[None, :] < 150
    scores = rng.normal(size=(1, 300)) + inside
    found = interval(Roc.auc, roc(scores, inside, ~inside), rng, over="examples", unit="")
    error = exposure(scores.T, inside.T, ~inside.T).error[0]
    assert found.high - found.value == pytest.approx(1.97 * error, rel=0.2)


@pytest.mark.slow
@pytest.mark.parametrize(("over", "least"), [("examples", 0.9), ("both", 0.93)])
def test_intervals_cover(over: str, least: float) -> None:
    """New examples each time: the AUC of unit normals half a unit apart is Phi(0.5 / sqrt 2)."""
    held, rng = 0, np.random.default_rng(0)
    for _ in range(200):
        inside = rng.random((6, 60)) < 0.5
        curve = roc(rng.normal(size=(6, 60)) + 0.5 * inside, inside, ~inside)
        found = interval(Roc.auc, curve, rng, over=over, unit="", resamples=100)
        held += found.low <= 0.638163 <= found.high
    assert held / 200 >= least


@pytest.mark.parametrize(("over", "n"), [("models", 5), ("examples", 8), ("both", 5)])
def test_what_no_draw_can_change_is_not_certain(over: str, n: int) -> None:
    """Five models apart from twelve others: a kind that is 52 % of all shows in none of 5 once
    in 40."""
    inside = np.repeat([[True], [False]], [5, 12], axis=0) & np.ones(8, dtype=bool)
    reach = 1 - 0.025 ** (1 / n)
    assert (1 - reach) ** n == pytest.approx(0.025)
    for scores, value in ((inside + 0.0, 1.0), (inside * 0.0, 0.5), (0.0 - inside, 0.0)):
        curve = roc(scores, inside, ~inside)
        found = interval(Roc.auc, curve, np.random.default_rng(0), over=over, unit="")
        ends = max(value - reach, 0.0), min(value + reach, 1.0)
        assert (found.value, found.low, found.high) == (value, *map(pytest.approx, ends))


def test_a_draw_without_members_is_drawn_again() -> None:
    scores = np.arange(12.0).reshape(4, 3)
    inside = np.zeros((4, 3), dtype=bool)
    inside[0, 0] = True
    curve = roc(scores, inside, ~inside)
    found = interval(Roc.auc, curve, np.random.default_rng(0), over="both", unit="")
    assert (found.value, found.low) == (0.0, 0.0)


def test_bad_curves() -> None:
    scores, inside = crossed(3)
    for broken in (
        (scores[0], inside[0], ~inside[0]),
        (scores, inside[:2], ~inside),
        (scores, inside.astype(int), ~inside),
        (scores, inside, inside),
        (scores, inside, np.zeros_like(inside)),
        (scores, np.zeros_like(inside), ~inside),
        (np.where(inside, np.nan, scores), inside, ~inside),
    ):
        with pytest.raises(BadEvidence):
            roc(*broken)


def test_bad_intervals() -> None:
    rng = np.random.default_rng(0)
    scores, inside = crossed(3, 2, 9)
    curve = roc(scores, inside, ~inside)
    for over in ("models", "both"):
        with pytest.raises(BadEvidence, match=f"Got 2 {over} to draw.*at least 3"):
            interval(Roc.auc, curve, rng, over=over, unit="")
    assert interval(Roc.auc, curve, rng, over="examples", unit="").low < 1
    with pytest.raises(BadEvidence, match="1 resamples"):
        interval(Roc.auc, curve, rng, over="examples", unit="", resamples=1)
    with pytest.raises(ExpungeError, match="'models', 'examples' or 'both'"):
        interval(Roc.auc, curve, rng, over="seeds", unit="")  # type: ignore[arg-type]
