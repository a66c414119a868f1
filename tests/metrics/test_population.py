"""Population attacks: the order they give, the machine of the sparsity papers, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit

from expunge.errors import BadEvidence
from expunge.metrics.attacks.roc import roc
from expunge.metrics.attacks.signals import (
    confidence_attack,
    entropy_attack,
    loss_attack,
    mia_efficacy,
    modified_entropy_attack,
)

Floats = NDArray[np.float64]

ALL = (loss_attack, confidence_attack, entropy_attack, modified_entropy_attack)


def normal(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).normal(size=shape)


def test_all_are_labelled_weak() -> None:
    for attack in (*ALL, mia_efficacy):
        assert "*Weak*" in (attack.__doc__ or "")


@pytest.mark.parametrize("attack", ALL, ids=lambda a: a.__name__)
def test_members_that_are_fitted_score_higher(attack: type) -> None:
    logits, targets = normal(0, 3, 200, 4), np.arange(200) % 4
    inside = np.zeros((3, 200), dtype=bool)
    inside[:, :100] = True
    logits[:, np.arange(100), targets[:100]] += 6
    assert roc(attack(logits, targets), inside, ~inside).auc() > 0.9


def test_sure_and_wrong_is_told_from_sure_and_right_by_all_but_entropy() -> None:
    logits, targets = np.array([[[9.0, 0.0, 0.0], [0.0, 9.0, 0.0]]]), np.array([0, 0])
    for attack in (loss_attack, confidence_attack, modified_entropy_attack):
        right, wrong = attack(logits, targets)[0]
        assert right > wrong
    assert entropy_attack(logits, targets)[0, 0] == entropy_attack(logits, targets)[0, 1]


def test_the_loss_keeps_apart_what_rounds_to_a_confidence_of_1() -> None:
    logits, targets = np.array([[[60.0, 0.0], [50.0, 0.0]]]), np.array([0, 0])
    assert np.ptp(confidence_attack(logits, targets)) == 0
    assert np.ptp(loss_attack(logits, targets)) > 0


def test_efficacy_against_the_authors() -> None:
    """SVC_fit_predict of OPTML-Group/Unlearn-Saliency @ a6e89fd: 0.325 of the forget set."""
    retain, test = expit(normal(8, 60) + 1.5), expit(normal(9, 60))
    forget = expit(normal(10, 40) + 1)
    assert mia_efficacy(forget[None], retain[None], test[None]) == pytest.approx([0.325])
    # The same with a feature axis, and model by model.
    both = [np.stack([one, one])[..., None] for one in (forget, retain, test)]
    assert mia_efficacy(*both) == pytest.approx([0.325, 0.325])


def test_efficacy_ends() -> None:
    retain, test = 0.9 + normal(0, 2, 50) * 0.01, 0.1 + normal(1, 2, 50) * 0.01
    assert mia_efficacy(test[:, :20], retain, test).tolist() == [1.0, 1.0]
    assert mia_efficacy(retain[:, :20], retain, test).tolist() == [0.0, 0.0]


def test_bad_efficacy() -> None:
    good = expit(normal(0, 2, 9))
    for broken in (
        (good[:1], good, good),
        (good, good[:, :0], good),
        (good[0], good[0], good[0]),
        (good[..., None], np.stack([good, good], axis=2), good[..., None]),
        (good * np.nan, good, good),
        (good, np.ones((2, 3)), np.ones((2, 3))),
    ):
        with pytest.raises(BadEvidence):
            mia_efficacy(*broken)
