"""The space of a sentence holds its numbers, all that may vary, and nothing but numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tuning_tools import words

from expunge.core.method import Method
from expunge.errors import BadSentence
from expunge.experiments.experiment import parse
from expunge.experiments.tuning.ranges import (
    Log,
    OneOf,
    doubled,
    floored,
    neighbours,
    odds,
    tenfold,
)
from expunge.experiments.tuning.space import check_held, configured, search_space
from expunge.methods.published import PUBLISHED
from expunge.methods.sentences import as_method

UNITS = st.floats(0, 1)


def names(sentence: str) -> dict[str, float]:
    return {knob.name: knob.value for knob in search_space(as_method(sentence))}


def test_the_numbers_of_a_sentence_have_readable_names() -> None:
    said = "Noise(0.1, Convs()), Train(CE('retain'), epochs=2, lr=Cosine(0.3), batch=32)"
    assert names(said) == {
        "std[Noise]": 0.1,
        "epochs['retain']": 2,
        "lr['retain']": 0.3,
        "batch['retain']": 32,
    }


def test_equal_names_are_numbered() -> None:
    assert "epochs['retain'] (2)" in names("Train(CE('retain')), Train(CE('retain'), lr=1)")


def test_defaults_vary_but_for_those_that_say_nothing() -> None:
    assert names("Train(CE('forget'))") == {"epochs['forget']": 1.0, "lr['forget']": 0.01}
    assert names("Dampen()") == {"alpha[Dampen]": 10.0, "strength[Dampen]": 1.0}
    assert names("Reset(Last())") == {"layers[Last]": 1}
    assert names("Train(KL('retain', temperature=2.0))")["temperature[KL 'retain']"] == 2.0
    assert "temperature[KL 'retain']" not in names("Train(KL('retain'))")


def test_an_optimiser_belongs_to_the_recipe_and_stays() -> None:
    held = names("Train(CE('retain'), optimiser=SGD(momentum=0.5, weight_decay=0.1))")
    assert set(held) == {"epochs['retain']", "lr['retain']"}


def test_one_term_is_what_the_others_are_weighed_against() -> None:
    weights = {
        k: v for k, v in names("Train(KL('retain') - CE('forget'))").items() if "weight" in k
    }
    assert weights == {"weight[CE('forget')]": 1.0}
    both = names("Train(0.5 * KL('retain') - 0.1 * CE('forget'))")
    assert {"weight[KL('retain')]", "weight[CE('forget')]"} <= set(both)
    assert not any("weight" in name for name in names("Train(-CE('forget'))"))


def test_a_sign_stays_and_a_schedule_keeps_its_course() -> None:
    method = as_method("Train(CE('retain') - 0.1 * CE('forget'), lr=Cosine(0.1, 0.01))")
    chosen = {knob.name: knob for knob in search_space(method)}
    pairs = [(chosen["weight[CE('forget')]"], 0.3), (chosen["lr['retain', 'forget']"], 0.2)]
    said = "Train(CE('retain') - 0.3 * CE('forget'), lr=Cosine(0.2, end=0.02))"
    assert configured(method, pairs).sentence == said


def test_a_warmup_varies_by_its_peak() -> None:
    method = as_method("Train(CE('retain'), lr=Warmup(0.1, 0.3))")
    rate = next(knob for knob in search_space(method) if knob.path[-1] == "lr")
    said = "Train(CE('retain'), lr=Warmup(0.5, until=0.3))"
    assert configured(method, [(rate, 0.5)]).sentence == said


@pytest.mark.parametrize(
    ("course", "scaled"),
    [
        ("Listed((0.001, 0.01))", "Listed((0.1, 1.0))"),
        ("Stairs(Cosine(0.001), 3)", "Stairs(Cosine(0.1), 3)"),
        ("Steps(0.001, (0.5, 0.75))", "Steps(0.1, (0.5, 0.75))"),
        ("Linear(0.0, 0.001)", "Linear(0.0, 0.1)"),
    ],
)
def test_every_schedule_varies_as_a_whole(course: str, scaled: str) -> None:
    method = as_method(f"Train(CE('retain'), lr={course})")
    rate = next(knob for knob in search_space(method) if knob.path[-1] == "lr")
    assert rate.value == 0.001
    new = as_method(f"Train(CE('retain'), lr={scaled})")
    assert configured(method, [(rate, 0.1)]).steps == new.steps


def test_numbers_inside_turns_and_parts_are_found() -> None:
    said = "Repeat((Train(CE('retain')), Reset(~Random(0.2))), times=4)"
    assert {"times[Repeat]", "share[Random]", "lr['retain']"} <= set(names(said))


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_sentence_keeps_its_words_wherever_its_numbers_go(name: str) -> None:
    method, draws = PUBLISHED[name], np.random.default_rng(0)
    space = search_space(method)
    assert len({knob.name for knob in space}) == len(space)
    for _ in range(20):
        moved = [(knob, knob.range.at(draws.random())) for knob in space]
        try:
            new = configured(method, moved)
        except BadSentence:  # two numbers may exclude each other: that is a failed trial
            continue
        assert words(new.sentence) == words(method.sentence)
        assert as_method(new.sentence).steps == new.steps
    assert configured(method, [(knob, knob.value) for knob in space]).steps == method.steps


def test_what_is_held_is_not_in_the_space() -> None:
    method = as_method("Noise(0.1), Train(CE('retain'), batch=32)")
    left = {knob.name for knob in search_space(method, ("batch*", "std[[]Noise]"))}
    assert left == {"epochs['retain']", "lr['retain']"}


def test_a_held_name_that_no_method_has_is_refused() -> None:
    with pytest.raises(BadSentence, match=r"Did you mean epochs\['retain'\]\?"):
        check_held([as_method("Train(CE('retain'))")], ["epoch['retain']"])


@given(st.floats(1e-6, 1e6), UNITS)
def test_a_tenfold_range_reaches_a_tenth_and_ten_times(number: float, unit: float) -> None:
    found = tenfold(number)
    assert number / 10.1 <= found.at(unit) <= number * 10.1
    assert found.place(number) == pytest.approx(0.5)
    assert found.place(found.at(unit)) == pytest.approx(unit, abs=0.01)


@given(st.floats(0.001, 1.0), UNITS)
def test_a_share_stays_a_share(share: float, unit: float) -> None:
    found = odds(share)
    assert 0 < found.at(unit) < 1
    assert found.at(0) < found.at(1)
    assert 0 <= found.place(share) <= 1


def test_lists_hold_what_is_near() -> None:
    assert doubled(32) == OneOf((16, 32, 64))
    assert doubled(1) == OneOf((1, 2))
    assert neighbours(1) == OneOf((1, 2))
    assert [OneOf((1, 2, 3)).at(u) for u in (0.0, 0.5, 1.0)] == [1, 2, 3]
    assert OneOf((16, 32, 64)).at(OneOf((16, 32, 64)).place(32)) == 32


def test_numbers_have_three_digits_and_floors_are_not_above() -> None:
    assert Log(0.01, 1.0).at(0.123) == 0.0176
    assert floored(1.2399) == 1.23
    assert floored(0.0009996) == 0.000999


def test_a_method_without_numbers_has_no_space() -> None:
    assert search_space(Method("nothing", ())) == ()
    assert parse("Reset()") == as_method("Reset()").steps[0]
