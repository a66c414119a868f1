"""The verdict in five words: every rule by a hand-made table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from expunge.audits.verdict import AuditEffect, conclude, held_back
from expunge.errors import BadEvidence, ExpungeError
from expunge.metrics.agreement import Unscored, lost_half
from expunge.statistics.result import Effect


def effect(value: float, half: float, p: float, *, margin: float = 0.1) -> Effect:
    """A share with the half width of its interval of 90 %."""
    return Effect(
        "e", "of the original's lead", value, value - half, value + half, p, 0.5, margin, 0.05,
        (10, 3), 2 * half, 1.8 * half,
    )  # fmt: skip


NONE, SOME, MOST = effect(0.0, 0.04, 0.9), effect(0.3, 0.05, 1e-4), effect(0.9, 0.05, 1e-6)
WIDE, LESS = effect(0.05, 0.2, 0.6), effect(-0.3, 0.05, 1e-4)
BEYOND = effect(2.0, 0.5, 1e-4)
TINY = effect(0.04, 0.02, 1e-3)


def heard(asked: Effect | Unscored, **others: Effect | Unscored) -> list[AuditEffect]:
    plain = AuditEffect("Ask()", "asking", asked, "1 query", plain=True)
    return [plain, *(AuditEffect(f"{n}()", n, e, f"cost of {n}") for n, e in others.items())]


@pytest.mark.parametrize(
    ("witnesses", "word", "attack"),
    [
        (heard(NONE, relearning=NONE, transforms=NONE), "removed", ""),
        (heard(TINY, relearning=NONE), "removed", ""),
        (heard(LESS, relearning=NONE), "removed", ""),
        (heard(NONE, relearning=MOST, transforms=NONE), "suppressed", "relearning()"),
        (heard(NONE, relearning=SOME, transforms=MOST), "suppressed", "transforms()"),
        (heard(LESS, relearning=MOST), "suppressed", "relearning()"),
        (heard(SOME, relearning=MOST), "suppressed", "relearning()"),
        (heard(MOST, relearning=MOST, transforms=NONE), "not forgotten", "Ask()"),
        (heard(SOME, relearning=NONE), "not forgotten", "Ask()"),
        (heard(MOST, inside=BEYOND), "not forgotten", "Ask()"),
        (heard(SOME, inside=BEYOND), "suppressed", "inside()"),
        (heard(WIDE, relearning=NONE), "inconclusive", ""),
        (heard(NONE, relearning=WIDE), "inconclusive", ""),
        (heard(NONE), "inconclusive", ""),
        (heard(NONE, relearning=Unscored("no lead")), "inconclusive", ""),
        (heard(Unscored("no lead"), relearning=MOST), "inconclusive", ""),
    ],
)
def test_the_table(witnesses: list[AuditEffect], word: str, attack: str) -> None:
    found = conclude(witnesses)
    assert (found.word, found.attack) == (word, attack)


def test_collapse_comes_first_whatever_was_found() -> None:
    found = conclude(heard(NONE, relearning=MOST), collapse="It writes nothing.")
    assert (found.word, found.reason) == ("collapsed", "It writes nothing.")


def test_the_attack_is_named_with_its_cost() -> None:
    found = conclude(heard(NONE, relearning=MOST))
    assert found.cost == "cost of relearning"
    assert "relearning() 0.90" in found.reason
    assert "Ask() 0.00" in found.reason


def test_a_soft_prompt_is_never_evidence_by_itself() -> None:
    soft = AuditEffect("Soft()", "asking", MOST, decisive=False)
    found = conclude([*heard(NONE, relearning=NONE), soft])
    assert found.word == "removed"
    assert "Shown, and never evidence by itself: Soft()." in found.notes


def test_an_audit_without_power_convicts_and_does_not_stand_in_the_way() -> None:
    weak = AuditEffect("Probe()", "inside", WIDE, powered=False)
    found = conclude([*heard(NONE, relearning=NONE), weak])
    assert found.word == "removed"
    assert any("Probe()" in note for note in found.notes)
    loud = replace(weak, effect=MOST)
    assert conclude([*heard(NONE, relearning=NONE), loud]).word == "suppressed"
    # and alone with plain asking it acquits nobody
    assert conclude([*heard(NONE), weak]).word == "inconclusive"


def test_over_unlearning_is_told() -> None:
    assert any("knows less" in note for note in conclude(heard(LESS, relearning=NONE)).notes)
    assert not conclude(heard(NONE, relearning=NONE)).notes


def test_holm_takes_more_than_one_small_p_among_many() -> None:
    lucky = effect(0.3, 0.29, 0.02)
    one = heard(NONE, first=lucky)
    many = heard(NONE, first=lucky, **{f"other{n}": NONE for n in range(8)})
    assert conclude(one).word == "suppressed"
    assert conclude(many).word == "inconclusive"


def test_the_power_is_of_the_weakest_that_counts() -> None:
    found = conclude(heard(NONE, relearning=WIDE))
    assert found.power.startswith("relearning(): With n = 10 and 3")
    assert "times as much to measure on" in found.reason


@pytest.mark.parametrize(
    "witnesses",
    [
        [],
        [AuditEffect("A()", "relearning", NONE)],
        [*heard(NONE), *heard(NONE)],
        [*heard(NONE), AuditEffect("B()", "inside", replace(NONE, alpha=0.01))],
    ],
)
def test_what_no_verdict_can_rest_on_is_refused(witnesses: list[AuditEffect]) -> None:
    with pytest.raises(BadEvidence):
        conclude(witnesses)


def test_who_only_stammers_about_what_was_to_be_forgotten_is_not_called_removed() -> None:
    said = "60% of its 90 answers are broken."
    found = conclude(heard(NONE, relearning=NONE), garbled=said)
    assert found.word == "inconclusive"
    assert found.reason.endswith(f" But {said}")
    assert found.power
    # what is shown to be left is no better or worse for it, and it is told
    for asked, word in ((NONE, "suppressed"), (MOST, "not forgotten")):
        told = conclude(heard(asked, relearning=MOST), garbled=said)
        assert told.word == word
        assert said in told.notes
    assert conclude(heard(WIDE, relearning=NONE), garbled=said).notes == (said,)
    assert conclude(heard(NONE), collapse="It writes nothing.", garbled=said).word == "collapsed"


def test_the_untouched_original_does_not_seem_to_hide_among_many_audits_of_few_models() -> None:
    few, sure = effect(1.0, 0.4, 0.018), effect(1.0, 0.1, 1e-3)
    others = {f"other{n}": few for n in range(4)}
    assert conclude(heard(few, relearning=sure, **others)).word == "not forgotten"
    # what is not shown even by itself is no telling
    assert conclude(heard(effect(0.6, 0.7, 0.1), relearning=sure)).word == "suppressed"
    assert conclude(heard(effect(0.6, 0.7, 0.04), relearning=sure)).word == "not forgotten"


def test_nobody_is_removed_where_a_control_is() -> None:
    removed, other = conclude(heard(NONE, relearning=NONE)), conclude(heard(NONE, relearning=MOST))
    held = held_back(removed, removed, "the list")
    assert held.word == "inconclusive"
    assert "acquit the list" in held.reason
    assert held.power == removed.power
    assert held_back(removed, other) == removed
    assert held_back(other, removed) == other


def test_alpha_is_checked() -> None:
    with pytest.raises(ExpungeError, match="alpha"):
        conclude(heard(NONE), alpha=0.0)


def test_a_share_that_rounds_to_nothing_has_no_sign() -> None:
    least = effect(-0.001, 0.002, 0.9)
    found = conclude(heard(MOST, relearning=least))
    told = conclude(heard(replace(MOST, low=-0.001), relearning=NONE))
    assert "-0.00" not in found.reason + told.reason
    assert "0.00 to" in told.reason


@pytest.mark.parametrize(
    ("own", "usual", "floor", "collapsed"),
    [
        (0.54, 0.9, 0.2, True),  # half of the gain over 0.2 ends at 0.55
        (0.55, 0.9, 0.2, False),
        (0.44, 0.9, 0.0, True),
        (0.45, 0.9, 0.0, False),
        (0.0, 0.2, 0.2, False),  # retrained models gain nothing, so that nothing is lost
        (0.0, 0.1, 0.2, False),
    ],
)
def test_a_model_that_lost_half_of_the_usual_gain_has_collapsed(
    own: float, usual: float, floor: float, collapsed: bool
) -> None:
    assert lost_half(own, usual, floor) == collapsed
