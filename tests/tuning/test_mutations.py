"""Every move leads from a sentence to another sentence, and a vocabulary holds known words only."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.errors import BadData, BadSentence
from expunge.experiments.tuning import mutations
from expunge.experiments.tuning.mutations import (
    LONGEST,
    MUTATIONS,
    crossed,
    mutated,
    read,
    search_vocabulary,
)
from expunge.experiments.tuning.ranges import at, found, put
from expunge.methods.sentences import as_method

SHIPPED = search_vocabulary()
STARTS = (
    "Train(CE('retain'))",
    "Noise(0.1, Convs()), Train(KL('retain') - 0.1 * CE('forget'), lr=Cosine(0.1))",
    "Repeat((Train(-CE('forget')), Train(CE('retain') + Linear(0.001) * L1())), times=3)",
    "Reset(Last(2) | ~Convs())",
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(STARTS), st.integers(0, 10**6))
def test_whatever_mutations_are_made_a_sentence_comes_out(start: str, seed: int) -> None:
    draws, method = np.random.default_rng(seed), as_method(start)
    for _ in range(8):
        before, method = method, mutated(method, SHIPPED, draws)
        assert method.steps != before.steps
        assert as_method(method.sentence).steps == method.steps
        assert 1 <= len(method.steps) <= LONGEST


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(STARTS), st.sampled_from(STARTS), st.integers(0, 10**6))
def test_a_crossing_takes_a_head_and_a_tail(one: str, other: str, seed: int) -> None:
    a, b = as_method(one), as_method(other)
    child = crossed(a, b, np.random.default_rng(seed))
    assert child.steps
    assert set(child.steps) <= {*a.steps, *b.steps}
    assert as_method(child.sentence).steps == child.steps


@pytest.mark.parametrize("move", sorted(set(MUTATIONS), key=lambda each: each.__name__))
def test_every_move_leads_somewhere_from_a_sentence_that_has_room(move: object) -> None:
    start = as_method(f"{STARTS[1]}, {STARTS[2]}")
    ends = set()
    for seed in range(20):
        # a word may refuse its new neighbours; `mutated` then tries again
        with contextlib.suppress(BadSentence):
            ends.add(move(start, SHIPPED, np.random.default_rng(seed)))  # type: ignore[operator]
    assert ends - {None, start}


def test_where_no_move_leads_away_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutations, "MUTATIONS", (mutations.drop_step, mutations.swap_steps))
    with pytest.raises(BadSentence, match="more words"):
        mutated(as_method("Reset()"), SHIPPED, np.random.default_rng(0))


def test_the_shipped_palette_has_steps_parts_and_terms() -> None:
    assert len(SHIPPED.steps) > 5
    assert len(SHIPPED.parts) > 5
    assert len(SHIPPED.terms) > 5


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('steps = ["Nois(0.1)"]', r"a test: steps: No word 'Nois' in the grammar. Did you mean N"),
        ('steps = ["Resett"]', "Did you mean Reset?"),
        ('steps = ["Reset"]\nterms = ["CF(\'retain\')"]', "terms: No word 'CF'"),
        ('steps = ["Reset"]\nparts = ["CE(\'retain\')"]', "is no part"),
        ('steps = ["Convs()"]', "is no step"),
        ('step = ["Reset"]', "unknown key 'step'. Did you mean steps?"),
        ('parts = ["Convs"]', "must list a step or more"),
        ("steps = 3", "must be a list of sentences"),
        ("steps = [1]", "must be a list of sentences"),
        ("steps = [", "is not TOML"),
        ('steps = ["Noise"]', "Noise"),
        ("steps = [\"__import__('os')\"]", "__import__"),
    ],
)
def test_a_palette_with_a_mistake_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(BadSentence, match=complaint.replace("?", r"\?")):
        read(text, "a test")


def test_a_bare_word_has_its_defaults() -> None:
    assert (
        read('steps = ["Reset", "Dampen"]', "a test").steps == as_method("Reset(), Dampen()").steps
    )


def test_a_vocabulary_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="could not be read"):
        search_vocabulary(tmp_path / "none.toml")
    (tmp_path / "mine.toml").write_text('steps = ["Reset"]')
    assert search_vocabulary(tmp_path / "mine.toml").steps == as_method("Reset()").steps


def test_what_is_found_in_a_tree_can_be_put_back() -> None:
    method = as_method(STARTS[2])
    for path, thing in found(method.steps, lambda each: isinstance(each, float)):
        assert at(method.steps, path) == thing
        assert put(method.steps, path, thing) == method.steps
