"""Every method's way on the page: heights by hand, one scale, nothing where nothing was asked."""

from __future__ import annotations

from typing import Any

from language_records import summary

from expunge.report.page import render
from expunge.report.panels import FEATURED_CURVES, probability_curves


def with_traces(count: int) -> dict[str, Any]:
    made = summary()
    trace = {
        "records": [{"forget": 1.0, "retain": 1.0}, {"forget": 0.5, "retain": 0.75},
                    {"forget": 0.0, "retain": 0.5}],
        "epochs": 2, "retrained": {"forget": 0.25, "retain": 1.0},
        "sets": {"forget": "forget", "retain": "retain"},
        "questions": {"forget": 4, "retain": 8},
    }  # fmt: skip
    scored = [row for row in made["rows"] if "unscored" not in row]
    for row in scored[:count]:
        row["trace"] = trace
    for row in scored[count:]:
        row["trace"] = {**trace, "epochs": 0}
    return made


def test_the_ways_on_the_page_by_hand() -> None:
    found = probability_curves(with_traces(1))
    assert found is not None
    way = found.first[0]
    assert way.forget == "M0 4L50 50L100 96"
    assert way.retain == "M0 4L50 27L100 50"
    assert (way.level, way.forget_ends, way.retain_ends) == (73.0, "1.00 → 0.00", "1.00 → 0.50")
    assert found.about.startswith("The first 4 texts of the set forget and 8 of retain")
    page = render(with_traces(1))
    assert 'd="M0 4L50 50L100 96"' in page
    assert "Losses by step" in page


def test_many_ways_are_folded_and_none_is_no_section() -> None:
    made = with_traces(7)
    more = [{**made["rows"][1], "name": f"more {n}"} for n in range(FEATURED_CURVES)]
    found = probability_curves({**made, "rows": [*made["rows"], *more]})
    assert found is not None
    assert (len(found.first), len(found.others)) == (FEATURED_CURVES, 7)
    assert probability_curves(summary()) is None
    page = render(summary())
    assert "Curves over training" in page
    assert "How likely the true answers" not in page
