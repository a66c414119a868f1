"""What the report says: sentences, cells and numbers, worked out by hand for small summaries."""

from __future__ import annotations

from typing import Any

import pytest
import records

from expunge.report import prose
from expunge.report.numbers import decimals, figure, fixed, gap, percent, with_interval
from expunge.report.page import render
from expunge.report.page_tables import table

NB, THIN = "\N{NO-BREAK SPACE}", "\N{NARROW NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0, "0"), (1.0, "1.00"), (0.099264, "0.0993"), (246.893, "247"), (12345.6, "12346"),
        (-0.0554, "−0.0554"), (0.00012349, "0.000123"), (9.996, "10.00"),
    ],
)  # fmt: skip
def test_a_figure_has_three_digits(value: float, said: str) -> None:
    assert figure(value) == said


def test_numbers_as_in_print() -> None:
    assert fixed(-0.0001, 3) == "0.000"
    assert decimals(0.0179) == 4
    assert [percent(x) for x in (0.0, 0.00004, 0.0218, 0.0995, 0.271)] == [
        f"0{THIN}%", f"<{THIN}0.1{THIN}%", f"2.2{THIN}%", f"10{THIN}%", f"27{THIN}%",
    ]  # fmt: skip
    assert [gap(x) for x in (0.0123, -0.016, 0.0001)] == ["+1.2", "−1.6", "0.0"]
    assert with_interval({"value": 0.065, "low": 0.056, "high": 0.0744}) == (
        f"0.0650{NB}[0.0560,{NB}0.0744]"
    )


def with_verdict(made: dict[str, Any], words: str, *names: str) -> dict[str, Any]:
    for row in made["rows"]:
        if row["name"] in names:
            row["verdict"] = words
    return made


def test_none_is_as_retrained() -> None:
    # ours: 0.1 ± 0.01 between 0 and 0.2, at a cost of 0.25 - 0.1.
    assert prose.headline(records.summary()) == (
        f"None of 3 methods is as retrained; the nearest is ours: it closes 50{THIN}%{NB}[45,{NB}"
        f"55] of the gap between original and retrained, at 15{THIN}% of retraining's cost."
    )


def test_some_are_as_retrained() -> None:
    made = with_verdict(records.summary(), "as retrained within noise", "ours")
    assert prose.headline(made) == "1 of 3 methods is as retrained within noise: ours."
    with_verdict(made, "as retrained within noise", "prune")
    assert prose.headline(made) == "2 of 3 methods are as retrained within noise: prune and ours."


def test_a_control_is_no_method() -> None:
    made = with_verdict(records.summary(), "as retrained within noise", "sham")
    assert prose.headline(made).startswith("None of 3 methods")


def test_a_collapsed_method_is_not_the_nearest() -> None:
    made = with_verdict(records.summary(), "collapsed", "ours")
    assert "the nearest is prune: it closes 30" in prose.headline(made)
    with_verdict(made, "collapsed", "prune", "ascent")
    assert prose.headline(made) == "None of 3 methods is as retrained; all have collapsed."


def test_too_few_models_rank_nothing() -> None:
    made = with_verdict(records.summary(n=8), prose.TOO_FEW, "ours", "prune", "ascent")
    assert prose.headline(made) == (
        "With 8 models a side no method can be ranked: 16 is the least."
    )
    assert [line.name for line in table(made).methods] == ["ascent", "prune", "ours"]
    said = " ".join(prose.shown(made))
    assert "nearest" not in said
    assert "sham" not in said
    assert "what they must" not in said


def test_no_difference_to_measure_on() -> None:
    made = with_verdict(records.summary(), prose.TOO_FEW, "ours", "prune", "ascent", "retrain")
    for row in made["rows"]:
        row["normalised"] = "retrained models score 0.1, the original 0.1"
    assert "do not differ from the untouched original" in prose.headline(made)
    found = table(made)
    assert found.notes == ["Gap closed is unscored: retrained models score 0.1, the original 0.1."]
    assert found.methods[0].cells[0].value == "unscored"
    assert found.notes[0] in render(made)


def test_rows_are_in_the_order_of_quality_with_the_unscored_last() -> None:
    made = records.summary(better=0.15)
    records.unscored(made, "ours", "its loss became infinite")
    found = table(made)
    assert [line.name for line in found.controls] == ["retrain", "nothing", "sham"]
    assert [line.name for line in found.methods] == ["better", "prune", "ascent", "ours"]
    assert found.methods[-1].reason == "its loss became infinite"
    assert "its loss became infinite" in render(made)
    assert prose.shown(made)[-1] == "Without a score, for the reason in the table: ours."


def test_what_was_shown_follows_from_the_numbers() -> None:
    made = records.summary(close=0.045)
    made["rows"][-1]["flags"] = ["test accuracy 1.6 points below retrained"]
    said = prose.shown(made)
    assert said[0].startswith(f"Held-out retrained models have a forgetting quality of 0.200{NB}[")
    assert said[1] == ("The controls did what they must: “retrain” passes and “nothing” does not.")
    assert said[3].startswith("3 of 4 methods kept")
    # sham reaches 0.04 at its upper end; ascent begins at 0.01, close at 0.035, prune at 0.05.
    assert said[4].endswith("without forgetting. Not clearly above it: ascent and close.")
    # Costs are 0.23, 0.19, 0.15 and, of close, 0.205.
    assert said[5].startswith(f"2 of 4 methods took at most 20{THIN}%")


@pytest.mark.parametrize("name", ["retrain", "nothing"])
def test_a_control_that_fails_is_told(name: str) -> None:
    made = with_verdict(records.summary(), "no better than finetune", name)
    said = prose.shown(made)[1]
    assert f"“{name}” has the verdict “no better than finetune”" in said
    assert "do not trust" in said


def test_cells_of_a_row() -> None:
    made = records.summary()
    made["rows"][-1]["scores"]["accuracy_test"] = records.score(0.934, 0.002, 32)
    made["rows"][-1]["flags"] = ["test accuracy 1.6 points below retrained"]
    made["rows"][-1]["cost"]["time_share"] = 0.3
    cells = {cell.label: cell for cell in table(made).methods[0].cells}
    assert list(cells) == [
        "Gap closed", "Score", "Retain", "Forget", "Test", "ToW", "JS forget", "Attacks",
        "Cost",
    ]  # fmt: skip
    assert (cells["Gap closed"].value, cells["Gap closed"].note) == (
        f"50{THIN}%",
        f"[45,{NB}55]",
    )
    assert (cells["Test"].value, cells["Test"].note, cells["Test"].heed) == ("93.4", "−1.6", True)
    assert (cells["Retain"].note, cells["Retain"].heed) == ("0.0", False)
    assert (cells["JS forget"].value, cells["JS forget"].note) == ("0.0085", "test 0.0100")
    assert (cells["Cost"].value, cells["Cost"].heed) == (f"30{THIN}%", True)


def test_without_a_test_set_there_are_no_cells_of_it() -> None:
    found = table(records.summary(test=False))
    assert found.heads == ["Gap closed", "Retain", "Forget", "JS forget", "Attacks", "Cost"]
    assert all(len(line.cells) == len(found.heads) for line in found.methods)


def test_the_two_scales_must_not_be_mixed() -> None:
    made = records.summary()
    assert 'class="warning"' not in render(made)
    made["experiment"]["rule"] = "exact"
    assert "two scales that must never be mixed" in render(made)


def test_many_names_are_counted_and_long_ones_cut() -> None:
    rows = [{"name": name} for name in "abcdef"]
    assert prose.listed(rows) == "a, b, c and 3 more"
    assert prose.listed(rows[:4]) == "a, b, c and d"
    assert prose.listed(rows[:1]) == "a"
    assert prose.inline("x" * 100) == "x" * 59 + "…"


def test_facts() -> None:
    made = records.summary()
    found = {head: words for head, words, _ in prose.facts(made)}
    assert found["Problem"] == "digits: 2 classes; examples: forget 5"
    assert found["Hardware"] == "AMD EPYC, 2 cores, Linux"
    assert "seeds 0 to 31 (protocol challenge)" in found["Models"]
    made["experiment"].update(protocol="paired", seed=2)
    assert "from as many originals" in prose.about_models(made["experiment"])
    assert "seeds 2000000 to 2000031" in prose.about_models(made["experiment"])


def test_a_class_without_a_name_and_only_controls() -> None:
    made = records.summary()
    made["gallery"][0]["class"] = ""
    assert "(no name)" in render(made)
    made["rows"] = [row for row in made["rows"] if row["control"]]
    assert "No method could be scored" in render(made)


def test_an_empty_gallery_has_no_section() -> None:
    made = records.summary()
    assert "Single forget examples" in render(made)
    made["gallery"] = []
    assert "Single forget examples" not in render(made)


def test_a_sham_that_passes_is_told() -> None:
    made = with_verdict(records.summary(), prose.PASSED, "sham")
    assert "cannot tell removed from hidden" in prose.shown(made)[1]
