from __future__ import annotations

import math
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from text_records import answers, drawn

from expunge.core.evidence import Ragged
from expunge.errors import BadEvidence, ExpungeError
from expunge.metrics.text.membership import (
    ATTACKS,
    Sides,
    gradient_attack,
    loss_attack,
    membership,
    min_k_attack,
    min_k_plus_attack,
    privleak,
    reference_attack,
    zlib_attack,
)

RNG = np.random.default_rng


def test_every_attack_by_hand() -> None:
    said = answers(
        2,
        logprobs=Ragged.of([[-1.0, -2.0, -3.0, -4.0, -5.0], [-2.0]]),
        means=Ragged.of([[-2.0] * 5, [-3.0]]),
        spreads=Ragged.of([[2.0] * 5, [0.5]]),
        references=("a text", "b"),
        norms=np.array([3.0, 4.0]),
    )
    assert loss_attack(said).tolist() == [-3.0, -2.0]
    sizes = [len(zlib.compress(text)) for text in (b"a text", b"b")]
    assert zlib_attack(said) == pytest.approx([-3 / sizes[0], -2 / sizes[1]])
    # 40 % of five tokens are two, of one token one at least.
    assert min_k_attack(said).tolist() == [-4.5, -2.0]
    assert min_k_attack(said, share=0.2).tolist() == [-5.0, -2.0]
    assert min_k_plus_attack(said) == pytest.approx([(-1.0 - 1.5) / 2, (-2 + 3) / 0.5])
    assert gradient_attack(said).tolist() == [-3.0, -4.0]
    reference = answers(2, logprobs=Ragged.of([[-1.0], [-4.0]]))
    assert reference_attack(reference)(said).tolist() == [-2.0, 2.0]


def test_a_token_without_spread_gives_no_infinity() -> None:
    said = answers(
        1, logprobs=Ragged.of([[0.0]]), means=Ragged.of([[0.0]]), spreads=Ragged.of([[0.0]])
    )
    assert min_k_plus_attack(said).tolist() == [0.0]


def test_a_share_outside_0_to_1_is_refused() -> None:
    said = answers(1, logprobs=Ragged.of([[-1.0]]))
    for share in (0.0, 1.1, float("nan")):
        with pytest.raises(ExpungeError, match="share"):
            min_k_attack(said, share=share)


@given(st.integers(0, 10_000))
def test_the_order_of_tokens_and_of_examples_changes_no_attack(seed: int) -> None:
    said = drawn(5, seed)
    rng = RNG(seed)
    order = rng.permutation(5)
    turned = said.at(order)
    for attack in ATTACKS.values():
        assert attack(turned) == pytest.approx(attack(said)[order], rel=1e-9)


def sides(seed: int, shift: float) -> Sides:
    return Sides(drawn(60, seed, shift=shift), drawn(60, seed + 1, start=1000))


def test_membership_stands_between_the_unlearned_and_the_retrained_model() -> None:
    subject, oracle = sides(1, 1.5), sides(5, 0.0)
    found = membership(loss_attack, subject, oracle, RNG(0))
    assert found.subject.value > 0.7 > found.oracle.value
    assert found.gap.value == pytest.approx(found.subject.value - found.oracle.value)
    assert found.gap.low < found.gap.value < found.gap.high
    expected = 1 - min(abs(found.gap.value) / found.oracle.value, 1)
    assert found.likeness == pytest.approx(expected)


def test_the_oracle_itself_has_no_gap_though_its_auc_is_far_from_a_half() -> None:
    # The anchor is the retrained model, not 0.5: a holdout set may be easier throughout.
    same = Sides(drawn(40, 3, shift=-2.0), drawn(40, 4, shift=2.0, start=1000))
    found = membership(loss_attack, same, same, RNG(0))
    assert found.oracle.value < 0.3
    assert (found.gap.value, found.gap.low, found.gap.high) == (0.0, 0.0, 0.0)
    assert found.likeness == 1.0


def test_an_oracle_s_examples_in_another_order_are_matched() -> None:
    subject, oracle = sides(1, 0.5), sides(9, 0.0)
    turned = Sides(oracle.forget.at(oracle.forget.index[::-1]), oracle.holdout)
    for attack in (loss_attack, min_k_plus_attack):
        first = membership(attack, subject, oracle, RNG(0))
        second = membership(attack, subject, turned, RNG(0))
        assert first.gap.value == pytest.approx(second.gap.value)
        assert first.gap.low == pytest.approx(second.gap.low)


def test_an_attack_without_an_oracle_is_refused() -> None:
    with pytest.raises(BadEvidence, match="retrained without the forget set"):
        membership(loss_attack, sides(1, 0.0), None, RNG(0))


def test_privleak_by_hand_as_muse_defines_it() -> None:
    # MUSE's areas are 1 - AUC: (0.2 - 0.5) / 0.5.
    assert privleak(0.8, 0.5) == pytest.approx(-60.0)
    assert privleak(0.4, 0.5) == pytest.approx(20.0)
    assert privleak(0.37, 0.37) == 0.0


def test_privleak_without_an_oracle_is_refused_and_takes_no_half_instead() -> None:
    # Structural fault 7 of open-unlearning: the retrained model itself would leak 23.5 %.
    with pytest.raises(BadEvidence, match="no number takes its place"):
        privleak(0.38261, None)


def test_privleak_grows_without_bound_and_says_so_where_it_has_no_value() -> None:
    assert privleak(0.0, 0.98) == pytest.approx(4900)
    with pytest.raises(BadEvidence, match="divide by 0"):
        privleak(0.3, 1.0)
    with pytest.raises(ExpungeError):
        privleak(1.2, 0.5)


def test_a_likeness_of_an_oracle_at_0() -> None:
    subject = Sides(answers(3, logprobs=Ragged.of([[-9.0]] * 3)), drawn(3, 1, start=10))
    found = membership(loss_attack, subject, subject, RNG(0))
    assert found.oracle.value == 0.0
    assert found.likeness == 1.0
    assert math.isfinite(found.gap.value)
