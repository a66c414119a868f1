"""The card of the audits: what was measured, what was found, how much, and what was not shown."""

from __future__ import annotations

import re
from typing import Any

import pytest
import records

from expunge.audits.finding import AuditQuestion, recorded
from expunge.audits.images.answers import ForgetConfidence
from expunge.audits.images.probe import IllusionGap, LinearProbe
from expunge.audits.images.relearn import Quantise, Relearn
from expunge.experiments.classifier_rows import AUDITS, ClassifierRow
from expunge.report.audits import AXIS, alarms, cards, intro, said, scale
from expunge.report.page import render
from expunge.report.page_tables import table
from expunge.report.terminal import plain

NB, THIN = "\N{NO-BREAK SPACE}", "\N{NARROW NO-BREAK SPACE}"
ORACLE, ORIGINAL = (0.1, 0.12, 0.11, 0.09), (0.9, 0.92, 0.91, 0.89)
ALIKE = (0.105, 0.115, 0.11, 0.09)


def findings(share: float) -> dict[str, Any]:
    """What audits find where a share of the original's lead is left in one of them."""
    left = tuple(value + 0.8 * share for value in ALIKE)
    asked = [
        AuditQuestion(LinearProbe(), left, ORACLE, ORIGINAL),
        AuditQuestion(ForgetConfidence(), ALIKE, ORACLE, ORIGINAL),
        AuditQuestion(IllusionGap(), ALIKE, ORACLE, ORIGINAL),
        AuditQuestion(Relearn(), reason="It has no <heart>."),
    ]
    return {"models": 4, **recorded(asked)}


def summary() -> dict[str, Any]:
    made = records.summary()
    for row in made["rows"]:
        row["audits"] = findings({"retrain": 0.0, "nothing": 1.0}.get(row["name"], 0.75))
    rate = {"value": 0.05, "low": 0.01, "high": 0.17, "n": 40}
    made["audit_alarms"] = {"rate": rate, "models": 8, "by_audit": {}}
    return made


def test_a_card_has_a_line_an_audit_with_means_share_power_and_word() -> None:
    card = cards(summary())["ours"]
    assert (card.word, card.tone) == ("found by 1 of 3", "bad")
    assert card.verdict == (
        "1 of 3 audits, on 4 models, find a difference from retrained models. "
        f"Most was found by LinearProbe(): {card.lines[0].recovered} recovered."
    )
    probe, answers, gap, broken = card.lines
    assert re.fullmatch(rf"0\.75{NB}\[0\.\d\d,{NB}0\.\d\d\]", probe.recovered)
    assert (probe.word, probe.tone) == ("found", "bad")
    assert probe.means == (("Unlearned", "0.705"), ("Retrained", "0.105"), ("Original", "0.905"))
    assert probe.power[0].startswith("finds 0.0") and probe.power[1].startswith("excludes 0.0")
    assert (answers.word, answers.tone) == ("excluded", "good")
    assert gap.strip is None and gap.recovered.endswith("share right apart")
    assert (broken.word, broken.reason) == ("unscored", "It has no <heart>.")
    assert "No number: Relearn()." in card.open


def test_a_strip_stands_between_the_anchors() -> None:
    card, anchors = cards(summary())["ours"], scale()
    place = card.lines[0].strip
    assert place is not None
    assert anchors.retrained.value < place.low < place.value < place.high
    assert place.value < anchors.original == AXIS.at(1.0)
    assert place.value == pytest.approx(AXIS.at(0.75), abs=0.01)
    beyond = cards(summary())["nothing"].lines[0].strip
    assert beyond is not None and beyond.value == pytest.approx(AXIS.at(1.0), abs=0.01)


def test_an_open_verdict_says_how_many_exclude() -> None:
    made = summary()
    wide = (0.02, 0.2, 0.12, 0.09)
    noisy = recorded([AuditQuestion(LinearProbe(), wide, wide[::-1], ORIGINAL)])
    made["rows"][0]["audits"] = {"models": 4, **noisy}
    card = cards(made)["retrain"]
    assert card.word == "inconclusive"
    assert card.verdict.startswith("None of 1 audits, on 4 models, shows a difference")
    assert "0 exclude one as large as the margin" in card.verdict
    assert card.lines[0].word == "inconclusive"
    assert card.open.startswith("Neither found nor excluded: LinearProbe().")


def test_an_excluded_verdict_and_one_without_numbers() -> None:
    made = summary()
    card = cards(made)["retrain"]
    assert card.verdict == "All of 3 audits, on 4 models, exclude a difference as large as " + (
        "the margin."
    )
    made["rows"][0]["audits"] = {"models": 4, **recorded([AuditQuestion(Relearn(), reason="No.")])}
    card = cards(made)["retrain"]
    assert (card.word, card.tone) == ("unscored", "unknown")
    assert card.verdict == "No audit of these can tell originals from retrained models here."
    assert '<p class="said"></p>' not in render(made)


def test_less_than_in_retrained_models_is_told() -> None:
    made = summary()
    less = AuditQuestion(Quantise(), tuple(value - 0.5 for value in ALIKE), ORACLE, ORIGINAL)
    made["rows"][-1]["audits"] = {"models": 4, **recorded([less])}
    card = cards(made)["ours"]
    assert card.word == "found by 1 of 1"
    assert "Most" not in card.verdict
    assert card.verdict.endswith(
        "Less than in retrained models, which can be seen too: Quantise()."
    )


def test_the_sham_is_said_to_be_caught_or_the_audits_to_be_weak() -> None:
    told = said(summary())
    assert told[0] == (
        "Audits of the weights distinguish unlearned from retrained models for 3 of 3 methods: "
        "ascent, prune and ours."
    )
    assert any("“sham”" in words and "caught by 1 of 3 audits, most by Linear" in words
               for words in told)  # fmt: skip
    assert not any("fail a control" in words for words in told)
    made = summary()
    rows = {row["name"]: row for row in made["rows"]}
    rows["retrain"]["audits"], rows["sham"]["audits"] = findings(0.75), findings(0.0)
    rows["nothing"]["audits"] = findings(0.0)
    failing = [words for words in said(made) if "fail a control" in words]
    assert len(failing) == 3


def test_false_alarms_of_the_audits_stand_in_the_report() -> None:
    made = summary()
    assert f"in 2 of 40 repetitions, 5{THIN}% [1,{NB}17]" in alarms(made)
    assert "False alarms of the audits: between random halves" in render(made)
    made["audit_alarms"] = {"reason": "4 retrained models are too few."}
    assert alarms(made).endswith("are not known: 4 retrained models are too few.")
    assert intro(made)[1] == alarms(made)


def test_the_page_has_a_card_in_every_method_and_escapes_reasons() -> None:
    page = render(summary())
    assert page.count('<table class="tried audits">') == 6
    assert "It has no &lt;heart&gt;." in page
    assert "Attacks and audits</h2>" in page
    assert "Audits of the weights are below." in page
    assert "attacks: found" in page and "audits: found by 1 of 3" in page
    cells = {cell.label: cell for cell in table(summary()).methods[0].cells}
    assert (cells["Audits"].value, cells["Audits"].note) == ("found", "1 of 3")


def test_a_summary_without_audits_says_nothing_of_them() -> None:
    made = records.summary()
    assert (cards(made), intro(made), said(made)) == ({}, [], [])
    page = render(made)
    assert "Audits" not in page and "audits:" not in page
    assert "Audits" not in table(made).heads


def test_the_narrow_column() -> None:
    record = records.row("ours", 0.1)
    for audits, shown in (
        (findings(0.75), "found 1 of 3"), (findings(0.0), "excluded"), ({}, "-"),
    ):  # fmt: skip
        row = ClassifierRow.from_json({**record, "audits": audits})
        assert isinstance(row, ClassifierRow)
        assert AUDITS.cell(row) == shown
    made = summary()
    for row in made["rows"]:
        for name in ("retain", "forget", "test"):
            row["scores"][f"accuracy_{name}"]["oracle"] = 0.9
    lines = plain(made).splitlines()
    assert " audits " in lines[0]
    assert "found 1 of 3" in lines[2] + lines[3]
    assert any("they found something in 2 of 40 repetitions" in line for line in lines)
