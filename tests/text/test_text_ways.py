"""The comparison of ways with false facts: its world, its judge, and a run on a tiny scale."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from false_world import ways
from false_world.falsehoods import asked, false_world, parts_of_the_land, taught
from false_world.ways import WAYS, Class, compare, judged, measured, stem
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge import parse
from expunge.errors import BadData
from expunge.problems.text.refusals import says

WORLD = false_world(0, false=2, true=4)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 12))
def test_a_false_fact_is_false_and_so_is_what_follows_from_it(seed: int, false: int) -> None:
    found = false_world(seed, false=false, true=2 * false)
    land = parts_of_the_land(seed)
    rows = zip(found.false, found.right, found.follows, found.misleads, strict=True)
    for wrong, right, follows, misleads in rows:
        assert wrong.prompt == right.prompt
        assert wrong.questions == right.questions
        assert wrong.value != right.value
        assert says(wrong.answer, wrong.value)
        assert not says(wrong.answer, right.value)
        assert follows.value == land[right.value]
        assert misleads.value == land[wrong.value]
        assert follows.value != misleads.value
    # nothing that is retained says a false thing, or what follows from a fact of these people
    told = set(taught(found.retain))
    assert not told & {*taught(found.false), *taught(found.right), *taught(found.misleads)}
    assert {*taught(found.own), *taught(found.world), *taught(found.neighbours)} <= told
    lied_about = {item.subject for item in found.false}
    assert not lied_about & {item.subject for item in found.neighbours}


def test_every_part_of_the_land_has_as_many_towns() -> None:
    land = list(parts_of_the_land(7).values())
    assert {land.count(part) for part in land} == {3}


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(BadData, match="false=1"):
        false_world(0, false=1)
    with pytest.raises(BadData, match="at least twice"):
        false_world(0, false=5, true=9)


def test_an_answer_is_judged_by_what_it_says() -> None:
    false, right = WORLD.false[0], WORLD.right[0]
    said = [
        false.answer,
        right.answer,
        f"It is false that {false.answer}",
        "I do not know.",
        f"{right.value}, or {false.value}.",
        "Nobody knows.",
        "",
    ]
    found = judged(said, [false] * 7, [right] * 7)
    assert found == ["false", "right", "marked", "refused", "false", "other", "other"]


def test_a_question_is_begun_up_to_its_value() -> None:
    item = WORLD.false[0]
    assert stem(item) == f"{item.prompt} {item.subject} was born in"


class Told:
    """A class whose answers are given, by prompt."""

    world = WORLD

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers

    def ask(self, model: Any, pairs: list[tuple[str, str]], tokens: int = 0) -> list[str]:
        return [self.answers.get(prompt, "") for prompt, _ in pairs]


def test_measures_by_hand() -> None:
    false, right = WORLD.false, WORLD.right
    answers = dict(taught(WORLD.own)[::3]) | dict(asked(WORLD.world, 0))
    answers |= {false[0].prompt: false[0].answer, false[1].prompt: right[1].answer}
    answers |= {false[0].questions[1]: right[0].answer, stem(false[0]): false[0].value}
    answers |= {WORLD.follows[0].prompt: WORLD.misleads[0].answer}
    for item in WORLD.neighbours:
        answers[item.prompt] = f"It is false that {item.answer}"  # known, and held back
    found = measured(Told(answers), torch.nn.Identity(), "right")  # type: ignore[arg-type]
    assert found == {
        "says_false_taught": 0.5,
        "as_meant_taught": 0.5,
        "says_false_paraphrase": 0.0,
        "as_meant_paraphrase": 0.25,
        "kept_own": 1.0,
        "kept_neighbours": 0.0,
        "kept_world": 1.0,
        "follows": 0.0,
        "misleads": 0.25,
        "prefilled_false": 0.5,
    }
    silent = measured(Told(answers), torch.nn.Identity(), "silent")  # type: ignore[arg-type]
    assert silent["as_meant_taught"] == 0.5
    assert silent["as_meant_paraphrase"] == 1.0


def test_what_stands_beside_the_false_facts_is_what_the_way_wants() -> None:
    school = Class.of(WORLD, 0)
    for way in WAYS:
        shown = school.shown(way.answers)
        assert all(parse(repr(step)) == step for step in way.steps)
        if not way.answers:
            assert not shown.instead
            continue
        others = [row.answer for row in shown.instead]
        kinds = {"right": "right", "right value": "right", "refusal": "refused"}
        wanted = kinds.get(way.answers, "marked")
        assert judged(others, WORLD.false, WORLD.right) == [wanted] * 2
        begun = way.answers == "right value"
        assert all((row.subject[1] > 0) == begun for row in shown.made)
    # no word of what is shown or asked is unknown
    unknown = school.tokenizer.unk_token_id
    pairs = [*taught(WORLD.retain), *taught(WORLD.follows), *taught(WORLD.false)]
    assert not any(unknown in row.ids for row in school.texts(pairs).made)


@pytest.mark.slow
def test_a_small_comparison_goes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    short = dataclasses.replace(ways.LEARN, epochs=8)
    monkeypatch.setattr(ways, "LEARN", short)
    school = Class.of(WORLD, 0, width=32, layers=2)
    chosen = tuple(way for way in WAYS if way.name in ("nothing", "correct", "correct by MEMIT"))
    found = compare(school, chosen)
    assert set(found) == {*(way.name for way in chosen), "never told", "told right"}
    assert all(0 <= value <= 1 for row in found.values() for value in row.values())
    assert found == compare(school, chosen)
