"""Signals: closed forms, extreme answers, what adding a constant does, and refusals."""

from __future__ import annotations

import math
from collections.abc import Callable

import naive_attacks
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from expunge.errors import BadEvidence
from expunge.metrics.attacks.signals import (
    confidence,
    cross_entropy,
    entropy,
    fitting,
    modified_entropy,
    scaled_confidence,
    taylor_soft_margin,
)

ALL = (scaled_confidence, entropy, modified_entropy, taylor_soft_margin)


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.floats(0.1, 4))
def test_signals_are_their_formulas(seed: int, classes: int, width: float) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(2, 3, classes)) * width
    targets = rng.integers(0, classes, size=3)
    p = softmax(logits, axis=2)
    phi = scaled_confidence(logits, targets)
    mixed, plain = modified_entropy(logits, targets), entropy(logits, targets)
    for model, example in np.ndindex(2, 3):
        y, row = int(targets[example]), list(p[model, example])
        at = model, example
        assert phi[at] == pytest.approx(naive_attacks.phi(logits[at], y))
        assert confidence(phi)[at] == pytest.approx(row[y])
        assert cross_entropy(phi)[at] == pytest.approx(-math.log(row[y]), abs=1e-9)
        assert mixed[at] == pytest.approx(naive_attacks.modified_entropy(row, y), abs=1e-9)
        assert plain[at] == pytest.approx(-sum(q * math.log(q) for q in row))


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.floats(-50, 50))
def test_a_constant_on_all_logits_changes_nothing(seed: int, constant: float) -> None:
    rng = np.random.default_rng(seed)
    logits, targets = rng.normal(size=(2, 4, 3)), rng.integers(0, 3, size=4)
    for signal in (scaled_confidence, entropy, modified_entropy):
        assert signal(logits + constant, targets) == pytest.approx(signal(logits, targets))


def test_the_taylor_signal_does_change_with_a_constant() -> None:
    logits, targets = np.array([[[1.0, 0.0, -1.0]]]), np.array([0])
    moved = taylor_soft_margin(logits - 5, targets)
    assert abs(moved - taylor_soft_margin(logits, targets)).max() > 0.05


def test_no_confidence_is_rounded_to_an_end() -> None:
    logits = np.array([[[900.0, 0.0], [0.0, 900.0], [45.0, 0.0], [44.0, 0.0]]])
    phi = scaled_confidence(logits, np.zeros(4, dtype=int))
    assert phi[0].tolist() == [900.0, -900.0, 45.0, 44.0]
    # Both confidences round to 1, and both losses are kept apart.
    assert (confidence(phi)[0, 2:] == 1.0).all()
    assert cross_entropy(phi)[0].tolist() == pytest.approx(
        [0.0, 900.0, math.exp(-45), math.exp(-44)]
    )
    assert modified_entropy(logits, np.zeros(4, dtype=int))[0] == pytest.approx(
        [0.0, 1800.0, 0.0, 0.0], abs=1e-15
    )
    assert np.isfinite(fitting(phi)).all()


def test_modified_entropy_row_by_row() -> None:
    # p = (0.7, 0.2, 0.1), right class 0: -0.3 ln 0.7 - 0.2 ln 0.8 - 0.1 ln 0.9.
    p = np.array([[[0.7, 0.2, 0.1], [0.2, 0.5, 0.3]]])
    found = modified_entropy(np.log(p), np.array([0, 2]))
    first = -0.3 * math.log(0.7) - 0.2 * math.log(0.8) - 0.1 * math.log(0.9)
    second = -0.7 * math.log(0.3) - 0.2 * math.log(0.8) - 0.5 * math.log(0.5)
    assert found[0] == pytest.approx([first, second])


def test_modified_entropy_is_not_the_faulty_one() -> None:
    """Values of svc_mia's m_entropy, OPTML-Group/Unlearn-Saliency @ a6e89fd, on these logits."""
    logits = 2 * np.random.default_rng(4).normal(size=(1, 6, 4))
    targets = np.array([0, 1, 2, 3, 0, 1])
    theirs = [10.437270589359873, 7.1442125728091215, 11.774758752005944]
    faulty = naive_attacks.released_modified_entropy(softmax(logits[0], axis=1), targets)
    assert faulty[:3] == pytest.approx(theirs)
    ours = modified_entropy(logits, targets)[0]
    assert np.abs(ours - faulty).min() > 3
    # Each example alone: the answers of others do not come in, as they do there.
    alone = [modified_entropy(logits[:, [i]], targets[[i]])[0, 0] for i in range(6)]
    assert ours == pytest.approx(alone)
    for row, y, found in zip(softmax(logits[0], axis=1), targets, ours, strict=True):
        assert found == pytest.approx(naive_attacks.modified_entropy(list(row), int(y)))


def test_fitting_by_hand() -> None:
    # p = 1/2: -ln(0.01 - ln(0.50001)).
    assert fitting(np.array([0.0])) == pytest.approx([-math.log(0.01 - math.log(0.50001))])
    rising = fitting(np.linspace(-30, 30, 50))
    assert (np.diff(rising) > 0).all()
    with pytest.raises(BadEvidence, match="eps1"):
        fitting(np.zeros(2), eps1=1e-6, eps2=1e-5)


def test_taylor_soft_margin_against_the_authors() -> None:
    """convert_signals of Happy2Git/Unlearning_Inference_IAM @ 13f385b with taylor_n = 5."""
    logits = 2 * np.random.default_rng(4).normal(size=(1, 6, 4))
    targets = np.array([0, 1, 2, 3, 0, 1])
    theirs = [0.03738924078172681, 0.21735141541830164, 0.09972710372798825]
    assert taylor_soft_margin(logits, targets)[0, :3] == pytest.approx(theirs)
    # Their default, n = 4, gives 3.84 and -0.50 for these "confidences".
    odd = np.array([[[-8.0, 3.0, 0.0, 1.0], [6.0, -9.0, -9.0, -9.0]]])
    assert taylor_soft_margin(odd, np.zeros(2, dtype=int))[0] == pytest.approx(
        [0.5718859496575847, 0.28045362946839836]
    )
    for order in (3, 0):
        with pytest.raises(BadEvidence, match="even order"):
            taylor_soft_margin(logits, targets, order=order)


def test_float32_is_read_as_it_is() -> None:
    logits = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    before = logits.copy()
    for signal in ALL:
        found = signal(logits, np.zeros(3, dtype=int))
        assert found.dtype == np.float64
        assert found.shape == (2, 3)
    assert (logits == before).all()


@pytest.mark.parametrize("signal", ALL, ids=lambda s: s.__name__)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused(
    signal: Callable[..., np.ndarray], bad: float
) -> None:
    logits = np.zeros((3, 4, 2))
    logits[1, 2, 1] = bad
    with pytest.raises(BadEvidence, match="1 of 3 models"):
        signal(logits, np.zeros(4, dtype=int))


@pytest.mark.parametrize(
    ("logits", "targets"),
    [
        (np.zeros((3, 2)), np.zeros(3, dtype=int)),
        (np.zeros((2, 3, 2)), np.zeros(2, dtype=int)),
        (np.zeros((2, 3, 2)), np.full(3, 2)),
        (np.zeros((2, 3, 2)), np.full(3, -1)),
        (np.zeros((2, 3, 1)), np.zeros(3, dtype=int)),
        (np.zeros((0, 3, 2)), np.zeros(3, dtype=int)),
    ],
)
def test_shapes_are_checked(logits: np.ndarray, targets: np.ndarray) -> None:
    for signal in ALL:
        with pytest.raises(BadEvidence):
            signal(logits, targets)
