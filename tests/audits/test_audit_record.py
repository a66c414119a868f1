"""From values to a record: findings with what they rest on, the family, and false alarms."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from expunge.audits.finding import (
    REPETITIONS,
    AuditQuestion,
    alarms,
    family,
    found,
    recorded,
    shown,
)
from expunge.audits.images.answers import ForgetConfidence
from expunge.audits.images.probe import IllusionGap, LinearProbe
from expunge.audits.images.relearn import Quantise, Relearn
from expunge.audits.panel import STANDARD, asked, check_audits
from expunge.errors import BadSentence
from expunge.statistics.result import Effect, Interval

ORACLE, ORIGINAL = (0.1, 0.12, 0.11, 0.09), (0.9, 0.92, 0.91, 0.89)


def answered(audit: Any, *subject: float, oracle: tuple[float, ...] = ORACLE) -> AuditQuestion:
    return AuditQuestion(audit, subject, oracle, ORIGINAL)


def test_a_finding_is_told_with_all_that_it_rests_on() -> None:
    told = recorded([answered(ForgetConfidence(), 0.5, 0.52, 0.51, 0.49)])
    (one,) = told["findings"]
    assert (one["audit"], one["word"], one["unit"]) == (
        "ForgetConfidence()",
        "found",
        "probability",
    )
    assert one["recovered"]["value"] == pytest.approx((0.505 - 0.105) / (0.905 - 0.105))
    assert one["recovered"]["low"] < 0.5 < one["recovered"]["high"]
    assert one["effect"]["n"] == [4, 4, 4]
    assert one["effect"]["margin"] == 0.1
    assert one["effect"]["adjusted"] == pytest.approx(one["effect"]["p"])
    assert "in 80 % of experiments" in one["power"]
    assert (one["subject"], one["oracle"]) == ([0.5, 0.52, 0.51, 0.49], list(ORACLE))
    assert told["verdict"]["word"] == "found"
    assert (told["shown"], told["scored"]) == (["ForgetConfidence()"], 1)
    assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_holm_counts_every_audit_that_is_scored_and_no_other() -> None:
    near = answered(ForgetConfidence(), 0.12, 0.13, 0.125, 0.115)
    alone = found(near)
    assert alone.word != "unscored"
    many = [near, *(answered(Quantise(bits=bits), 0.1, 0.12, 0.11, 0.09) for bits in range(2, 8))]
    broken = AuditQuestion(LinearProbe(), reason="It broke.")
    adjusted = family([found(one) for one in [*many, broken]])
    assert len(adjusted) == 7
    assert isinstance(alone.effect, Effect)
    assert adjusted["ForgetConfidence()"] == pytest.approx(7 * alone.effect.p)
    told = recorded([*many, broken])
    assert told["scored"] == 7
    assert told["findings"][-1]["word"] == "unscored"
    assert told["findings"][-1]["reason"] == "It broke."
    assert "effect" not in told["findings"][-1]


def test_a_difference_within_the_margin_is_not_shown() -> None:
    # shown beyond doubt, and a hundredth of the lead: excluded, not found
    small = AuditQuestion(ForgetConfidence(), (0.11, 0.1101), (0.1, 0.1001), (0.9, 0.9001))
    told = recorded([small])
    assert told["findings"][0]["word"] == "excluded"
    assert told["findings"][0]["effect"]["p"] < 0.05
    assert told["shown"] == []
    assert told["verdict"]["word"] == "excluded"


def test_what_cannot_be_judged_is_unscored_with_the_reason() -> None:
    told = recorded([AuditQuestion(ForgetConfidence(), (0.5,), (0.1,), (0.9,))])
    assert told["findings"][0]["word"] == "unscored"
    assert "at least 2" in told["findings"][0]["reason"]
    assert told["verdict"]["word"] == "unscored"
    assert (told["shown"], told["scored"]) == ([], 0)
    alike = recorded([AuditQuestion(ForgetConfidence(), (0.5,), ORACLE, ORACLE)])
    assert "does not tell originals from retrained" in alike["findings"][0]["reason"]


def test_an_audit_without_an_anchor_has_an_effect_and_no_share() -> None:
    told = recorded([answered(IllusionGap(), 0.5, 0.52, 0.51, 0.49)])["findings"][0]
    assert "recovered" not in told
    assert told["effect"]["unit"] == "share right"
    assert told["word"] == "found"


def test_an_interval_without_end_is_unscored(monkeypatch: pytest.MonkeyPatch) -> None:
    import expunge.audits.finding as record

    whole = found(answered(ForgetConfidence(), 0.5, 0.52))
    assert isinstance(whole.recovered, Interval)
    endless = replace(whole, recovered=replace(whole.recovered, high=math.inf))
    monkeypatch.setattr(record, "judge", lambda *_, **__: endless)
    told = recorded([answered(ForgetConfidence(), 0.5, 0.52)])
    assert told["findings"][0]["word"] == "unscored"
    assert json.dumps(told, allow_nan=False)


def test_alike_halves_raise_few_alarms_and_unlike_ones_many() -> None:
    draws = np.random.default_rng(0)

    def group(count: int, shift: float = 0.0) -> tuple[float, ...]:
        return tuple(draws.normal(0.1 + shift, 0.01, count).tolist())

    audits = [ForgetConfidence(), Quantise(), LinearProbe()]
    fair = [AuditQuestion(audit, group(8), group(8), ORIGINAL) for audit in audits]
    told = alarms(fair, np.random.default_rng(1))
    assert told["rate"]["n"] == REPETITIONS
    assert told["rate"]["value"] <= 0.15
    assert told["rate"]["low"] <= told["rate"]["value"] <= told["rate"]["high"]
    assert told["models"] == 8
    assert set(told["by_audit"]) == {repr(audit) for audit in audits}
    # Two clusters are found wherever a draw parts them unevenly: more often than 1 in 20.
    two = [AuditQuestion(one.audit, group(8, 0.5), group(8), ORIGINAL) for one in fair]
    apart = [shown([found(one)]) for one in two]
    assert all(apart)
    assert alarms(fair, np.random.default_rng(1)) == told


def test_alarms_of_too_few_models_are_a_reason() -> None:
    few = [AuditQuestion(ForgetConfidence(), (0.1, 0.2), (0.1, 0.3), ORIGINAL)]
    assert "4 retrained models are too few; 6" in alarms(few, np.random.default_rng(0))["reason"]
    none = [AuditQuestion(ForgetConfidence(), reason="no")]
    assert "No audit could" in alarms(none, np.random.default_rng(0))["reason"]


def test_audits_are_read_from_sentences() -> None:
    assert asked([], "x") == ()
    assert asked(["standard"], "x") == STANDARD
    assert asked(["Relearn(share=0.2)", " Quantise(bits=8) "], "x") == (
        Relearn(share=0.2),
        Quantise(bits=8),
    )
    assert asked([repr(audit) for audit in STANDARD], "x") == STANDARD


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("standard", "must be a list of sentences"),
        ([3], "must be a list of sentences"),
        ({"a": 1}, "must be a list of sentences"),
        (["x" * 5000], "is no audit"),
        (["standrd"], "'standrd' is no audit. Did you mean standard?"),
        (["Relern"], "'Relern' is no audit. Did you mean Relearn?"),
        (["Relearn"], "Write Relearn()"),
        (["Relern()"], "Did you mean Relearn?"),
        (["Noise(0.1)"], "'Noise(0.1)' is no audit; there are standard,"),
        (["Relearn(), Prune()"], "is 2 sentences; write each by itself"),
        (["0.5"], "'0.5' is no audit"),
        (["Relearn(shares=0.1)"], "It takes"),
        (["Relearn(share=2)"], "share must lie between"),
        (["__import__('os')"], "No word"),
    ],
)
def test_what_is_no_audit_is_told(said: Any, told: str) -> None:
    with pytest.raises(BadSentence) as fault:
        asked(said, "my.toml")
    assert told in str(fault.value)
    assert len(str(fault.value)) < 1000


def test_audits_are_checked() -> None:
    check_audits(STANDARD, 8)
    with pytest.raises(BadSentence, match=r"Relearn\(\) is there twice"):
        check_audits((Relearn(), Relearn()), 8)
    with pytest.raises(BadSentence, match="audited = 1"):
        check_audits((), 1)
    with pytest.raises(BadSentence, match="'Relearn' is no audit"):
        check_audits(("Relearn",), 8)  # type: ignore[arg-type]


def test_what_holm_takes_back_is_not_shown() -> None:
    near = answered(ForgetConfidence(), 0.13, 0.3, 0.25, 0.2)
    alone = recorded([near])
    assert 0.01 < alone["findings"][0]["effect"]["p"] < 0.05
    assert (alone["shown"], alone["verdict"]["word"]) == (["ForgetConfidence()"], "found")
    rest = [answered(Quantise(bits=bits), 0.1, 0.12, 0.11, 0.09) for bits in range(2, 8)]
    told = recorded([near, *rest])
    assert told["findings"][0]["word"] == "found"
    assert (told["shown"], told["verdict"]["word"]) == ([], "inconclusive")
