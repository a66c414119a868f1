from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from text_records import answers, drawn, logs

from expunge.core.evidence import Nested, Ragged
from expunge.errors import BadEvidence, ExpungeError
from expunge.metrics.text.likelihood import (
    closer_to_1,
    option_probability,
    paraphrased_probability,
    perplexity,
    prob_mean,
    probability,
    true_better,
    truth_ratio,
    truth_ratio_closer_to_1,
    truth_ratio_prob_mean,
    truth_ratio_true_better,
)

# Right 0.4; wrong 0.1 and 0.4: geometric mean 0.2, arithmetic mean 0.25.
ONE = answers(
    1,
    logprobs=Ragged.of([logs(0.4)]),
    paraphrased=Nested.of([[logs(0.4)]]),
    wrong=Nested.of([[logs(0.1), logs(0.4)]]),
)
RATIOS = st.lists(st.floats(-700, 700), min_size=1, max_size=20).map(np.array)


def test_probability_is_the_geometric_mean_over_the_answer_s_tokens() -> None:
    said = answers(2, logprobs=Ragged.of([logs(0.5, 0.125), logs(0.3)]))
    assert probability(said) == pytest.approx([0.25, 0.3])


def test_a_paraphrase_s_probability_is_averaged_over_paraphrases() -> None:
    said = answers(1, paraphrased=Nested.of([[logs(0.5, 0.125), logs(0.75)]]))
    assert paraphrased_probability(said) == pytest.approx([0.5])


def test_options_share_the_probability() -> None:
    assert option_probability(ONE) == pytest.approx([0.4 / (0.4 + 0.1 + 0.4)])


def test_the_truth_ratio_s_two_means_differ_and_are_chosen_by_name() -> None:
    # Trap (a) of TOFU: three definitions in one repository.
    assert truth_ratio(ONE, "geometric") == pytest.approx([0.2 / 0.4])
    assert truth_ratio(ONE, "arithmetic") == pytest.approx([0.25 / 0.4])
    with pytest.raises(ExpungeError, match="geometric"):
        truth_ratio(ONE, "harmonic")  # type: ignore[arg-type]


def test_each_published_aggregate_of_the_truth_ratio_by_hand() -> None:
    assert truth_ratio_closer_to_1(ONE) == pytest.approx([0.5])
    assert truth_ratio_true_better(ONE) == pytest.approx([0.5])
    assert truth_ratio_prob_mean(ONE) == pytest.approx([0.4 / (0.4 + 0.2)])
    likelier_wrong = answers(
        1, paraphrased=Nested.of([[logs(0.1)]]), wrong=Nested.of([[logs(0.4)]])
    )
    assert truth_ratio_closer_to_1(likelier_wrong) == pytest.approx([0.25])
    assert truth_ratio_true_better(likelier_wrong).tolist() == [0.0]
    assert truth_ratio_prob_mean(likelier_wrong) == pytest.approx([0.2])


def test_without_a_paraphrase_the_answer_stands_in() -> None:
    said = answers(1, logprobs=Ragged.of([logs(0.5)]), wrong=Nested.of([[logs(0.25)]]))
    assert truth_ratio(said) == pytest.approx([0.5])


def test_a_collapsed_model_s_ratio_is_its_own_and_no_epsilon_s() -> None:
    # open-unlearning adds 1e-10 to the denominator: it would say 1e-13 / 1e-10, so 0.001.
    said = answers(
        1,
        paraphrased=Nested.of([[[-30.0]]]),
        wrong=Nested.of([[[-30.0], [-30.0]]]),
        logprobs=Ragged.of([[-2000.0]]),
    )
    assert truth_ratio_closer_to_1(said).tolist() == [1.0]
    assert truth_ratio_prob_mean(said).tolist() == [0.5]
    assert np.isfinite(option_probability(said)).all()


@given(RATIOS)
def test_the_three_forms_are_shares_and_agree_on_which_is_likelier(ratios: np.ndarray) -> None:
    for form in (closer_to_1, true_better, prob_mean):
        assert ((form(ratios) >= 0) & (form(ratios) <= 1)).all()
    assert closer_to_1(-ratios) == pytest.approx(closer_to_1(ratios))
    assert prob_mean(-ratios) == pytest.approx(1 - prob_mean(ratios), abs=1e-12)
    assert ((true_better(ratios) > 0) == (np.expm1(np.minimum(ratios, 0)) < 0)).all()


@given(st.integers(0, 1000))
def test_wrong_answers_in_another_order_give_the_same(seed: int) -> None:
    said = drawn(6, seed)
    rows = said.wrong.tokens.rows() if said.wrong else []
    others = Nested.of([rows[3 * place + k] for k in (2, 0, 1)] for place in range(6))
    turned = answers(6, paraphrased=said.paraphrased, wrong=others)
    for form in ("geometric", "arithmetic"):
        assert truth_ratio(turned, form) == pytest.approx(truth_ratio(said, form))
    assert (truth_ratio(said, "arithmetic") >= truth_ratio(said) * (1 - 1e-9)).all()


def test_perplexity_weighs_tokens_and_not_examples() -> None:
    said = answers(2, logprobs=Ragged.of([logs(0.5), logs(0.25, 0.25, 0.25)]))
    assert perplexity(said) == pytest.approx(math.exp((math.log(2) + 3 * math.log(4)) / 4))


def test_what_was_not_recorded_is_named() -> None:
    with pytest.raises(BadEvidence, match="needs the log-probabilities of wrong answers"):
        truth_ratio_true_better(answers(1, logprobs=Ragged.of([[-1.0]])))
    with pytest.raises(BadEvidence, match="true answer's tokens"):
        truth_ratio(answers(1, wrong=Nested.of([[[-1.0]]])))
    with pytest.raises(BadEvidence, match="no examples"):
        probability(answers(0, logprobs=Ragged.of([])))
