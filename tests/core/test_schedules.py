"""Schedules: the course at points worked out by hand, and scaling."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.core.schedules import Cosine, Linear, Schedule, Warmup, value
from expunge.errors import BadSentence

GOLDEN = [
    (Linear(1.0), {0.0: 1.0, 0.25: 0.75, 1.0: 0.0}),
    (Linear(1.0, 3.0), {0.0: 1.0, 0.5: 2.0, 1.0: 3.0}),
    (Cosine(2.0), {0.0: 2.0, 0.5: 1.0, 1.0: 0.0, 1 / 3: 1.5}),
    (Cosine(1.0, 0.5), {0.0: 1.0, 0.5: 0.75, 1.0: 0.5, 0.25: 0.75 + 0.25 * math.sqrt(0.5)}),
    (Warmup(1.0), {0.0: 0.0, 0.1: 0.5, 0.2: 1.0, 0.6: 0.5, 1.0: 0.0}),
    (Warmup(4.0, until=0.5), {0.0: 0.0, 0.25: 2.0, 0.5: 4.0, 0.75: 2.0, 1.0: 0.0}),
]


@pytest.mark.parametrize(("schedule", "points"), GOLDEN, ids=str)
def test_golden_values(schedule: Schedule, points: dict[float, float]) -> None:
    for progress, wanted in points.items():
        assert schedule(progress) == pytest.approx(wanted, abs=1e-12)
        assert value(schedule, progress) == schedule(progress)


def test_a_plain_number_stays() -> None:
    assert value(0.3, 0.0) == value(0.3, 0.9) == 0.3


@settings(deadline=None, derandomize=True)
@given(st.sampled_from([s for s, _ in GOLDEN]), st.floats(-9, 9), st.floats(0, 1))
def test_scaled_is_the_course_times_the_factor(
    schedule: Schedule, factor: float, progress: float
) -> None:
    wanted = factor * schedule(progress)
    assert schedule.scaled(factor)(progress) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("until", [0.0, 1.0, -0.5, 2.0])
def test_warmup_needs_a_way_up_and_a_way_down(until: float) -> None:
    with pytest.raises(BadSentence, match="until"):
        Warmup(1.0, until=until)
