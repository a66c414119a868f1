"""The section of the attacks: what was tried, found, at which power, and what was not shown."""

from __future__ import annotations

import re

import records

from expunge.report.attacks import attacks, p_value, said
from expunge.report.page import render
from expunge.report.page_tables import table

NB, THIN = "\N{NO-BREAK SPACE}", "\N{NARROW NO-BREAK SPACE}"


def test_every_method_has_a_page_with_each_attack() -> None:
    found = attacks(records.summary())
    assert found is not None
    assert [page.name for page in found.pages][:3] == ["retrain", "nothing", "sham"]
    assert len(found.pages) == 6
    page = found.pages[-1]
    assert (page.word, page.tone, page.power) == ("found", "bad", "With n = 16 and 16.")
    assert page.verdict == "1 of 2 attacks distinguish unlearned from retrained models."
    first, second, third = page.lines
    assert (first.area, first.p, first.word) == (
        f"0.900{NB}[0.85,{NB}0.95]",
        f"<{THIN}0.0001",
        "found",
    )
    assert (second.word, second.tone) == ("excluded", "good")
    assert (third.area, third.word) == ("", "not run")
    assert third.reason == "There is no unseen set."


def test_an_open_verdict_names_the_attacks_that_leave_it_open() -> None:
    found = attacks(records.summary())
    assert found is not None
    assert found.pages[0].verdict == (
        "No attack shows a difference (smallest p 0.3 after Holm), but one as large as the margin "
        "is not excluded by 1 of 2: U-LiRA."
    )
    assert found.pages[0].lines[0].word == "open"


def test_an_excluded_verdict_tells_of_a_smaller_difference() -> None:
    made = records.summary()
    record = made["rows"][-1]["attacks"]
    record["verdict"]["word"] = "excluded"
    record["tried"][0] = records.tried("U-LiRA", 0.04, 0.001, excluded=True)
    found = attacks(made)
    assert found is not None
    page = next(page for page in found.pages if page.name == "ours")
    assert page.verdict == (
        "All 2 attacks stay within the margin. A smaller difference is shown by U-LiRA."
    )
    assert page.lines[0].word == "excluded"


def test_notes_tell_examples_rates_and_what_was_not_shown() -> None:
    found = attacks(records.summary())
    assert found is not None
    notes = found.pages[-1].notes
    told = " ".join(words for _, words in notes)
    assert "no. 7 (0.93)" in told
    assert f"At 1.0{THIN}% false positives 8.4{THIN}% [7.0,{NB}10.0]" in told
    assert "refused. Got 80 non-members." in told
    assert "no. 3 (+0.20)" in told
    assert f"median 0.60{NB}nats (floor 0.50)" in told
    assert notes[-1][0] == "Not shown"
    assert "Not run: SVC." in notes[-1][1]
    assert "no shadow models" in notes[-1][1]
    assert ("Needs no retrained model", "ZRF 0.500 (nats).") in notes


def test_membership_by_shadows_has_a_row_each() -> None:
    made = records.summary()
    made["rows"][-1]["membership"] = records.recognised()
    found = attacks(made)
    assert found is not None
    seen = next(page.seen for page in found.pages if page.name == "ours")
    assert [(each.name, each.group) for each in seen][:2] == [
        ("LiRA, forget", "original"), ("LiRA, forget", "unlearned"),
    ]  # fmt: skip
    assert [each.rate for each in seen][:2] == [f"2.0{THIN}%", "unresolved"]
    page = render(made)
    assert "Recognised as members of the training set" in page


def test_false_alarms_stand_in_every_report() -> None:
    page = render(records.summary())
    assert "found something in 1 of 40 repetitions" in page
    made = records.summary()
    made["false_alarms"] = {"reason": "8 retrained models are too few."}
    assert "False alarms of the attacks are not known: 8 retrained models" in render(made)


def test_a_void_baseline_is_told() -> None:
    made = records.summary()
    made["blind"] = {"void": True, "said": "The attack is void."}
    assert "own success is void then" in render(made)
    made["blind"] = {"reason": "no test set"}
    assert "without a model" not in render(made)


def test_what_was_shown_counts_the_verdicts_and_checks_the_controls() -> None:
    made = records.summary()
    told = said(made)
    assert told[0].startswith("The attacks distinguish unlearned from retrained models for 3 of 3")
    assert not any("fail a control" in words for words in told)
    made["rows"][0]["attacks"] = records.attacks("found")
    made["rows"][1]["attacks"] = records.attacks("inconclusive")
    failing = [words for words in said(made) if "fail a control" in words]
    assert len(failing) == 2


def test_a_summary_without_attacks_has_no_section() -> None:
    made = records.summary()
    for row in made["rows"]:
        del row["attacks"], row["retrain_free"]
    for part in ("false_alarms", "blind", "retrain_free"):
        del made[part]
    assert attacks(made) is None
    assert said(made) == []
    assert "<h2>Attacks</h2>" not in render(made)
    assert "Attacks" not in table(made).heads


def test_words_and_marks_of_the_cell() -> None:
    cells = {cell.label: cell for cell in table(records.summary()).methods[0].cells}
    assert (cells["Attacks"].value, cells["Attacks"].note) == ("found", "0.68 an example")


def test_a_p_value_in_print() -> None:
    assert p_value(1e-9) == f"<{THIN}0.0001"
    assert [p_value(p) for p in (0.00012, 0.0423, 1.0)] == ["0.00012", "0.042", "1"]


def test_the_pages_can_be_unfolded_without_a_script() -> None:
    page = render(records.summary())
    assert len(re.findall('<details class="attacked">', page)) == 6
    assert "<script" not in page
