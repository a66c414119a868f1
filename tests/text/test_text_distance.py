"""The distance to the oracle: by hand, between its anchors, and whom it may never put first."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import text_tools
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.errors import BadEvidence
from expunge.experiments.rows import RowHead, UnlearningCost
from expunge.experiments.text.language_rows import COLUMNS, Distance, LanguageRow, LanguageScores
from expunge.experiments.text.normalised_metrics import (
    Draws,
    Gauge,
    MetricRow,
    RecordedAnswers,
    distance,
    grouped,
    limits,
    shares,
    table,
)
from expunge.experiments.text.scoring import guarded, judged, keywords
from expunge.metrics.row_label import language_flags, language_row_label
from expunge.metrics.text.likelihood import (
    probability,
    truth_ratio_closer_to_1,
    truth_ratio_true_better,
)
from expunge.metrics.text.membership import ATTACKS
from expunge.metrics.text.memorisation import rouge_recall
from expunge.problems.text.by_name import REFUSAL
from expunge.problems.text.evaluation_sets import EvaluationSet
from expunge.report.terminal import cells
from expunge.statistics.roc_area import auc


def gauge(side: str, subject: float, oracle: float, original: float, scale: float) -> Gauge:
    return Gauge(
        probability,
        side,
        side,
        np.full((3, 4), subject),
        np.full((2, 4), oracle),
        np.full((1, 4), original),
        scale,
    )


def draws(*gauges: Gauge) -> Draws:
    widths = {one.set: one.subject.shape[1] for one in gauges}
    return Draws.of(widths, (3, 2, 1), np.random.default_rng(0))


def apart(*gauges: Gauge) -> Distance:
    return distance(gauges, draws(*gauges))


def test_the_distance_by_hand() -> None:
    found = apart(
        gauge("forget", 0.3, 0.1, 0.9, 0.8),  # 0.2 of 0.8
        gauge("forget", 0.0, 0.4, 1.0, 0.6),  # as far below: 0.4 of 0.6
        gauge("retain", 0.7, 0.9, 0.9, 0.8),  # 0.2 of 0.8
    )
    forget = (0.25 + 2 / 3) / 2
    assert found.forget == pytest.approx(forget)
    assert found.retain == pytest.approx(0.25)
    assert found.value == pytest.approx(math.hypot(forget, 0.25))
    assert found.of_models == pytest.approx([found.value] * 3)
    assert found.low == pytest.approx(found.high) == pytest.approx(found.value)
    assert found.n == 3


def test_the_anchors_are_at_nought_and_one() -> None:
    assert (
        apart(gauge("forget", 0.1, 0.1, 0.9, 0.8), gauge("retain", 0.9, 0.9, 0.9, 0.8)).value == 0
    )
    same = apart(gauge("forget", 0.9, 0.1, 0.9, 0.8), gauge("retain", 0.9, 0.9, 0.9, 0.8))
    assert same.value == pytest.approx(1.0)


def test_gauges_without_a_scale_do_not_count() -> None:
    near = gauge("retain", 0.0, 0.9, 0.9, 0.04)
    both = (gauge("forget", 0.1, 0.1, 0.9, 0.8), gauge("retain", 0.8, 0.9, 0.9, 0.8))
    assert not near.counts
    assert apart(*both, near).value == apart(*both).value
    with pytest.raises(BadEvidence, match="retain side"):
        apart(both[0], near)


def test_gauges_on_which_oracles_disagree_do_not_count() -> None:
    shaky = gauge("retain", 0.5, 0.9, 0.9, 0.3)
    assert shaky.counts
    oracles = np.array([[0.8] * 4, [1.0] * 4])  # a standard deviation of 0.14: 0.57 is needed
    assert not replace(shaky, oracle=oracles).counts
    assert replace(shaky, oracle=oracles, scale=0.6).counts


def test_models_are_not_averaged_before_the_gap_is_taken() -> None:
    """One model that knows too much and one that knows too little are not as retrained."""
    mixed = gauge("forget", 0.0, 0.5, 1.0, 0.5)
    mixed = replace(mixed, subject=np.array([[0.2] * 4, [0.8] * 4, [0.5] * 4]))
    found = apart(mixed, gauge("retain", 0.9, 0.9, 0.9, 0.8))
    assert found.forget == pytest.approx((0.6 + 0.6 + 0.0) / 3)


def test_the_interval_widens_with_the_differences_between_models() -> None:
    still = gauge("retain", 0.9, 0.9, 0.9, 0.8)
    calm = gauge("forget", 0.5, 0.1, 0.9, 0.8)
    wild = replace(calm, subject=np.array([[0.3] * 4, [0.5] * 4, [0.7] * 4]))
    near, far = apart(calm, still), apart(wild, still)
    assert near.value == pytest.approx(far.value)
    assert near.high - near.low < 1e-9 < 0.1 < far.high - far.low


def test_shares_are_those_of_drawings_with_replacement() -> None:
    found = shares(5, np.random.default_rng(1))
    assert np.allclose(found.sum(axis=1), 1)
    assert np.allclose(found * 5, (found * 5).round())
    assert found.mean(axis=0) == pytest.approx([0.2] * 5, abs=0.02)
    assert limits(np.linspace(0, 1, 1001), 2.0) == pytest.approx((0.025, 2.0))


SAID = {"forget": range(9), "retain": range(100, 109), "holdout": range(200, 209)}


@cache
def sets() -> tuple[EvaluationSet, ...]:
    """Three sets of nine questions on three subjects each, which nobody is asked."""
    taught = text_tools.setting().asked[0]
    made = []
    for side in ("forget", "retain", "holdout"):
        items = tuple(
            replace(taught.items[0], index=n, subject=f"{side} {n % 3}") for n in SAID[side]
        )
        texts = replace(taught.texts, made=taught.texts.made[:1] * 9, instead=())
        made.append(replace(taught, name=side, side=side, items=items, texts=texts))
    return tuple(made)


def witness(
    forget: float, retain: float, said: str = "true", kept: str = "true"
) -> RecordedAnswers:
    """A model that gives true answers these chances; what it says where it does not know."""
    return RecordedAnswers(
        {
            "forget": text_tools.answers(forget, said, SAID["forget"], wrong=0.1),
            "retain": text_tools.answers(retain, kept, SAID["retain"], wrong=0.1),
            "holdout": text_tools.answers(0.1, said, SAID["holdout"], wrong=0.1),
        }
    )


ORACLE = [witness(0.1, 0.95, "answer number of mine"), witness(0.11, 0.95, "answer number of his")]
ORIGINAL = [witness(0.95, 0.95)]
KNOWN = ("answer number of mine, his and ours", "words", *(f"{n}" for n in range(300)))


def scores(subject: RecordedAnswers) -> LanguageScores:
    found = judged(MetricRow(sets(), [subject], ORACLE, ORIGINAL), KNOWN, 0)
    return replace(found, cost=UnlearningCost(time_share=0.1))


def numbers(subject: RecordedAnswers) -> dict[str, Any]:
    """As the words of a row are made from them."""
    return scores(subject).to_json()


def far(subject: RecordedAnswers) -> float:
    return scores(subject).distance.value


GIBBERISH = "11 11 11 11 11 11 11 11"


def test_neither_gibberish_nor_a_filter_nor_the_original_comes_first() -> None:
    good = far(witness(0.15, 0.93, "answer number of ours"))
    half = far(witness(0.5, 0.9, "answer number of ours"))
    behind = RecordedAnswers(
        {
            name: replace(answers, generations=(REFUSAL,) * 9 if name == "forget" else said)
            for name, answers in ORIGINAL[0].answers.items()
            for said in [answers.generations]
        }
    )
    controls = {
        "nothing": far(ORIGINAL[0]),
        "gibberish": far(witness(1e-6, 1e-6, GIBBERISH, GIBBERISH)),
        "filter": far(behind),
        "silent": far(witness(1e-6, 0.93, "")),
    }
    assert good < half < min(controls.values())
    assert controls["nothing"] == pytest.approx(1.0, abs=0.05)
    assert controls["gibberish"] > 1
    assert controls["filter"] > 0.6


@settings(max_examples=20, deadline=None)
@given(
    forget=st.floats(0.02, 0.9),
    lost=st.floats(1e-6, 0.5),
    said=st.sampled_from(["true", GIBBERISH, "", REFUSAL]),
)
def test_losing_what_is_kept_never_brings_a_model_nearer(
    forget: float, lost: float, said: str
) -> None:
    assert far(witness(forget, lost, said, GIBBERISH)) > far(witness(forget, 0.95, said))


def test_collapse_is_shown_as_collapse() -> None:
    found = scores(witness(1e-6, 1e-6, GIBBERISH, GIBBERISH))
    assert found.collapse["retain"].collapsed
    assert found.collapse["forget"].reasons["repetition"] == 1
    ends = {"high": 0.1}, {"value": 1.0}
    assert "collapsed" in language_row_label("any", found.to_json(), *ends)
    row = LanguageRow(RowHead("any"), found, "collapsed")
    names = [column.name for column in COLUMNS]
    assert dict(zip(names, cells(COLUMNS, row), strict=True))["broken"] == "100%"


def test_scores_come_back_from_json_as_they_were() -> None:
    found = scores(ORIGINAL[0])
    record = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert json.loads(json.dumps(LanguageScores.from_json(record).to_json())) == record
    assert "forget_quality" in record and "trace" not in record and "filter" not in record
    behind = replace(found, filter=found)
    kept = json.loads(json.dumps(behind.to_json()))
    assert kept["filter"] == {name: one for name, one in record.items() if name != "cost"}
    assert LanguageScores.from_json(kept).filter is not None


def test_a_refusal_is_no_gibberish() -> None:
    side = scores(witness(1e-6, 0.95, REFUSAL)).collapse["forget"]
    assert side.refused == 1
    assert side.share == 0
    assert not side.collapsed


def test_verdicts_in_plain_words() -> None:
    ends = {"high": 0.1}, {"value": 1.0}
    told = {
        "as near as retraining": witness(0.105, 0.95, "answer number of ours"),
        "still remembers": witness(0.5, 0.94, "answer number of ours"),
        "overshoots": witness(0.09, 0.95, "words"),
        "loses": witness(0.1, 0.5, "answer number of ours"),
        "refuses": witness(0.5, 0.95, REFUSAL),
    }
    for words, one in told.items():
        assert language_row_label("any", numbers(one), *ends).startswith(words), words
    assert "no nearer" in language_row_label("any", numbers(ORIGINAL[0]), *ends)
    assert "original" in language_row_label("nothing", numbers(ORIGINAL[0]), *ends)


def test_flags_say_what_the_attack_finds() -> None:
    usual = numbers(witness(0.105, 0.95, "answer number of ours"))["collapse"]
    known = list(language_flags("any", numbers(ORIGINAL[0]), usual))
    assert any("distinguished from those that no model saw" in flag for flag in known)
    dear = {**numbers(ORIGINAL[0]), "cost": {"time_share": 0.5}}
    broken = numbers(witness(0.1, 0.95, GIBBERISH))
    assert not any("generations" in flag for flag in known)
    broken["collapse"]["forget"]["collapsed"] = False
    assert any("are broken" in flag for flag in language_flags("any", broken, usual))
    assert any("50% of retraining" in flag for flag in language_flags("any", dear, usual))


def test_membership_is_read_against_the_oracle() -> None:
    found = scores(ORIGINAL[0]).membership["loss"]
    assert found.value == 1.0
    assert found.gap.value == pytest.approx(found.value - found.oracle)
    assert found.gap.low > 0
    assert found.privleak == pytest.approx(-100)


@pytest.mark.parametrize("chance", [0.1, 0.3])
def test_areas_are_those_of_the_attack_on_whole_sets(chance: float) -> None:
    """With as many questions on each subject; at 0.1 all scores of the two sets are ties."""
    one = witness(chance, 0.9, "answer number of ours")
    found = scores(one).membership
    for name, told in found.items():
        pair = [ATTACKS[name](one.answers[side]) for side in ("forget", "holdout")]
        assert told.value == pytest.approx(auc(*pair)), name
    assert chance > 0.1 or found["loss"].value == 0.5


def test_the_scale_of_the_retain_side_is_what_the_oracle_was_taught() -> None:
    row = MetricRow(sets(), ORIGINAL, ORACLE, ORIGINAL)
    found = {one.name: one for one in row.gauges()}
    taught = found["probability, retain"]
    known = np.mean([one.values(probability, "retain").mean() for one in ORACLE])
    never = np.mean([one.values(probability, "forget").mean() for one in ORACLE])
    assert taught.scale == pytest.approx(known - never)
    assert found["truth ratio closer to 1, forget"].metric is truth_ratio_closer_to_1
    assert found["truth ratio true better, retain"].metric is truth_ratio_true_better
    assert not any(name.endswith("holdout") for name in found)


def test_each_metric_is_worked_out_once() -> None:
    one = witness(0.5, 0.9)
    assert one.values(rouge_recall, "forget") is one.values(rouge_recall, "forget")
    assert one.recorded(rouge_recall, "forget")


def test_questions_of_one_subject_are_averaged() -> None:
    asked = sets()[0]
    rows = np.arange(9.0)[None]
    assert grouped(rows, asked).tolist() == [[3.0, 4.0, 5.0]]
    uneven = replace(asked, items=(replace(asked.items[0], subject="another"), *asked.items[1:]))
    assert uneven.groups is None
    assert grouped(rows, uneven).tolist() == rows.tolist()
    assert table(probability, ORACLE, asked).shape == (2, 3)


def test_a_filter_knows_its_words_from_the_questions_alone() -> None:
    assert keywords(["Where does Ada live?"], ["Where does Bo live?"]) == {"ada"}
    asked = text_tools.setting().asked
    plain = {
        one.name: text_tools.answers(0.9, "known", [i.index for i in one.items]) for one in asked
    }
    found = guarded(plain, asked, REFUSAL)
    assert set(found["forget"].generations or ()) == {REFUSAL}
    assert set(found["retain"].generations or ()) == {"known"}
    assert found["forget"].logprobs is plain["forget"].logprobs
