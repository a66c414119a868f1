"""Each verdict from a row that earns it, and its twin just on the other side."""

from __future__ import annotations

from dataclasses import replace

import pytest

from expunge.metrics.agreement import Score, Unscored
from expunge.metrics.row_label import ScoredRow, Spread, flags, gap_closed, row_label


def quality(value: float, n: int = 64, half: float = 0.01) -> Score:
    return Score(value, value - half, value + half, n, "F")


def shares(retain: float, forget: float, test: float, sd: float = 0.01) -> dict[str, Spread]:
    values = {"retain": retain, "forget": forget, "test": test}
    return {name: Spread(value, sd) for name, value in values.items()}


GOOD = ScoredRow(
    quality=quality(0.19),
    ceiling=quality(0.19),
    floor=quality(0.01),
    finetune=quality(0.05),
    subject=shares(0.99, 0.80, 0.80),
    oracle=shares(0.99, 0.80, 0.80),
    original=shares(0.99, 0.99, 0.82),
    classes=10,
    largest_change=0.1,
    cost=0.1,
)
PARTLY = replace(GOOD, quality=quality(0.10))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (GOOD, "as retrained within noise"),
        (replace(GOOD, quality=quality(0.177)), "as retrained within noise"),
        (replace(GOOD, quality=quality(0.175)), "partly forgotten (0.92 of the way)"),
        (PARTLY, "partly forgotten (0.50 of the way)"),
        (replace(PARTLY, finetune=None), "partly forgotten (0.50 of the way)"),
        # As good on the forget set, but worse elsewhere, is not as retrained.
        (
            replace(GOOD, subject=shares(0.95, 0.80, 0.80)),
            "partly forgotten (1.00 of the way)",
        ),
        (replace(GOOD, largest_change=0.0), "changed nothing"),
        (replace(GOOD, largest_change=1e-6), "as retrained within noise"),
        (replace(GOOD, subject=shares(0.54, 0.80, 0.80)), "collapsed"),
        (replace(GOOD, subject=shares(0.99, 0.80, 0.44)), "collapsed"),
        (replace(GOOD, subject=shares(0.55, 0.80, 0.80)), "partly forgotten (1.00 of the way)"),
        (replace(GOOD, quality=quality(0.19, n=15)), "too few models to say"),
        (replace(GOOD, ceiling=quality(0.19, n=15)), "too few models to say"),
        (replace(GOOD, quality=quality(0.19, n=16)), "as retrained within noise"),
        (replace(GOOD, floor=quality(0.18)), "too few models to say"),
        # A single run may be said to have changed nothing or to have collapsed: that is no rank.
        (replace(GOOD, quality=quality(0.1, n=1), largest_change=0.0), "changed nothing"),
        (
            replace(GOOD, quality=quality(0.1, n=1), subject=shares(0.1, 0.1, 0.1)),
            "collapsed",
        ),
        (
            replace(GOOD, subject=shares(0.99, 0.93, 0.8), original=shares(0.99, 0.9, 0.8)),
            "forget accuracy rose",
        ),
        (replace(PARTLY, subject=shares(0.99, 0.70, 0.80)), "over-forgotten"),
        (replace(PARTLY, quality=quality(0.01), subject=shares(0.99, 0.1, 0.8)), "over-forgotten"),
        (
            replace(PARTLY, subject=shares(0.99, 0.785, 0.80)),
            "partly forgotten (0.50 of the way)",
        ),
        (replace(GOOD, quality=quality(0.02)), "not forgotten"),
        (replace(GOOD, quality=quality(0.01), subject=GOOD.original), "not forgotten"),
        (replace(GOOD, quality=quality(0.05)), "no better than finetune"),
        (replace(GOOD, quality=quality(0.06)), "no better than finetune"),
        (replace(GOOD, quality=quality(0.07)), "partly forgotten (0.33 of the way)"),
    ],
)
def test_verdict(row: ScoredRow, words: str) -> None:
    assert row_label(row) == words


def test_a_wide_interval_hides_a_difference() -> None:
    assert (
        row_label(replace(PARTLY, quality=quality(0.10, half=0.1))) == "as retrained within noise"
    )


def test_an_interval_cut_at_zero_is_still_wide() -> None:
    cut = Score(0.005, 0.0, 0.1, 64, "F")
    assert row_label(replace(GOOD, floor=cut, quality=quality(0.09))) == "not forgotten"


def test_half_a_point_is_no_difference() -> None:
    exact = shares(1.0, 0.8, 0.8, sd=0.0)
    row = replace(GOOD, oracle=exact, subject=shares(0.996, 0.8, 0.8, sd=0.0))
    assert row_label(row) == "as retrained within noise"
    assert flags(row) == ()
    row = replace(row, subject=shares(0.994, 0.8, 0.8, sd=0.0))
    assert row_label(row) != "as retrained within noise"
    assert flags(row) == ("retain accuracy 0.6 points below retrained",)


def test_flags() -> None:
    assert flags(GOOD) == ()
    assert flags(replace(GOOD, cost=0.2)) == ()
    row = replace(GOOD, cost=0.21, subject=shares(0.99, 0.90, 0.75))
    assert flags(row) == (
        "forget accuracy 10.0 points above retrained",
        "test accuracy 5.0 points below retrained",
        "above 20 % of retraining's cost",
    )


def test_normalised() -> None:
    low, high = quality(0.01), quality(0.19)
    assert gap_closed(0.01, low, high) == 0.0
    assert gap_closed(0.19, low, high) == 1.0
    assert gap_closed(0.10, low, high) == pytest.approx(0.5)
    assert gap_closed(0.28, low, high) == pytest.approx(1.5)


@pytest.mark.parametrize("floor", [0.178, 0.19, 0.3])
def test_normalised_needs_a_ceiling_above_the_floor(floor: float) -> None:
    found = gap_closed(0.1, quality(floor), quality(0.19))
    assert isinstance(found, Unscored)
    assert f"{floor:.3g}" in found.reason
