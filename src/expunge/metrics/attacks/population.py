"""*Weak* membership scores: one rule for all examples, no shadow models.

Weak because hard and easy examples differ by more than members and others do, so what a single
example gives away drowns. These attacks overstate protection (Hayes et al., 2403.01218): a value
near 0.5 is no evidence of forgetting, a value far from the retrained models' is evidence against.
Each score is higher for members and goes to `statistics.auc` or `roc.roc`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from expunge.core.evidence import Evidence
from expunge.errors import BadEvidence
from expunge.metrics.agreement import mean
from expunge.metrics.attacks import signals
from expunge.metrics.score import Aim, Score, scored
from expunge.statistics import roc_area

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


def losses(evidence: Evidence, name: str) -> Floats:
    """Return the cross-entropy of each answer on one set, nats, float64 [model, example]."""
    side = evidence.on(name)
    logits = side.logits.astype(np.float64)
    right = logits[:, np.arange(len(side.targets)), side.targets]
    found: Floats = logsumexp(logits, axis=2) - right
    return found


@dataclass(frozen=True)
class LossAttack:
    """*Weak* membership inference: AUC of the loss, forget set against test set, mean over models.

    Weak because it is a population attack: one threshold for all examples, so that hard and easy
    examples drown what single ones give away. Such attacks overstate protection: an AUC of 0.5 is
    no evidence of forgetting (an AUC far from the oracle's is evidence against it). Nor is 0.5 the
    aim: forget and test examples may differ by themselves, so compare with the oracle's value.

    Source: Yeom et al. (1709.01604), loss threshold; Hayes et al. (2403.01218) on its weakness.
    """

    unit: ClassVar[str] = "AUC"
    aim: ClassVar[Aim] = "oracle"

    def __call__(self, subject: Evidence, oracle: Evidence, rng: np.random.Generator) -> Score:
        """Score the unlearned models; the oracle is read by calling this on its own models."""
        # A member should have the smaller loss, so the larger score.
        found = roc_area.auc(-losses(subject, "forget").T, -losses(subject, "test").T)
        return scored(mean, [found], rng, unit=self.unit, bounds=(0.0, 1.0))


C = 3.0


def mia_efficacy(forget: Floats, retain: Floats, test: Floats) -> Floats:
    """Return the share of the forget set that is called *not* a member, for each model. *Weak*.

    A support vector machine (C = 3, radial, gamma = 1 / features) is fitted to the answers of each
    model on retain (member) and test (not). The papers call a high share good; good is the
    retrained models' share. Cost grows with the square of the examples (2 x 2,500 take 0.7 s a
    model); the papers use as many retain as test examples.

    Args:
        forget, retain, test: float64 [model, example] or [model, example, feature]: confidences in
            the right class (what the papers report), entropies, or all probabilities.

    Returns:
        float64 [model], from 0 to 1.

    Raises:
        BadEvidence: other shapes, different models or features, a set without examples, values
            that are not finite, or one and the same answer on retain and test.

    Source: Jia et al. (2304.04934), MIA-Efficacy; OPTML-Group/Unlearn-Saliency,
    Classification/evaluation/SVC_MIA.py (commit a6e89fd), `SVC_fit_predict`.
    """
    # Slow to import, and read by nothing else here.
    from sklearn.svm import SVC

    sides = [_features(one) for one in (forget, retain, test)]
    _check(*sides)
    found = []
    for asked, members, others in zip(*sides, strict=True):
        truth = np.repeat([1, 0], [len(members), len(others)])
        machine = SVC(C=C, kernel="rbf", gamma="auto").fit(np.concatenate([members, others]), truth)
        found.append(1.0 - machine.predict(asked).mean())
    return np.array(found, dtype=np.float64)


def _features(values: Floats) -> Floats:
    """As float64 [model, example, feature]."""
    values = np.asarray(values, dtype=np.float64)
    return values[..., None] if values.ndim == 2 else values


def _check(forget: Floats, retain: Floats, test: Floats) -> None:
    """Refuse what no machine can be fitted to."""
    sides = (forget, retain, test)
    shapes = [one.shape for one in sides]
    kinds = {one.shape[::2] for one in sides}
    if any(one.ndim != 3 or one.size == 0 for one in sides) or len(kinds) != 1:
        raise BadEvidence(
            f"Got forget, retain and test {shapes}; expected [model, example] or "
            "[model, example, feature], the same models and features, and examples in each."
        )
    if not all(np.isfinite(one).all() for one in sides):
        raise BadEvidence("Some answers are NaN or infinite; leave the models that diverged out.")
    seen = np.concatenate([retain, test], axis=1)
    if (seen.min(axis=1) == seen.max(axis=1)).all(axis=1).any():
        raise BadEvidence("A model answers retain and test all alike: there is nothing to fit.")
