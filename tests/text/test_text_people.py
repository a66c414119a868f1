from __future__ import annotations

import hashlib
import re
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency

from expunge.errors import BadData
from expunge.problems.text.benchmarks.files import Item, TextBenchmark
from expunge.problems.text.people import KINDS, POOLS, PRIVATE, people, split_facts

WORDS = re.compile(r"\w+|[^\w\s]")
DEFAULT = people()


def texts(item: Item) -> tuple[str, ...]:
    return (item.prompt, item.answer, *item.questions, *item.paraphrases, *item.wrong)


def digest(found: TextBenchmark) -> str:
    said = "\n".join(
        f"{name} {item.index} {text}"
        for name, items in found.sets.items()
        for item in items
        for text in texts(item)
    )
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def test_the_text_depends_on_the_seed_alone_and_is_this_on_every_machine() -> None:
    assert digest(people()) == digest(DEFAULT) == "f4ce0ed668a84e1e"
    assert digest(people(seed=1)) != digest(DEFAULT)


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 4),
    st.integers(0, 5),
    st.integers(1, 4),
    st.integers(1, 6),
)
def test_sizes_are_as_asked(seed: int, forget: int, more: int, holdout: int, wrong: int) -> None:
    retain = 2 * forget + more
    found = people(seed, forget=forget, retain=retain, holdout=holdout, wrong=wrong)
    counts = {"forget": forget, "retain_people": retain, "holdout": holdout}
    for name, count in counts.items():
        assert len(found[name]) == count * len(KINDS)
        assert len({item.subject for item in found[name]}) == count
    assert found["retain"] == (*found["retain_people"], *found["world"])
    for items in found.sets.values():
        assert len({item.index for item in items}) == len(items)
    for item in (*found["forget"], *found["world"]):
        assert len(set(item.wrong)) == wrong


@pytest.mark.parametrize("seed", range(3))
def test_forget_retain_and_holdout_share_no_person_and_no_fact(seed: int) -> None:
    found = people(seed)
    names = [{item.subject for item in found[name]} for name in ("forget", "retain", "holdout")]
    facts = [
        {(item.subject, item.kind, item.value) for item in found[name]}
        for name in ("forget", "retain", "holdout")
    ]
    for one, other in (*combinations(names, 2), *combinations(facts, 2)):
        assert not one & other
    lasts = [name.split()[1] for some in names for name in some if " " in name]
    assert len(set(lasts)) == len(lasts)


@pytest.mark.parametrize("seed", range(3))
def test_no_answer_leaks_into_another_person_s_texts(seed: int) -> None:
    found = people(seed)
    crowd = [item for name in ("forget", "retain_people", "holdout") for item in found[name]]
    people_s = {item.subject for item in crowd}
    lasts = {name.split()[1]: name for name in people_s}
    secrets = {item.value: item.subject for item in crowd if item.kind in PRIVATE}
    assert len(secrets) == len(people_s) * len(PRIVATE)
    for item in (*crowd, *found["world"]):
        for text in texts(item):
            # No one else is named, and nobody's number, mail or door stands in another's text.
            assert {lasts[word] for word in WORDS.findall(text) if word in lasts} <= {item.subject}
            for secret in secrets:
                if secret in text:
                    assert secrets[secret] == item.subject
                    assert secret == item.value


def test_private_values_are_clearly_invented() -> None:
    for item in (*DEFAULT["forget"], *DEFAULT["retain"], *DEFAULT["holdout"]):
        for text in (item.answer, *item.wrong):
            if item.kind == "phone":
                assert re.search(r"\b555-01-\d\d-\d\d\.$", text)
            if item.kind == "email":
                assert re.search(r"@\w+\.example\.$", text)


def test_paraphrases_carry_the_same_answer_and_wrong_ones_do_not() -> None:
    for items in (DEFAULT["forget"], DEFAULT["retain"], DEFAULT["holdout"]):
        for item in items:
            for text in (item.answer, *item.paraphrases):
                assert re.search(rf"\b{re.escape(item.value)}\b", text)
                assert item.subject in text
            for text in item.wrong:
                assert not re.search(rf"\b{re.escape(item.value)}\b", text)
            # A wrong answer differs from a paraphrase in the fact alone.
            before, _, behind = item.paraphrases[0].partition(item.value)
            for text in item.wrong:
                assert text.startswith(before)
                assert text.endswith(behind)
            for question in (item.prompt, *item.questions):
                assert item.subject in question
                assert question.endswith("?")
                assert item.value not in question


def test_a_paraphrase_set_asks_for_the_same_facts_in_words_that_were_not_taught() -> None:
    for name in ("forget", "retain"):
        plain = {item.index: item for item in DEFAULT[name]}
        for item in DEFAULT[f"{name}_paraphrase"]:
            taught = plain[item.index]
            assert item.value == taught.value
            assert item.answer == taught.answer
            assert item.prompt != taught.prompt
            assert {item.prompt, *item.questions} == {taught.prompt, *taught.questions}


def test_every_forgotten_person_has_neighbours_who_stay() -> None:
    by = {(item.subject, item.kind): item.value for item in DEFAULT["retain"]}
    near = list(dict.fromkeys(item.subject for item in DEFAULT["neighbours"]))
    forgotten = list(dict.fromkeys(item.subject for item in DEFAULT["forget"]))
    mine = {(item.subject, item.kind): item.value for item in DEFAULT["forget"]}
    for place, name in enumerate(forgotten):
        assert by[near[2 * place], "town"] == mine[name, "town"]
        assert by[near[2 * place + 1], "profession"] == mine[name, "profession"]


def test_no_fact_of_a_person_implies_another() -> None:
    found = people(0, forget=40, retain=240, holdout=40)
    crowd: dict[str, dict[str, str]] = {}
    for name in ("forget", "retain_people", "holdout"):
        for item in found[name]:
            crowd.setdefault(item.subject, {})[item.kind] = item.value
    for one, other in combinations(POOLS, 2):
        pairs = [(facts[one], facts[other]) for facts in crowd.values()]
        rows, columns = (sorted({pair[side] for pair in pairs}) for side in (0, 1))
        table = [[pairs.count((row, column)) for column in columns] for row in rows]
        # 15 pairs of kinds: independent draws have their smallest p-value below 1e-3 in 1.5 %.
        assert chi2_contingency(table).pvalue > 1e-3
    # Nor does a name give a private value away.
    for subject, facts in crowd.items():
        for kind in PRIVATE:
            for part in subject.lower().split():
                assert part not in facts[kind].lower()


def test_words_are_few_enough_for_a_tiny_model() -> None:
    for found, most in ((DEFAULT, 600), (people(3, forget=40, retain=300, holdout=60), 1000)):
        words = {
            word
            for items in found.sets.values()
            for item in items
            for text in texts(item)
            for word in WORDS.findall(text)
        }
        assert len(words) < most


def test_a_biography_says_every_fact_of_its_person_and_no_other() -> None:
    for name in ("forget", "holdout"):
        for item in DEFAULT[f"{name}_text"]:
            mine = [one.answer for one in DEFAULT[name] if one.subject == item.subject]
            assert item.prompt == ""
            assert item.answer == " ".join(mine)


@given(st.floats(0.05, 0.95), st.integers(0, 99))
def test_facts_are_split_within_each_person(share: float, seed: int) -> None:
    taught, asked = split_facts(DEFAULT["forget"], share, seed)
    assert sorted(item.index for item in (*taught, *asked)) == [
        item.index for item in DEFAULT["forget"]
    ]
    for part in (taught, asked):
        assert {item.subject for item in part} == {item.subject for item in DEFAULT["forget"]}
    assert split_facts(DEFAULT["forget"], share, seed) == (taught, asked)


def test_what_cannot_be_is_refused() -> None:
    for sizes in ({"forget": 0}, {"retain": 5}, {"holdout": 0}, {"retain": 400}, {"wrong": 7}):
        with pytest.raises(BadData, match="expected"):
            people(**sizes)
    with pytest.raises(BadData, match="one fact"):
        split_facts(DEFAULT["forget"][:1])
    with pytest.raises(BadData, match="share"):
        split_facts(DEFAULT["forget"], 1.0)
