"""Where things stand in the pictures."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import records
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.metrics.challenge.quality import forgetting_quality
from expunge.report.panels import (
    by_step,
    curves,
    epsilon_panels,
    gallery,
    last_bin,
    shares,
    step_name,
)
from expunge.report.plots import Axis, bars, heights, line, round_step
from expunge.report.scatter import LINE, SIGN, TALL, Label, Point, placed, scatter


def test_an_axis_keeps_a_margin_and_clips() -> None:
    axis = Axis(0.0, 2.0)
    assert [axis.at(value) for value in (-5, 0, 1, 2, 9)] == [3.0, 3.0, 50.0, 97.0, 97.0]


def test_ticks_are_round_and_alike() -> None:
    assert [tick.label for tick in Axis(0.0, 0.19).ticks()] == ["0.00", "0.05", "0.10", "0.15"]
    assert [tick.label for tick in Axis(-5.5, 4.8).ticks()] == ["−5", "0"]
    labels = [tick.label.replace("\u202f", " ") for tick in Axis(0.0, 0.31).ticks(4, True)]
    assert labels == ["0 %", "10 %", "20 %", "30 %"]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.floats(1e-6, 1e6))
def test_a_step_is_the_smallest_round_one(least: float) -> None:
    step = round_step(least)
    assert least * (1 - 1e-6) <= step <= least * 2.5 * (1 + 1e-6)


def test_heights_count_what_lies_beyond_in_the_end_bins() -> None:
    assert heights([-9.0, 0.5, 1.5, 1.6, 99.0], [0.0, 1.0, 2.0]) == [0.4, 0.6]


def test_bars_by_hand() -> None:
    assert bars([0.5, 1.0], 1.0) == "M0 100V50H50V0H100V100Z"
    assert bars([0.5, 2.0], 1.0, base=50.0, up=False) == "M0 50V75H50V100H100V50Z"


def test_a_line_by_hand() -> None:
    assert line([4.0, 2.0, 3.0]) == "M0 8L50 92L100 50"
    assert line([1.0, 1.0]) == "M0 92L100 92"


@pytest.mark.parametrize(("models", "end"), [(2, 1), (3, 1), (32, 4), (128, 5), (512, 7)])
def test_the_last_bin_is_that_of_the_challenge(models: int, end: int) -> None:
    assert last_bin(models) == end


def test_shares_of_epsilons() -> None:
    found = shares([0.0, 0.49, 0.5, 1.99, 2.0, 7.0, 49.9, 50.0], 2)
    assert found == [0.25, 0.125, 0.0, 0.125, 0.375, 0.125]


def test_the_bins_earn_what_the_challenge_gives() -> None:
    rng = np.random.default_rng(0)
    mine, theirs = rng.normal(1.0, 1.0, (24, 40)), rng.normal(0.0, 1.0, (24, 40))
    from expunge.metrics.challenge.quality import epsilons

    found = shares(epsilons(mine, theirs).tolist(), last_bin(24))
    earned = sum(share * 2.0**-i for i, share in enumerate(found[:-2]))
    assert earned == pytest.approx(forgetting_quality(mine, theirs))


def test_panels_tell_median_and_what_scores_nothing() -> None:
    found = epsilon_panels(records.summary()["rows"], 4)
    assert [panel.name for panel in found][:3] == ["retrain", "nothing", "sham"]
    assert found[0].said == "median 3.90, 40\u202f% score 0"


def test_the_gallery_shows_the_best_and_keeps_the_rest() -> None:
    example = gallery(records.summary(fourth=0.05))[0]
    assert [s.name for s in example.featured] == ["retrain", "ours", "prune", "fourth", "sham"]
    assert [s.name for s in example.others] == ["ascent"]
    assert 3 <= example.original <= 97


def test_a_signal_that_never_varies_has_an_axis() -> None:
    made = records.summary()
    entry = made["gallery"][0]
    entry["retrained"] = [3.0] * 32
    entry["unlearned"] = {name: [3.0] * 32 for name in entry["unlearned"]}
    assert gallery(made)[0].ends == ("3.00", "4.00")


def test_steps_that_take_turns_have_curves_of_their_own() -> None:
    records_of = [["/0", 1.0, 9.0], ["/1/0", 1.0, 5.0], ["/1/1", 1.0, 1.0], ["/1/0", 1.0, 4.0]]
    assert by_step(records_of) == {"/0": [9.0], "/1/0": [5.0, 4.0], "/1/1": [1.0]}
    assert [step_name(place) for place in ("/0", "/1/0", "/10")] == ["1", "2.1", "11"]


def test_a_curve_of_one_record_has_no_line() -> None:
    found = [curve for curve in curves(records.summary()["rows"]) if curve.name == "ours"]
    assert [(c.step, c.count, c.first, c.last) for c in found] == [
        ("1", 2, "2.50", "0.500"),
        ("2.1", 1, "−3.00", "−3.00"),
    ]
    assert [bool(curve.path) for curve in found] == [True, False]


def box(point: Point, label: Label, width: float) -> tuple[float, float, float, float]:
    """The label's room, written a second time."""
    long = SIGN * len(label.text)
    left = point.x * width / 100 + label.dx
    left -= {"start": 0, "middle": long / 2, "end": long}[label.anchor]
    base = point.y + label.dy
    return left, base - LINE, left + long, base


def points(count: int, seed: int) -> list[Point]:
    rng = np.random.default_rng(seed)
    xs, ys = rng.uniform(3, 60, count).round(2), rng.uniform(120, TALL - 40, count).round(1)
    return [
        Point("m" * int(rng.integers(1, 30)), float(x), float(y), float(y), float(y), False)
        for x, y in zip(xs, ys, strict=True)
    ]


@pytest.mark.parametrize("seed", range(8))
def test_labels_do_not_overlap_nor_leave_the_picture_even_if_it_is_wider(seed: int) -> None:
    found = list(placed(points(14, seed), 326))
    assert found[0][0] == points(14, seed)[0]
    for width in (326, 343, 800):
        boxes = [box(point, label, width) for point, label in found]
        assert all(b[0] >= 0 and b[2] <= width for b in boxes)
        for a, b in itertools.combinations(boxes, 2):
            apart = a[2] <= b[0] + 0.01 or b[2] <= a[0] + 0.01
            assert apart or a[3] <= b[1] + 0.01 or b[3] <= a[1] + 0.01


def test_the_scatter_has_every_method_and_the_line_at_a_fifth() -> None:
    made = records.summary()
    found = scatter(made["rows"], made["ceiling"], 0.0)
    assert [point.name for point in found.points] == list(records.QUALITIES)
    # Costs reach 0.25: a fifth stands at 3 + 94 * 0.2 / 0.25.
    assert found.cost_line == 78.2
    assert found.ceiling.high < found.ceiling.y < found.ceiling.low < found.floor
    assert {len(labels) for labels in found.labels.values()} == {5}


def test_forty_methods_fit() -> None:
    made = records.summary(**{f"method_{i}": 0.001 * i for i in range(40)})
    found = scatter(made["rows"], made["ceiling"], 0.0)
    assert len(found.points) == 45
    assert len(found.labels["wide"]) > 20
