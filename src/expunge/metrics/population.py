"""*Weak* membership scores: one rule for all examples, no shadow models.

Weak because hard and easy examples differ by more than members and others do, so what a single
example gives away drowns. These attacks overstate protection (Hayes et al., 2403.01218): a value
near 0.5 is no evidence of forgetting, a value far from the retrained models' is evidence against.
Each score is higher for members and goes to `roc.auc` and its like.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from expunge.metrics import signals

Floats = NDArray[np.float64]


def loss_attack(logits: signals.Logits, targets: signals.Targets) -> Floats:
    """Return minus the loss of each answer, float64 [model, example]. *Weak*.

    Ranks as the confidence does, but keeps apart what rounds to a confidence of 1.

    Args:
        logits: [model, example, class], before the softmax.
        targets: integers [example].

    Raises:
        BadEvidence: as for `signals.scaled_confidence`.

    Source: Yeom et al. (1709.01604).
    """
    return -signals.cross_entropy(signals.scaled_confidence(logits, targets))


def confidence_attack(logits: signals.Logits, targets: signals.Targets) -> Floats:
    """Return the confidence in the right class, float64 [model, example]. *Weak*.

    Args, Raises: as for `loss_attack`.

    Source: Salem et al. (1806.01246).
    """
    return signals.confidence(signals.scaled_confidence(logits, targets))


def entropy_attack(logits: signals.Logits, targets: signals.Targets) -> Floats:
    """Return minus the entropy of each answer, float64 [model, example]. *Weak*; label-free.

    Args, Raises: as for `loss_attack`.

    Source: Salem et al. (1806.01246).
    """
    return -signals.entropy(logits, targets)


def modified_entropy_attack(logits: signals.Logits, targets: signals.Targets) -> Floats:
    """Return minus the modified entropy of each answer, float64 [model, example]. *Weak*.

    Args, Raises: as for `loss_attack`.

    Source: Song and Mittal (2003.10595), equation 8, without their thresholds a class.
    """
    return -signals.modified_entropy(logits, targets)
