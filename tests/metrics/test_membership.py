"""The loss attack: AUC by hand, against a naive count of pairs and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from expunge.core.evidence import Evidence
from expunge.errors import BadEvidence
from expunge.metrics.attacks.population import LossAttack, auc, losses


def test_auc_by_hand() -> None:
    members = np.array([[0.0, 1.0], [5.0, 6.0], [2.0, 2.0]])
    others = np.array([[2.0, 3.0, 4.0], [1.0, 2.0, 3.0], [2.0, 2.0, 2.0]])
    assert auc(members, others).tolist() == [1.0, 0.0, 0.5]
    # Of four pairs two are won, one is tied and one is lost.
    assert auc(np.array([[1.0, 3.0]]), np.array([[3.0, 2.0]])) == pytest.approx([0.625])


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9), st.sampled_from([3, 99]))
def test_auc_is_a_count_of_pairs(seed: int, first: int, second: int, kinds: int) -> None:
    rng = np.random.default_rng(seed)
    members = rng.integers(0, kinds, size=(2, first)).astype(float)
    others = rng.integers(0, kinds, size=(2, second)).astype(float)
    for row, found in enumerate(auc(members, others)):
        pairs = [(a < b) + (a == b) / 2 for a in members[row] for b in others[row]]
        assert found == pytest.approx(np.mean(pairs))
        truth = np.repeat([1, 0], [first, second])
        scores = -np.concatenate([members[row], others[row]])
        assert found == pytest.approx(roc_auc_score(truth, scores))


def evidence(forget: float, test: float, models: int = 3) -> Evidence:
    """Right-class logits of these sizes, with noise of 0.5."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 3, size=60)
    logits = rng.normal(size=(models, 60, 3)) * 0.5
    logits[:, np.arange(60), targets] += np.repeat([forget, test], 30)
    return Evidence(logits, targets, {"forget": slice(0, 30), "test": slice(30, 60)})


def test_losses_are_cross_entropies() -> None:
    logits = np.log(np.array([[[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]]))
    side = Evidence(logits, np.array([0, 1]), {"test": slice(0, 2)})
    assert losses(side, "test")[0] == pytest.approx([-np.log(0.5), -np.log(0.1)])
    assert losses(Evidence(logits + 900, side.targets, side.sets), "test")[0] == pytest.approx(
        losses(side, "test")[0]
    )


@pytest.mark.parametrize(
    ("forget", "test", "low", "high"),
    [(4.0, 0.0, 0.99, 1.0), (0.0, 4.0, 0.0, 0.01), (1.0, 1.0, 0.35, 0.65)],
)
def test_loss_attack(forget: float, test: float, low: float, high: float) -> None:
    side = evidence(forget, test)
    found = LossAttack()(side, side, np.random.default_rng(0))
    assert low <= found.value <= high
    assert found.low <= found.value <= found.high
    assert (found.n, found.unit) == (3, "AUC")


def test_loss_attack_is_the_mean_over_models() -> None:
    side = evidence(1.0, 0.5, models=4)
    alone = [
        LossAttack()(side.models([at]), side, np.random.default_rng(0)).value for at in range(4)
    ]
    found = LossAttack()(side, side, np.random.default_rng(0)).value
    assert found == pytest.approx(np.mean(alone))
    assert np.std(alone) > 0


def test_bad_losses() -> None:
    for members, others in (
        (np.zeros((2, 3)), np.zeros((1, 3))),
        (np.zeros((2, 0)), np.ones((2, 1))),
    ):
        with pytest.raises(BadEvidence):
            auc(members, others)
