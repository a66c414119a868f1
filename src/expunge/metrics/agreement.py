"""Agreement with the retrained oracle: accuracies, tug of war, divergence of the answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr, softmax

from expunge.core.evidence import Evidence
from expunge.errors import BadEvidence
from expunge.metrics.score import Aim, Score, scored

Floats = NDArray[np.float64]

TUG_OF_WAR_SETS = ("forget", "retain", "test")


def mean(values: Floats) -> float:
    """Mean over models."""
    return float(values.mean())


def accuracies(evidence: Evidence, name: str) -> Floats:
    """Return the share of right answers of each model on one set.

    Args:
        evidence: answers with a set of that name.
        name: "retain", "forget", "test" ...

    Returns:
        float64 [model]; equal largest logits count as the first of their classes.

    Raises:
        BadEvidence: no such set, or no example in it.
    """
    side = evidence.on(name)
    if len(side.targets) == 0:
        raise BadEvidence(f"The set {name!r} holds no example; leave it out or fill it.")
    right: Floats = (side.logits.argmax(axis=2) == side.targets).mean(axis=1)
    return right


def tug_of_war(subject: Floats, oracle: Floats) -> float:
    """Return the product over sets of 1 - |mean accuracy unlearned - mean accuracy retrained|.

    Args:
        subject, oracle: accuracies, float64 [model, set]; the numbers of models may differ.

    Source: Zhao et al., RUM (2406.01257), ToW; means over models inside the absolute value.
    """
    gap = np.abs(subject.mean(axis=0) - oracle.mean(axis=0))
    return float(np.prod(1.0 - gap))


def jensen_shannon(first: Floats, second: Floats) -> Floats:
    """Return 1/2 KL(p || m) + 1/2 KL(q || m) with m = (p + q) / 2, in nats.

    Args:
        first, second: probabilities [..., class].

    Returns:
        float64 [...], between 0 and ln 2.

    Source: Lin (1991), true definition. Descendants of the bad-teacher code reverse the divergences
    or divide by the number of classes, so values printed elsewhere are often not comparable.
    """
    middle = (first + second) / 2
    # H(m) - (H(p) + H(q)) / 2 is the same sum, and a probability of 0 does no harm.
    found = entr(middle).sum(axis=-1) - (entr(first) + entr(second)).sum(axis=-1) / 2
    return np.clip(found, 0.0, np.log(2.0))


def activation_distance(first: Floats, second: Floats) -> Floats:
    """Return the L2 norm of the difference of two probability vectors [..., class] -> [...].

    Source: Chundawat et al., bad teacher (2205.08096).
    """
    found: Floats = np.linalg.norm(first - second, axis=-1)
    return found


def _paired(subject: Evidence, oracle: Evidence, name: str) -> list[tuple[Floats, Floats]]:
    """Probabilities [example, class] of subject i and oracle i, pair by pair."""
    mine, theirs = subject.on(name), oracle.on(name)
    if mine.logits.shape[1:] != theirs.logits.shape[1:] or len(mine.targets) == 0:
        raise BadEvidence(
            f"Got answers {mine.logits.shape} and {theirs.logits.shape} on {name!r}; expected the "
            "same examples and classes, and at least one example."
        )
    if len(mine) != len(theirs):
        raise BadEvidence(
            f"Got {len(mine)} unlearned and {len(theirs)} retrained models; they are compared in "
            "pairs, so give as many of both."
        )
    logits = zip(mine.logits, theirs.logits, strict=True)
    # In float64, one model at a time: all of them at once would be large.
    return [
        (softmax(a.astype(np.float64), axis=-1), softmax(b.astype(np.float64), axis=-1))
        for a, b in logits
    ]


@dataclass(frozen=True)
class Accuracy:
    """Share of right answers on one set, mean over models.

    Raises:
        BadEvidence: no such set.
    """

    set: str
    unit: ClassVar[str] = "share right"
    aim: ClassVar[Aim] = "oracle"

    def __call__(self, subject: Evidence, oracle: Evidence, rng: np.random.Generator) -> Score:
        """Score the unlearned models; the oracle is read by calling this on its own models."""
        found = accuracies(subject, self.set)
        return scored(mean, [found], rng, unit=self.unit, bounds=(0.0, 1.0))


@dataclass(frozen=True)
class ToW:
    """Tug of war: closeness of three accuracies to the oracle's; 1 is perfect.

    Raises:
        BadEvidence: "forget", "retain" or "test" is missing.

    Source: as for `tug_of_war`.
    """

    unit: ClassVar[str] = "product of shares"
    aim: ClassVar[Aim] = "high"

    def __call__(self, subject: Evidence, oracle: Evidence, rng: np.random.Generator) -> Score:
        """Score unlearned against retrained models."""
        mine, theirs = (
            np.stack([accuracies(side, name) for name in TUG_OF_WAR_SETS], axis=1)
            for side in (subject, oracle)
        )
        return scored(tug_of_war, [mine, theirs], rng, unit=self.unit, bounds=(0.0, 1.0))


@dataclass(frozen=True)
class JensenShannon:
    """Jensen-Shannon divergence of unlearned model i from retrained model i, mean over examples.

    Two retrained models differ as well: read it against held-out retrained models, not against 0.

    Raises:
        BadEvidence: no such set, or different numbers of models.

    Source: as for `jensen_shannon`.
    """

    set: str
    unit: ClassVar[str] = "nats"
    aim: ClassVar[Aim] = "low"

    def __call__(self, subject: Evidence, oracle: Evidence, rng: np.random.Generator) -> Score:
        """Score unlearned against retrained models, in pairs."""
        pairs = _paired(subject, oracle, self.set)
        found = np.array([jensen_shannon(p, q).mean() for p, q in pairs])
        return scored(mean, [found], rng, unit=self.unit, bounds=(0.0, float(np.log(2.0))))


@dataclass(frozen=True)
class ActivationDistance:
    """L2 distance between the softmax answers of model i and oracle i, mean over examples.

    Raises:
        BadEvidence: no such set, or different numbers of models.

    Source: as for `activation_distance`.
    """

    set: str
    unit: ClassVar[str] = "L2"
    aim: ClassVar[Aim] = "low"

    def __call__(self, subject: Evidence, oracle: Evidence, rng: np.random.Generator) -> Score:
        """Score unlearned against retrained models, in pairs."""
        pairs = _paired(subject, oracle, self.set)
        found = np.array([activation_distance(p, q).mean() for p, q in pairs])
        return scored(mean, [found], rng, unit=self.unit, bounds=(0.0, float(np.sqrt(2.0))))
