"""The loss attack: losses by hand, members below others, the mean over models."""

from __future__ import annotations

import numpy as np
import pytest

from expunge.core.evidence import Evidence
from expunge.metrics.attacks.signals import LossAttack, losses


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
