"""What a metric returns, and agreement with retrained models in accuracy and answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr, softmax
from scipy.stats import t as student

from expunge.core.evidence import Evidence
from expunge.errors import BadEvidence
from expunge.statistics.resample import standard_errors

Sample = NDArray[np.float64]


Statistic = Callable[..., float]


Bounds = tuple[float, float]


RESAMPLES = 100


FEWEST_MODELS = 3


def interval(
    statistic: Statistic,
    samples: Sequence[Sample],
    rng: np.random.Generator,
    *,
    resamples: int = RESAMPLES,
    bounds: Bounds = (-math.inf, math.inf),
) -> tuple[float, float, float]:
    """Return value, low, high: a 95 % confidence interval over models, cut at the bounds.

    As `statistics.over_models`, but one or two models are taken too: their interval ends at the
    bounds. Halves are drawn without replacement. Drawing with replacement makes ties, which give an
    attack perfect cuts that new models would not: forgetting quality falls from 0.18 to 0.14, and
    the percentile interval holds the truth in 3 % of simulations where nothing differs.
    Measured coverage of the expected forgetting quality (40 examples, 100 draws each of models that
    are equal, correlated, shifted by 0.5 or 1.5 standard deviations, or narrower): 93 to 99 % with
    64 models, 91 to 98 % with 128. Plus and minus 1.96 bootstrap standard deviations: 88 to 99 %.

    Args:
        statistic: takes one array per sample, [model, ...], and returns a float.
        samples: float64 [model, ...] each, drawn independently; pairs belong in one sample.
        rng: the generator that draws the models.
        resamples: how many times; the standard deviation is then known to about 7 %.
        bounds: the least and the largest value that the statistic can take.

    Raises:
        BadEvidence: a sample without models, or fewer than 2 resamples.

    Source: Politis and Romano (1994), subsampling; Shao and Wu (1989), delete-d jackknife.
    """
    return intervals(
        lambda *drawn: (statistic(*drawn),), samples, rng, resamples=resamples, bounds=(bounds,)
    )[0]


def intervals(
    statistics: Callable[..., Sequence[float]],
    samples: Sequence[Sample],
    rng: np.random.Generator,
    *,
    resamples: int = RESAMPLES,
    bounds: Sequence[Bounds],
) -> list[tuple[float, float, float]]:
    """Return value, low, high of several statistics that are computed together, as `interval`.

    Args:
        statistics: takes one array per sample, [model, ...], and returns one float for each bound.
        samples, rng, resamples: as for `interval`.
        bounds: the least and the largest value of each statistic.

    Raises:
        BadEvidence: as for `interval`.
    """
    fewest = min((len(one) for one in samples), default=0)
    if resamples < 2 or fewest == 0:
        raise BadEvidence(
            f"Got {[len(one) for one in samples]} models and {resamples} resamples; expected at "
            "least 1 model in each sample and 2 resamples."
        )
    values = [float(value) for value in statistics(*samples)]
    # One or two models say next to nothing about the spread: anything possible stays possible.
    if fewest < FEWEST_MODELS:
        return [(value, *ends) for value, ends in zip(values, bounds, strict=True)]
    errors = standard_errors(statistics, samples, rng, resamples)
    halves = student.ppf(0.975, fewest - 1) * errors
    return [
        (value, float(max(value - half, low)), float(min(value + half, high)))
        for value, half, (low, high) in zip(values, halves, bounds, strict=True)
    ]


Aim = Literal["oracle", "high", "low"]


@dataclass(frozen=True)
class Score:
    """A number with its 95 % interval over models, the number of unlearned models, and its unit."""

    value: float
    low: float
    high: float
    n: int
    unit: str


@dataclass(frozen=True)
class Unscored:
    """Why there is no number: never null, never 0."""

    reason: str


class Metric(Protocol):
    """A pure function of what unlearned and retrained models answer on the same examples.

    `aim` says what is good: near the oracle's own value, high, or low.
    """

    unit: ClassVar[str]
    aim: ClassVar[Aim]

    def __call__(self, subject: Evidence, oracle: Evidence, rng: np.random.Generator) -> Score: ...


def lost_half(own: float, usual: float, floor: float = 0.0) -> bool:
    """Return whether a model has collapsed: it keeps less than half of what retrained ones gain.

    This is the one rule of collapse. It is read on what was to be kept: accuracy of classes,
    knowledge of facts, or the share of answers that are no gibberish.

    Args:
        own, usual: of the model, and of retrained models.
        floor: what a model without any training reaches, such as by guessing or by giving the
            best constant answer; where retrained models gain nothing over it, nothing is lost.
    """
    return usual > floor and own < (floor + usual) / 2


def scored(
    statistic: Statistic,
    samples: Sequence[Sample],
    rng: np.random.Generator,
    *,
    unit: str,
    bounds: Bounds,
) -> Score:
    """Return a statistic of per-model values as a Score; n is the length of the first sample."""
    value, low, high = interval(statistic, samples, rng, bounds=bounds)
    return Score(value, low, high, len(samples[0]), unit)


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
