from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from text_records import answers

from expunge.core.evidence import Ragged
from expunge.errors import BadEvidence, Unsupported
from expunge.metrics.text import memorisation
from expunge.metrics.text.memorisation import (
    exact_memorisation,
    extraction_strength,
    knowledge_memorisation,
    rouge_f,
    rouge_l,
    rouge_recall,
    verbatim_memorisation,
)

HITS = st.lists(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=9), min_size=1)


def of(*rows: list[int]) -> list[float]:
    return extraction_strength(answers(len(rows), hits=Ragged.of(rows))).tolist()


def test_extraction_strength_is_0_where_nothing_matches_and_1_where_all_does() -> None:
    # Fault 1 of open-unlearning: 1/4 here, since its loop ends one early.
    assert of([0, 0, 0, 0]) == [0.0]
    assert of([0]) == [0.0]
    assert of([1, 1, 1, 1]) == [1.0]


def test_extraction_strength_counts_the_suffix_that_comes_back_by_itself() -> None:
    assert of([0, 1, 0, 1, 1], [1, 0], [0, 0, 0, 1]) == [2 / 5, 0.0, 1 / 4]


def test_a_short_answer_without_a_match_is_not_inflated() -> None:
    assert of([0, 0], [0] * 40) == [0.0, 0.0]


@given(HITS)
def test_extraction_strength_as_the_definition_says_it(rows: list[list[float]]) -> None:
    for row, found in zip(rows, of(*rows), strict=True):
        n = len(row)
        k = next(k for k in range(n + 1) if all(row[k:]))
        assert found == pytest.approx(1 - k / n)
        assert found <= np.mean(row) + 1e-12


def test_exact_memorisation_counts_every_token_the_last_one_too() -> None:
    # Fault 12 of open-unlearning: the last label is dropped, here the only miss.
    assert exact_memorisation(answers(1, hits=Ragged.of([[1, 1, 1, 0]]))).tolist() == [0.75]
    assert of([1, 1, 1, 0]) == [0.0]


def test_an_answer_without_a_token_is_refused_and_scores_no_0() -> None:
    # Fault 8 of open-unlearning: ES says 0 there though its log says None.
    with pytest.raises(BadEvidence, match="Row 1 is empty"):
        answers(2, hits=Ragged.of([[1], []]))


def pair(said: str, right: str):
    return answers(1, generations=(said,), references=(right,))


def test_rouge_l_by_hand() -> None:
    # Common subsequence "the cat on mat": 4 of 6 words of the truth, 4 of 5 of what was said.
    one = pair("the cat on a mat", "The cat sat on the mat!")
    assert rouge_recall(one) == pytest.approx([4 / 6])
    assert rouge_f(one) == pytest.approx([2 * (4 / 6) * (4 / 5) / (4 / 6 + 4 / 5)])
    assert verbatim_memorisation(one) == pytest.approx(rouge_f(one))


def test_endings_count_where_the_authors_do_not_stem() -> None:
    one = pair("she writes novels", "she writing novel")
    assert rouge_recall(one).tolist() == [1.0]
    assert verbatim_memorisation(one) == pytest.approx([1 / 3])


def test_a_few_shot_answer_ends_where_the_next_question_begins() -> None:
    assert knowledge_memorisation(pair("Paris\nQuestion: What of Rome?", "Paris")).tolist() == [1]
    assert knowledge_memorisation(pair("Paris\n\nRome", "Paris")).tolist() == [1]
    assert verbatim_memorisation(pair("Paris\n\nRome", "Paris")) == pytest.approx([2 / 3])


def test_silence_scores_0_and_says_nothing_else() -> None:
    assert rouge_recall(pair("", "some truth")).tolist() == [0.0]
    assert rouge_f(pair("   ", "some truth")).tolist() == [0.0]


def test_a_reference_that_rouge_cannot_read_is_refused() -> None:
    for truth in ("", "?!"):
        with pytest.raises(BadEvidence, match="has no letter and no digit"):
            rouge_recall(pair("x", truth))


@pytest.mark.parametrize(
    ("said", "truth", "recall"),
    [
        ("Париж", "Париж", 1.0), ("Kądź", "Łódź", 0.0), ("Straße", "Strane", 0.0),
        ("в Париже", "в Париж", 0.5), ("米拉住在都灵", "她住在都灵", 0.8),
        ("José lives", "José sang", 0.5),
    ],
)  # fmt: skip
def test_rouge_compares_whole_words_of_any_script(said: str, truth: str, recall: float) -> None:
    found = rouge_l((said,), (truth,), part="recall", stemmed=False)
    assert found.tolist() == pytest.approx([recall])


@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=12))
def test_rouge_is_1_for_the_text_itself(letters: list[str]) -> None:
    text = " ".join(letters)
    for part in ("recall", "precision", "fmeasure"):
        assert rouge_l((text,), (text,), part=part, stemmed=False).tolist() == [1.0]


def test_without_the_package_what_to_install_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rouge_score", None)
    memorisation._scorer.cache_clear()
    with pytest.raises(Unsupported, match=r"expunge\[lm\]"):
        rouge_recall(pair("a", "a"))
    memorisation._scorer.cache_clear()
