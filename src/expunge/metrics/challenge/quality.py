"""The score of the NeurIPS 2023 unlearning challenge: forgetting quality times what was kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from expunge.core.evidence import Evidence
from expunge.errors import BadEvidence, ExpungeError, did_you_mean
from expunge.metrics.agreement import Aim, Score, accuracies, intervals, scored
from expunge.metrics.challenge import thresholds as attacks

Floats = NDArray[np.float64]

Rule = Callable[[attacks.Sample, float], float]

DELTA = 1e-5

BIN = 0.5

TINY = 1e-45

LARGEST = 1e6

RULES: Mapping[str, Rule] = MappingProxyType({"released": attacks.released, "exact": attacks.exact})


def signal(logits: NDArray[np.floating], targets: NDArray[np.integer]) -> Floats:
    """Return the logit-scaled confidence, log p_y - log sum of the other p: the challenge's scalar.

    Args:
        logits: [model, example, class] or [example, class], before the softmax; left as they are.
        targets: integers [example], the right class.

    Returns:
        float64 [model, example] (or [example]), between -104 and 104.

    Raises:
        BadEvidence: shapes that do not match, a target out of range, logits that are not finite.

    Source: google-deepmind/unlearning_evaluation, metric.py (there in place and from float32).
    """
    logits, targets = np.asarray(logits), np.asarray(targets)
    _check_logits(logits, targets)
    if logits.ndim == 2:
        return _signal(logits, targets)
    # One model at a time: the softmax of all of them in float64 would be large.
    return np.stack([_signal(one, targets) for one in logits])


def _check_logits(logits: NDArray[np.floating], targets: NDArray[np.integer]) -> None:
    """Refuse what has no softmax or no right class."""
    if logits.ndim not in (2, 3) or targets.shape != logits.shape[-2:-1] or logits.size == 0:
        raise BadEvidence(
            f"Got logits {logits.shape} and targets {targets.shape}; "
            "expected [model, example, class] and [example]."
        )
    if not np.isfinite(logits).all():
        raise BadEvidence("Some logits are NaN or infinite; leave the models that diverged out.")
    if not 0 <= targets.min() <= targets.max() < logits.shape[-1]:
        raise BadEvidence(f"Targets must lie between 0 and {logits.shape[-1] - 1}.")


def _signal(logits: NDArray[np.floating], targets: NDArray[np.integer]) -> Floats:
    """The same for one model."""
    right = np.arange(len(targets)), targets
    chance = np.exp(np.subtract(logits, logits.max(axis=1, keepdims=True), dtype=np.float64))
    chance /= chance.sum(axis=1, keepdims=True)
    correct = chance[right]
    # Summed without the right class: 1 - p would lose all digits of a confident answer.
    chance[right] = 0.0
    found: Floats = np.log(correct + TINY) - np.log(chance.sum(axis=1) + TINY)
    return found


def epsilons(
    unlearned: Floats, retrained: Floats, *, rule: str = "released", delta: float = DELTA
) -> Floats:
    """Return the largest epsilon that any attack shows, for each example.

    Rule "released" is the challenge's: single thresholds 100 a unit of the signal, intervals with
    400 left edges for each right edge, the larger median positive for thresholds and the smaller
    range for intervals. Its answers are those of the released code in float64 (there the
    single thresholds and the rates are float32), with these cases mended:
    - the assertion that always failed, and CUDA;
    - both sides constant: 0 if equal, 50 if not;
    - no attack survives: 50 if the smaller range holds no value of the other side (they are apart,
      and the grid was too coarse to see it), else 0 (nothing tells them apart);
    - unequal numbers of models, and numbers too small to have a bin.

    Rule "exact" tries every threshold and interval that ranks allow, with either side as the
    positive class. It is stricter, does not depend on the scale of the signal, and is a scale of
    its own: identical distributions score about 0.19 at any number of models under "released",
    but 0.12, 0.07 and 0.045 with 16, 64 and 512 models under "exact".

    Args:
        unlearned, retrained: float64 [model, example], the signal on the forget set.
        rule: "released" or "exact".
        delta: of the (epsilon, delta) definition.

    Returns:
        float64 [example], from 0 to 50.

    Raises:
        BadEvidence: wrong shapes, fewer than 2 models, values that are not finite.
        ExpungeError: a rule that is not known, a delta outside [0, 1).

    Source: Triantafillou et al. (2406.09073); google-deepmind/unlearning_evaluation, metric.py.
    """
    if rule not in RULES:
        raise ExpungeError(
            f"No rule {rule!r}; known: {', '.join(RULES)}.{did_you_mean(rule, RULES)}"
        )
    if not 0 <= delta < 1:
        raise ExpungeError(f"Got delta={delta!r}; expected at least 0 and less than 1.")
    unlearned, retrained = _pair(unlearned, retrained)
    found = [RULES[rule](one, delta) for one in attacks.samples(unlearned, retrained)]
    return np.clip(np.array(found, dtype=np.float64), 0.0, attacks.CAP)


def _pair(unlearned: Floats, retrained: Floats) -> tuple[Floats, Floats]:
    """Check two signals [model, example]; return them as float64."""
    both = np.asarray(unlearned, dtype=np.float64), np.asarray(retrained, dtype=np.float64)
    shapes = f"Got unlearned {both[0].shape} and retrained {both[1].shape}"
    if both[0].ndim != 2 or both[1].ndim != 2 or both[0].shape[1] != both[1].shape[1]:
        raise BadEvidence(f"{shapes}; expected [model, example], on the same examples.")
    if min(len(both[0]), len(both[1])) < 2 or both[0].shape[1] == 0:
        raise BadEvidence(f"{shapes}; expected at least 2 models a side and 1 example.")
    for name, one in zip(("unlearned", "retrained"), both, strict=True):
        # Beyond this size a float64 no longer resolves the grid; log odds never come near it.
        if not (np.abs(one) <= LARGEST).all():
            raise BadEvidence(
                f"The signal of the {name} models holds NaN, infinite or absurd values; "
                "pass log odds, as `signal` returns them, without the models that diverged."
            )
    return both


def forgetting_quality(
    unlearned: Floats, retrained: Floats, *, rule: str = "released", delta: float = DELTA
) -> float:
    """Return F: the mean over examples of 2^-b, b the bin of width 0.5 that holds epsilon.

    Perfect unlearning does not score 1: identical normal distributions give about 0.19 under
    "released", so read F between held-out retrained models (ceiling) and the original (floor).

    Args, Raises: as for `epsilons`.

    Source: as for `epsilons`; bins up to ceil(ln(N - 1)) as in the code, N the smaller number of
    models.
    """
    found = epsilons(unlearned, retrained, rule=rule, delta=delta)
    return float(_points(found, min(len(unlearned), len(retrained))).mean())


def _points(found: Floats, models: int) -> Floats:
    """What each epsilon earns: 1, 1/2, 1/4 ... by bin, nothing beyond the last bin."""
    # Two models would have no bin at all; they keep those of three.
    end = max(math.ceil(math.log(models - 1)), 1)
    return np.where(found < end, 2.0 ** -np.floor(found / BIN), 0.0)


@dataclass(frozen=True)
class Factors:
    """The challenge's score and the three factors that make it."""

    forgetting: float
    retain: float
    test: float

    @property
    def value(self) -> float:
        """F x RA_U / RA_R x TA_U / TA_R."""
        return self.forgetting * self.retain * self.test


def score(
    subject: Evidence, oracle: Evidence, *, rule: str = "released", delta: float = DELTA
) -> Factors:
    """Return F x (retain accuracy ratio) x (test accuracy ratio), unlearned over retrained.

    Args:
        subject, oracle: unlearned and retrained models, with sets "retain", "forget" and "test".

    Raises:
        BadEvidence: a set is missing, the oracle is never right, or as for `epsilons`.

    Source: as for `epsilons`.
    """
    mine, theirs = _columns(subject), _columns(oracle)
    return _factors(mine, theirs, rule=rule, delta=delta)


def _columns(evidence: Evidence) -> Floats:
    """What the score needs of each model: retain and test accuracy, then the signal on forget."""
    shares = [accuracies(evidence, name) for name in ("retain", "test")]
    return np.column_stack([*shares, forget_signal(evidence)])


def _factors(mine: Floats, theirs: Floats, *, rule: str, delta: float = DELTA) -> Factors:
    """The score of two arrays of columns."""
    whole = theirs[:, :2].mean(axis=0)
    if (whole == 0).any():
        raise BadEvidence("The retrained models are never right on retain or test: no ratio.")
    retain, test = mine[:, :2].mean(axis=0) / whole
    quality = forgetting_quality(mine[:, 2:], theirs[:, 2:], rule=rule, delta=delta)
    return Factors(quality, float(retain), float(test))


def forget_signal(evidence: Evidence) -> Floats:
    """Return the signal on the forget set, float64 [model, example]."""
    side = evidence.on("forget")
    return signal(side.logits, side.targets)


@dataclass(frozen=True)
class ForgettingQuality:
    """F of the challenge: how seldom an attacker tells unlearned from retrained models.

    Args:
        rule: "released" or "exact"; two scales, see `epsilons`.

    Raises:
        BadEvidence, ExpungeError: as for `forgetting_quality`.

    Source: as for `epsilons`.
    """

    rule: str = "released"
    unit: ClassVar[str] = "F"
    aim: ClassVar[Aim] = "high"

    def __call__(self, subject: Evidence, oracle: Evidence, rng: np.random.Generator) -> Score:
        """Score unlearned against retrained models."""
        quality = partial(forgetting_quality, rule=self.rule)
        pair = [forget_signal(subject), forget_signal(oracle)]
        return scored(quality, pair, rng, unit=self.unit, bounds=(0.0, 1.0))


@dataclass(frozen=True)
class ChallengeScore:
    """The challenge's score: F times the ratios of retain and test accuracy.

    Args:
        rule: "released" or "exact"; two scales, see `epsilons`.

    Raises:
        BadEvidence, ExpungeError: as for `score`.

    Source: as for `epsilons`.
    """

    rule: str = "released"
    unit: ClassVar[str] = "score"
    aim: ClassVar[Aim] = "high"

    def __call__(self, subject: Evidence, oracle: Evidence, rng: np.random.Generator) -> Score:
        """Score unlearned against retrained models."""
        return quality_and_score(subject, oracle, rng, rule=self.rule)[1]


def quality_and_score(
    subject: Evidence, oracle: Evidence, rng: np.random.Generator, *, rule: str = "released"
) -> tuple[Score, Score]:
    """Return `ForgettingQuality` and `ChallengeScore` from the same half-samples, at half the work.

    Args:
        subject, oracle: unlearned and retrained models, with sets "retain", "forget" and "test".
        rng: draws the half-samples.
        rule: "released" or "exact".

    Raises:
        BadEvidence, ExpungeError: as for `score`.
    """

    def values(mine: Floats, theirs: Floats) -> tuple[float, float]:
        found = _factors(mine, theirs, rule=rule)
        return found.forgetting, found.value

    pair = [_columns(subject), _columns(oracle)]
    # The largest score that any models can have against these: all factors perfect.
    share = float(pair[1][:, :2].mean(axis=0).prod())
    bounds = [(0.0, 1.0), (0.0, 1.0 / share if share else math.inf)]
    first, second = intervals(values, pair, rng, bounds=bounds)
    n = len(subject)
    return Score(*first, n, ForgettingQuality.unit), Score(*second, n, ChallengeScore.unit)
