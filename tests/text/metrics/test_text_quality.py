from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hmean, ks_2samp
from text_records import answers, drawn

from expunge.core.evidence import Answers, Nested
from expunge.errors import BadEvidence
from expunge.metrics.text.likelihood import truth_ratio
from expunge.metrics.text.quality import forget_quality, harmonic_mean, model_utility, utility_of

RNG = np.random.default_rng


def ratios(*values: float) -> Answers:
    """Answers whose truth ratios are these."""
    return answers(
        len(values),
        paraphrased=Nested.of([[[-5.0]] for _ in values]),
        wrong=Nested.of([[[-5.0 + np.log(value)]] for value in values]),
    )


def test_forget_quality_s_d_by_hand() -> None:
    # At 0.25 the one has seen 2 of 4 values and the other 0; nowhere is the gap larger.
    found = forget_quality(ratios(0.1, 0.2, 0.6, 0.8), ratios(0.3, 0.5, 0.7, 0.9))
    assert found.d == 0.5
    assert found.legacy_p == pytest.approx(ks_2samp([1, 2, 5, 7], [3, 4, 6, 8]).pvalue)


def test_the_oracle_against_itself() -> None:
    one = drawn(40, 1)
    found = forget_quality(one, one)
    assert (found.d, found.legacy_p) == (0.0, 1.0)


def test_d_stays_where_p_falls_with_the_number_of_examples() -> None:
    # Trap (b) of TOFU: p-values of forget01, 05 and 10 cannot be compared.
    few = forget_quality(ratios(0.1, 0.2, 0.3, 0.4), ratios(0.2, 0.3, 0.4, 0.5))
    many = forget_quality(
        ratios(*np.repeat([0.1, 0.2, 0.3, 0.4], 100)), ratios(*np.repeat([0.2, 0.3, 0.4, 0.5], 100))
    )
    assert few.d == pytest.approx(many.d)
    assert few.legacy_p > 0.9
    assert many.legacy_p < 1e-8


def test_an_inverted_ratio_gives_the_same_and_another_mean_does_not() -> None:
    one, other = drawn(60, 1, shift=0.5), drawn(60, 2)
    both = [truth_ratio(side) for side in (one, other)]
    turned = ks_2samp(1 / both[0], 1 / both[1])
    found = forget_quality(one, other)
    assert found.d == pytest.approx(turned.statistic)
    assert found.legacy_p == pytest.approx(turned.pvalue)
    both = [truth_ratio(side, "arithmetic") for side in (one, other)]
    arithmetic = forget_quality(one, other, form="arithmetic")
    assert arithmetic.d == pytest.approx(ks_2samp(*both).statistic)
    assert arithmetic.d != found.d


def test_examples_are_matched_and_an_oracle_is_asked_for() -> None:
    one, other = drawn(30, 1), drawn(30, 2)
    shuffled = other.at(RNG(0).permutation(30))
    assert forget_quality(one, shuffled).d == forget_quality(one, other).d
    with pytest.raises(BadEvidence, match="'forget quality' is read against"):
        forget_quality(one, None)
    with pytest.raises(BadEvidence, match="same ones"):
        forget_quality(one, drawn(29, 2))


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=9))
def test_harmonic_mean_as_scipy_s(parts: list[float]) -> None:
    assert harmonic_mean(parts) == pytest.approx(hmean(parts))
    assert min(parts) - 1e-12 <= harmonic_mean(parts) <= np.mean(parts) + 1e-12


def test_harmonic_mean_by_hand() -> None:
    assert harmonic_mean([0.5, 1.0]) == pytest.approx(2 / 3)
    assert harmonic_mean([0.0, 1.0]) == 0.0
    with pytest.raises(BadEvidence, match="0 or more"):
        harmonic_mean([-0.1, 1.0])
    with pytest.raises(BadEvidence):
        harmonic_mean([float("nan")])


def test_model_utility_by_hand() -> None:
    # Eight of the nine numbers are 1, one is 1/2: 9 / (8 + 2).
    tables = [np.ones((4, 3)) for _ in range(3)]
    tables[1][:, 2] = 0.5
    found = utility_of(tables, RNG(0))
    assert found.score.value == pytest.approx(0.9)
    assert found.parts["real authors truth ratio"] == 0.5
    assert len(found.parts) == 9


def test_one_forgotten_set_pulls_model_utility_down_to_0() -> None:
    tables = [np.full((5, 3), 0.9) for _ in range(3)]
    tables[2][:, 1] = 0.0
    assert utility_of(tables, RNG(0)).score.value == 0.0


def test_model_utility_reads_answers_and_uses_options_for_the_last_two() -> None:
    retain = drawn(30, 1)
    others = [replace(drawn(20, seed), paraphrased=None) for seed in (2, 3)]
    found = model_utility(retain, *others, RNG(0))
    assert found.score.low <= found.score.value <= found.score.high
    assert found.parts["retain probability"] == pytest.approx(
        np.exp(retain.tokens("logprobs").means()).mean()
    )
    for name, said in zip(("real authors", "world facts"), others, strict=True):
        right = np.exp(said.tokens("logprobs").means())
        wrong = np.array([np.exp(row).sum() for row in said.several("wrong").rows()])
        assert found.parts[f"{name} probability"] == pytest.approx((right / (right + wrong)).mean())


def test_model_utility_refuses_what_it_cannot_read() -> None:
    with pytest.raises(BadEvidence, match=r"example, 3"):
        utility_of([np.ones((4, 3)), np.ones((4, 3))], RNG(0))
    with pytest.raises(BadEvidence, match="record"):
        model_utility(ratios(0.5, 0.5, 0.5), ratios(0.5), ratios(0.5), RNG(0))
