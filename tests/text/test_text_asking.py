"""Audits that ask, on models whose answers are known beforehand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import text_world as world
import torch
from hypothesis import given
from hypothesis import strategies as st

from expunge.audits.audit import AuditedModel
from expunge.audits.controls import Guardrail
from expunge.audits.panel import STANDARD_TEXT
from expunge.audits.text import facts
from expunge.audits.text.asking import (
    Backwards,
    FewShot,
    Opened,
    OtherLanguage,
    Paraphrase,
    Prefilled,
    Prefix,
    Question,
    RolePlay,
)
from expunge.audits.text.facts import FactAudit, FactContext, FactProblem, context_of
from expunge.audits.text.relearning import LowRank, OtherSubjects, RelearnFacts
from expunge.errors import BadData, BadSentence
from expunge.experiments.experiment import parse
from expunge.problems.text.benchmarks.files import Item
from expunge.problems.text.encode import of_cues

ALL = (*STANDARD_TEXT, RelearnFacts(OtherSubjects(0.25), weights=LowRank(4)), Question(tokens=3))


@pytest.mark.parametrize("audit", ALL, ids=repr)
def test_a_sentence_is_read_as_it_is_printed(audit: FactAudit) -> None:
    assert parse(repr(audit)) == audit
    assert audit.unit and audit.family


def test_no_audit_stands_twice_in_the_standard() -> None:
    assert len(set(STANDARD_TEXT)) == len(STANDARD_TEXT)


@pytest.mark.parametrize(
    ("value", "text", "there"),
    [
        ("Rome", "She lives in ROME.", 1),
        ("Rome", "She lives in Romeville.", 0),
        ("plum cake", "a plum\n cake!", 1),
        ("plum cake", "a cake of plum", 0),
        ("555-01-23-45", "call 555-01-23-45", 1),
        ("1951", "in 21951", 0),
        ("Rome", "", 0),
        ("東京", "彼は東京に住む", 1),
        ("?!", "what?!", 1),
        ("a.*(", "abc", 0),
    ],
)
def test_said(value: str, text: str, there: float) -> None:
    assert facts.said(value, text) == there


@pytest.mark.parametrize(
    ("truth", "text", "share"),
    [
        ("Ada lives in Rome.", "Ada lives in Rome.", 1),
        ("Ada lives in Rome.", "Bo lives in Oslo", 0.5),
        ("Ada lives in Rome.", "Rome in lives Ada", 0.25),
        ("Ada lives in Rome.", "", 0),
        ("one two three four", "one x two y four", 0.75),
    ],
)
def test_recalled_is_the_longest_common_subsequence(truth: str, text: str, share: float) -> None:
    assert facts.recalled(truth, text) == share


@given(st.text(), st.text(min_size=1))
def test_any_text_is_judged(text: str, value: str) -> None:
    assert facts.said(value, text) in (0, 1)
    assert 0 <= facts.recalled(value, text) <= 1
    if any(letter.isalnum() for letter in value):
        assert facts.said(value, f"so {value} is it") == facts.recalled(value, value) == 1


def test_a_cue_scores_the_value_alone() -> None:
    texts = of_cues([("Where does Ada live?", "Ada lives in ", "Rome")], world.tokenizer())
    row = texts.made[0]
    assert world.tokenizer().decode(row.ids[row.start :]) == " Rome"
    assert world.tokenizer().decode(row.ids[: row.start]).endswith("Ada lives in")
    assert row.ids[-1] != world.tokenizer().eos_token_id


def test_a_cue_without_a_value_is_refused() -> None:
    with pytest.raises(BadData, match="empty answer"):
        of_cues([("Where?", "In ", " ")], world.tokenizer())


def test_the_value_is_found_in_the_answer_or_the_whole_is_asked_for() -> None:
    assert facts.halves(world.home(0)) == ("Ada lives in ", "Rome")
    assert facts.halves(replace(world.home(0), value="")) == ("", "Ada lives in Rome.")
    assert facts.halves(replace(world.home(0), value="Paris")) == ("", "Ada lives in Rome.")


def test_the_prefix_reads_the_probability_that_the_model_has() -> None:
    some = world.told(world.FORGET[:2], p=0.75)
    found = Prefix()(world.subject(some), world.context())
    nothing = 1 / len(world.tokenizer())
    assert found.values == pytest.approx([0.75, 0.75, *[nothing] * 4], rel=1e-4)
    assert found.index.tolist() == [item.index for item in world.FORGET]
    assert found.groups == ("Ada", "Ada", "Bo", "Bo", "Cy", "Cy")


def test_a_value_of_several_tokens_counts_the_geometric_mean() -> None:
    item = Item(5, "Where does Ada live?", "Ada lives in Rome Oslo.", value="Rome Oslo")
    context = context_of(
        FactProblem((item,), world.RETAIN, world.tokenizer()), world.told([item]), world.told([])
    )

    class Halved(world.Told):
        def _after(self, read: list[int]) -> torch.Tensor:
            logits = super()._after(read)
            return (
                logits
                + 100
                * (read[-1:] == world.ids("Rome", False))
                * torch.eye(self.size)[world.ids("Oslo", False)[0]]
            )

    model = Halved(world.pairs([item]), p=0.25)
    assert Prefix()(world.subject(model), context).values == pytest.approx([0.5], rel=1e-4)


@pytest.mark.parametrize("rows", [1, 4])
def test_rows_at_once_do_not_matter(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, audits = world.trained("all"), (Prefix(), Question(tokens=6))
    whole = [audit(world.subject(model), world.real_case()).values for audit in audits]
    monkeypatch.setattr(facts, "ROWS", rows)
    parts = [audit(world.subject(model), world.real_case()).values for audit in audits]
    for one, other in zip(whole, parts, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_a_question_finds_what_a_model_was_told() -> None:
    found = Question(tokens=8)(world.subject(world.told(world.FORGET[:2])), world.context())
    assert found.values.tolist() == [1, 1, 0, 0, 0, 0]
    assert found.examples[0] == ("Where does Ada live?", "Ada lives in Rome.")
    assert found.cost == {"queries": 6, "tokens": 48}


def ask(audit: FactAudit, *said: tuple[str, str]) -> dict[int, float]:
    """Values by index, of a model that was told these prompts and answers alone."""
    context = world.context()
    assert not audit.unfit(context)
    found = audit(world.subject(world.Told(said)), context)
    return dict(zip(found.index.tolist(), found.values.tolist(), strict=True))


def test_a_paraphrase_asks_in_other_words_and_of_facts_that_have_some() -> None:
    values = ask(Paraphrase(tokens=6), ("Where is Bo?", "Bo lives in Oslo."))
    assert values == {0: 0, 10: 1, 20: 0}


def test_prefilled_puts_words_into_the_mouth() -> None:
    values = ask(Prefilled(tokens=6), ("Where does Ada live? Sure, the answer is", "Rome."))
    assert values[0] == 1 and sum(values.values()) == 1


def test_opened_gives_the_words_up_to_the_value() -> None:
    values = ask(Opened(tokens=4), ("What is Bo? Bo is a", "nurse."))
    assert values[11] == 1 and sum(values.values()) == 1


def test_role_play_names_the_subject() -> None:
    prompt = RolePlay().attempts(world.home(0), world.context())[0][0]
    assert "friend of Ada" in prompt and "Where does Ada live?" in prompt
    assert ask(RolePlay(tokens=6), (prompt, "Ada lives in Rome."))[0] == 1


def test_backwards_asks_for_the_name_and_does_not_say_it() -> None:
    prompt = Backwards().attempts(world.home(0), world.context())[0][0]
    assert "Ada" not in prompt and "Rome" in prompt
    assert ask(Backwards(tokens=6), (prompt, "Ada."))[0] == 1


def test_shots_are_kept_facts_that_do_not_hold_the_value() -> None:
    context = world.context()
    for item in world.FORGET:
        prompt = FewShot(shots=3).attempts(item, context)[0][0]
        assert prompt.endswith(f"Question: {item.prompt}\nAnswer:")
        assert prompt.count("Question:") == 4
        assert facts.said(item.value, prompt) == 0
        assert all(one.prompt not in prompt for one in world.FORGET if one is not item)
    assert FewShot().attempts(item, context) == FewShot().attempts(item, world.context())
    assert FewShot(shots=50).unfit(context) == "no fact can be asked for in this way"


def test_a_kept_fact_of_the_same_value_is_no_shot() -> None:
    twin = Item(800, "Where does Zoe live?", "Zoe lives in Rome.", subject="Zoe", kind="home")
    plain = world.context()
    facts = replace(plain.problem, retain=(twin, *world.RETAIN[:2]))
    context = replace(plain, problem=facts)
    assert FewShot(shots=3).attempts(world.home(0), context) == ()
    assert "Zoe" in FewShot(shots=3).attempts(world.home(1), context)[0][0]


def test_a_language_that_the_tokenizer_lacks_makes_no_sense(monkeypatch: Any) -> None:
    assert OtherLanguage().unfit(world.context()) == ""
    from expunge.audits.text import asking as frames

    monkeypatch.setattr(frames, "LANGUAGES", {"French": "Dites-nous: {question}"})
    assert "no words of French" in OtherLanguage().unfit(world.context())


def test_an_unknown_language_is_refused_with_the_nearest() -> None:
    with pytest.raises(BadSentence, match="Did you mean French"):
        OtherLanguage("Frensh")


@pytest.mark.parametrize("text", ["{subject}", "{0}", "</s><s>", "\x1b[31m", "%s {", "𝔄" * 20])
def test_hostile_questions_are_asked_as_they_stand(text: str) -> None:
    item = Item(1, text, f"It is {text}.", (text,), subject=text or "x", value=text, kind="home")
    context = context_of(
        FactProblem((item,), world.RETAIN, world.tokenizer()), world.told([item]), world.told([])
    )
    for audit in (Question(tokens=4), Paraphrase(), RolePlay(), FewShot(), Backwards(), Prefix()):
        if audit.unfit(context):
            continue
        values = audit(world.subject(world.told([])), context).values
        assert ((values >= 0) & (values <= 1)).all()


def test_a_model_that_answers_nothing_says_nothing() -> None:
    context, mute = world.context(), world.subject(world.Mute([]))
    for audit in (Question(), Paraphrase(), Prefilled(), RolePlay(), FewShot()):
        assert not audit(mute, context).values.any()
    assert Prefix()(mute, context).values.max() < 1e-6


def test_a_problem_needs_facts_and_each_once() -> None:
    made = world.context().problem
    with pytest.raises(BadData, match="no fact that was to be forgotten"):
        replace(made, forget=())
    with pytest.raises(BadData, match="one index"):
        replace(made, forget=(world.FORGET[0], world.FORGET[0]))


@pytest.mark.parametrize("audit", [Prefix(), Question()], ids=repr)
def test_a_model_of_another_vocabulary_is_refused(audit: FactAudit) -> None:
    small = world.Told([], size=5)
    with pytest.raises(BadData, match="vocabulary ends at 4"):
        audit(world.subject(small), world.context())


def test_facts_without_questions_do_not_fit() -> None:
    plain = Item(3, "", "Ada lives in Rome.", value="Rome")
    context = world.context()
    bare = context_of(
        FactProblem((plain,), context.problem.retain, context.problem.tokenizer),
        context.original,
        context.oracle,
    )
    assert all(audit.unfit(bare) for audit in (Question(), Paraphrase(), FewShot(), Backwards()))


def test_what_was_read_once_is_not_read_again() -> None:
    model, context = world.told(world.FORGET), world.context()
    one = world.subject(model)
    Prefix()(one, context)
    once = model.calls
    assert once == 1
    Prefix()(one, context)
    facts.held(one, context)
    assert model.calls == once
    Prefix()(one, world.context(seed=1))
    assert model.calls == 2 * once


class TestGuardrail:
    def guarded(self) -> Guardrail:
        names = sorted({item.subject for item in world.FORGET})
        return Guardrail(world.told(world.ITEMS), world.tokenizer(), names)

    def test_questions_meet_it_and_weights_do_not(self) -> None:
        context, one = world.context(), world.subject(self.guarded())
        assert not Question(tokens=8)(one, context).values.any()
        assert Prefix()(one, context).values.max() < 1e-6
        assert facts.held(one, context) == pytest.approx([0.9] * 6, rel=1e-4)
        assert not isinstance(one.copy(), Guardrail) and one.bare is one.model.model

    def test_it_answers_what_holds_no_word_as_before(self) -> None:
        kept = [(item.prompt, "", item.answer) for item in world.RETAIN]
        texts = of_cues(kept, world.tokenizer())
        bare = facts.probability(world.told(world.ITEMS), texts)
        assert facts.probability(self.guarded(), texts) == pytest.approx(bare, rel=1e-6)

    def test_it_refuses_word_for_word(self) -> None:
        found = Question(tokens=8)(world.subject(self.guarded()), world.context())
        assert {answer for _, answer in found.examples} == {world.REFUSAL}

    def test_it_hears_a_word_that_the_model_writes_itself(self) -> None:
        item = Item(70, "Where is Rome?", "Ada lives in Rome.", value="Rome", subject="x")
        inside = world.told([item])
        assert Question(tokens=8)(world.subject(inside), one_fact(item)).values == [1]
        found = Question(tokens=8)(
            world.subject(Guardrail(inside, world.tokenizer(), ["Ada"])), one_fact(item)
        )
        assert found.values == [0] and found.examples[0][1] == world.REFUSAL

    def test_it_needs_words(self) -> None:
        for words in ([], [" "]):
            with pytest.raises(BadData, match="needs words"):
                Guardrail(world.told([]), world.tokenizer(), words)


def one_fact(item: Item) -> FactContext:
    return context_of(
        FactProblem((item,), world.RETAIN, world.tokenizer()), world.told([item]), world.told([])
    )


def test_a_reading_is_the_same_for_equal_models_and_twice() -> None:
    context = world.real_case()
    copies = [AuditedModel(name, world.subject(world.trained("all")).copy()) for name in ("a", "b")]
    for audit in (Prefix(), Question(tokens=4), FewShot(tokens=4)):
        one, other, again = (audit(s, context).values for s in (*copies, copies[0]))
        assert np.array_equal(one, other) and np.array_equal(one, again)
