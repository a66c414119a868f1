"""Membership inference: one weak attack on the loss, as a first alarm and no more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import rankdata

from expunge.errors import BadEvidence
from expunge.evidence import Evidence
from expunge.metrics.agreement import mean
from expunge.metrics.score import Aim, Score, scored

Floats = NDArray[np.float64]


def losses(evidence: Evidence, name: str) -> Floats:
    """Return the cross-entropy of each answer on one set, nats, float64 [model, example]."""
    side = evidence.on(name)
    logits = side.logits.astype(np.float64)
    right = logits[:, np.arange(len(side.targets)), side.targets]
    found: Floats = logsumexp(logits, axis=2) - right
    return found


def auc(members: Floats, others: Floats) -> Floats:
    """Return the chance that a member's loss is below another's, ties counted half.

    Args:
        members, others: float64 [model, example]; the numbers of examples may differ.

    Returns:
        float64 [model]; 0.5 where the attack sees nothing, 1 where it is never wrong.

    Raises:
        BadEvidence: a side without examples, or different numbers of models.

    Source: area under the ROC curve as the Mann-Whitney U statistic over the number of pairs.
    """
    if len(members) != len(others) or members.size == 0 or others.size == 0:
        raise BadEvidence(
            f"Got losses {members.shape} and {others.shape}; expected [model, example], the same "
            "models and at least one example on both sides."
        )
    count = members.shape[1]
    # Ranks of the negated loss: a member should have the smaller loss, so the larger rank.
    ranks = rankdata(-np.concatenate([members, others], axis=1), axis=1)
    above = ranks[:, :count].sum(axis=1) - count * (count + 1) / 2
    found: Floats = above / (count * others.shape[1])
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
        found = auc(losses(subject, "forget"), losses(subject, "test"))
        return scored(mean, [found], rng, unit=self.unit, bounds=(0.0, 1.0))
