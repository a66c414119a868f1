"""A rank is claimed only where intervals part, and controls and dear methods take none."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest

from expunge.experiments.summary import CAP, COLUMNS, ranking
from expunge.report.terminal import cells, draw_ranking, markdown, plain


def row(name: str, low: float, value: float, high: float, **rest: Any) -> dict[str, Any]:
    score = {"value": value, "low": low, "high": high, "n": 64, "unit": "F", "aim": "high"}
    accuracy = {**score, "value": 0.98, "oracle": 0.99}
    scores = {"score": score, "quality": score}
    return {
        "name": name,
        "control": False,
        "scores": {**scores, "accuracy_retain": accuracy, "accuracy_test": accuracy},
        "cost": {"examples_share": 0.2, "time_share": 0.19},
        "verdict": "partly forgotten",
        **rest,
    }


def summary(*rows: dict[str, Any]) -> dict[str, Any]:
    anchors = (
        row("retrain", 0.19, 0.2, 0.21, control=True),
        row("nothing", 0.0, 0.0, 0.0, control=True),
    )
    experiment = {
        "name": "a ranking",
        "forget": "RandomShare(0.1)",
        "members": 64,
        "protocol": "challenge",
        "rule": "released",
    }
    hardware = {"processor": "a processor", "cores": 2}
    return {"experiment": experiment, "hardware": hardware, "rows": [*anchors, *rows]}


def ranks(made: dict[str, Any]) -> dict[str, int | None]:
    return {place.name: place.rank for place in ranking(made)}


def test_methods_share_a_rank_unless_their_intervals_part() -> None:
    made = summary(
        row("best", 0.09, 0.1, 0.11),
        row("near", 0.08, 0.085, 0.095),  # overlaps with the best
        row("third", 0.04, 0.05, 0.085),  # overlaps with near alone: one method lies wholly above
        row("last", 0.01, 0.02, 0.03),
    )
    expected = {"best": 1, "near": 1, "third": 2, "last": 4, "retrain": None, "nothing": None}
    assert ranks(made) == expected


def test_touching_intervals_do_not_part() -> None:
    made = summary(row("a", 0.05, 0.06, 0.07), row("b", 0.03, 0.04, 0.05))
    assert ranks(made)["b"] == 1
    made = summary(row("a", 0.0501, 0.06, 0.07), row("b", 0.03, 0.04, 0.05))
    assert ranks(made)["b"] == 2


def test_the_order_of_rows_does_not_matter() -> None:
    rows = [row(f"m{i}", i / 100, (i + 1) / 100, (i + 2) / 100) for i in range(12)]
    straight = ranks(summary(*rows))
    random.Random(3).shuffle(rows)
    assert ranks(summary(*rows)) == straight


def test_dear_methods_and_controls_take_no_rank_and_push_nobody_down() -> None:
    dear = row("dear", 0.15, 0.16, 0.17, cost={"examples_share": CAP + 0.01, "time_share": 0.1})
    made = summary(dear, row("cheap", 0.04, 0.05, 0.06))
    assert ranks(made) == {"cheap": 1, "dear": None, "retrain": None, "nothing": None}
    told = {place.name: place.why for place in ranking(made)}
    assert told["dear"] == "above 20% of retraining's cost"
    assert told["retrain"] == "control"


def test_a_broken_model_takes_no_rank_however_near_it_lies() -> None:
    made = summary(
        row("broken", 0.15, 0.16, 0.17, verdict="collapsed"), row("whole", 0.04, 0.05, 0.06)
    )
    assert ranks(made) == {"whole": 1, "broken": None, "retrain": None, "nothing": None}
    assert "| - | broken | 0.1600" in markdown(made)
    assert "broken" not in markdown(made, first=10)


def test_the_gap_closed_lies_between_the_anchors() -> None:
    place = ranking(summary(row("half", 0.05, 0.1, 0.15)))[0]
    assert place.gap_closed == pytest.approx((0.5, 0.25, 0.75))


def test_an_unscored_method_is_named_with_its_reason() -> None:
    made = summary({"name": "broken", "control": False, "unscored": "it diverged"})
    assert "broken: unscored, it diverged" in plain(made, 160, draw_ranking)
    assert "broken" not in ranks(made)


def test_the_table_as_text_and_markdown() -> None:
    made = summary(row("mine", 0.04, 0.05, 0.06), row("theirs", 0.01, 0.02, 0.03))
    place = ranking(made)[0]
    shown = tuple(cells(COLUMNS, place))
    assert shown[:4] == ("1", "mine", "0.0500 [0.0400, 0.0600]", "0.25 [0.20, 0.30]")
    assert shown[4:8] == ("98.0 (-1.0)", "98.0 (-1.0)", "20%", "19%")
    lines = markdown(made, first=1).splitlines()
    assert lines[0] == f"| {' | '.join(column.name for column in COLUMNS)} |"
    assert [line.split("|")[2].strip() for line in lines[2:]] == ["mine", "retrain", "nothing"]
    assert "n = 64" in plain(made, 160, draw_ranking)


def test_a_problem_without_a_test_set_is_ranked_by_quality() -> None:
    made = copy.deepcopy(summary(row("mine", 0.04, 0.05, 0.06)))
    for one in made["rows"]:
        del one["scores"]["score"]
    assert ranks(made)["mine"] == 1
