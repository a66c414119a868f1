"""A sentence above the allowed cost is shortened, not wasted; one that cannot be is refused."""

from __future__ import annotations

import pytest
from tuning_tools import bench

from expunge.core.problem import Problem
from expunge.experiments.tuning.ranges import TooDear, shortened, within
from expunge.methods.cost import share_of_retraining
from expunge.methods.sentences import as_method


@pytest.fixture(scope="module")
def problem(tmp_path_factory: pytest.TempPathFactory) -> Problem:
    return bench(tmp_path_factory.mktemp("cost")).split.problem


def test_what_is_cheap_enough_stays_as_it_is(problem: Problem) -> None:
    method = as_method("Train(CE('retain'), epochs=0.2, batch=128)")
    assert within(method, problem, 0.5) is method


@pytest.mark.parametrize("cap", [0.1, 0.2, 0.5])
def test_what_is_too_dear_is_cut_to_just_below(problem: Problem, cap: float) -> None:
    method = as_method("Train(CE('retain'), epochs=3, batch=16), Train(-CE('forget'), epochs=9)")
    cut = within(method, problem, cap)
    assert 0.9 * cap < share_of_retraining(cut, problem) <= cap
    first, second = (step.epochs for step in cut.steps)  # type: ignore[attr-defined]
    assert first / 3 == pytest.approx(second / 9, rel=0.02)


def test_turns_that_cannot_be_shorter_become_fewer(problem: Problem) -> None:
    method = as_method("Repeat((Train(CE('retain'), epochs=1, batch=512),), times=16)")
    cut = within(method, problem, 0.9)
    assert cut.steps[0].times < 16  # type: ignore[attr-defined]
    assert share_of_retraining(cut, problem) <= 0.9


def test_turns_inside_other_steps_become_fewer_too(problem: Problem) -> None:
    inner = "Train(CE('retain'), batch=512)"
    method = as_method(f"Until(({inner},), 8, against='val')")
    cut = within(method, problem, 0.9)
    assert cut.steps[0].times < 8  # type: ignore[attr-defined]


def test_what_no_cut_can_mend_is_refused(problem: Problem) -> None:
    with pytest.raises(TooDear, match="even with the shortest training"):
        within(as_method("Dampen(), Train(CE('retain'))"), problem, 0.2)


def test_epochs_are_found_wherever_a_sentence_holds_them() -> None:
    method = as_method("Negate(Train(CE('forget'), epochs=2)), Repeat((Train(CE('retain')),), 2)")
    said = "Negate(Train(CE('forget'))), Repeat((Train(CE('retain'), epochs=0.5),), 2)"
    assert shortened(method, 0.5).sentence == said
