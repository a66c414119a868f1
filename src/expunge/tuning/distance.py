"""How far unlearned models are from retrained ones: smooth, so that few models are enough.

The challenge's score takes the best attack on each forget example, and falls to 0 where every
attack succeeds: there one configuration is as bad as another. This distance follows it where the
score says something (docs/findings.md has the rank correlations) and goes on rising beyond.
"""

from __future__ import annotations

import numpy as np

from expunge.errors import BadEvidence
from expunge.metrics.challenge import forgetting_quality
from expunge.tuning.answers import Answers, Floats

# This share of the oracles' mean spread is added to both sides: models that all answer alike are
# far, but not without end.
LEAST_SPREAD = 0.1
# A lost share of accuracy, in units of the distance on the forget set.
UTILITY = 2.0


def distance(subject: Answers, oracle: Answers) -> float:
    """Distance on the forget set, and what the models lost elsewhere; 0 is as retrained.

    Args:
        subject, oracle: unlearned and retrained models, asked about the same examples.

    Raises:
        BadEvidence: fewer than 2 models on a side, or other examples.
    """
    return forgetting(subject, oracle) + UTILITY * sum(losses(subject, oracle).values())


def forgetting(subject: Answers, oracle: Answers) -> float:
    """Mean over forget examples of log(1 + J), J the divergence of two normals, both ways."""
    return float(np.log1p(divergences(subject.signal, oracle.signal)).mean())


def divergences(unlearned: Floats, retrained: Floats) -> Floats:
    """Jeffreys' divergence of normals fitted to the signal, nats, for each example.

    J = ((a + d) / b + (b + d) / a) / 2 - 1, with a, b the variances and d the squared difference of
    means: the mean of both directions of the Kullback-Leibler divergence. To both variances a
    hundredth of the mean of the oracles' is added.

    Args:
        unlearned, retrained: float64 [model, example].

    Returns:
        float64 [example], 0 or more.

    Source: Jeffreys (1946); closed form from the Kullback-Leibler divergence of two normals.
    """
    if unlearned.shape[1:] != retrained.shape[1:] or min(len(unlearned), len(retrained)) < 2:
        raise BadEvidence(
            f"Got signals {unlearned.shape} and {retrained.shape}; expected [model, example] on "
            "the same examples, 2 models or more a side."
        )
    a, b = np.var(unlearned, axis=0, ddof=1), np.var(retrained, axis=0, ddof=1)
    least = LEAST_SPREAD**2 * b.mean() + np.finfo(np.float64).tiny
    a, b = a + least, b + least
    d = (unlearned.mean(axis=0) - retrained.mean(axis=0)) ** 2
    found: Floats = ((a + d) / b + (b + d) / a) / 2 - 1
    return found


def losses(subject: Answers, oracle: Answers) -> dict[str, float]:
    """The share of the oracles' accuracy that the models lost, on each set; gains count nothing."""
    means = {
        name: (subject.accuracy[name].mean(), kept.mean()) for name, kept in oracle.accuracy.items()
    }
    return {
        name: max(0.0, 1 - float(mine / full)) if full else 0.0
        for name, (mine, full) in means.items()
    }


def quality(subject: Answers, oracle: Answers, rule: str) -> float:
    """The challenge's forgetting quality of the same models, to be read beside the distance."""
    return forgetting_quality(subject.signal, oracle.signal, rule=rule)
