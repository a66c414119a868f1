"""What an attacker reads off an answer: signals, memorisation, and the *weak* attacks on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import factorial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_softmax, logsumexp

from expunge.core.evidence import Evidence
from expunge.errors import BadEvidence, ExpungeError
from expunge.metrics.agreement import Aim, Score, mean, scored
from expunge.metrics.attacks.lira import checked, left_out
from expunge.statistics import roc_area

Floats = NDArray[np.float64]


Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Memorisation:
    """Scores of all examples, float64 [example], with their standard errors over models."""

    score: Floats
    error: Floats


def memorisation(signal: Floats, inside: Flags) -> Memorisation:
    """Return the memorisation of each example from shadow models: mean inside less mean outside.

    Args:
        signal: [model, example], whether each model answers rightly (0 or 1), or its probability
            of the right class.
        inside: bool [model, example], whether the model was trained on the example.

    Raises:
        BadEvidence: shapes that do not match, values that are not finite, an example with fewer
            than two models inside or outside.

    Source: Feldman and Zhang, arXiv 2008.03703: memorisation, estimated on subsets.
    """
    signal, outside = checked(signal, inside), ~np.asarray(inside)
    for mask, name in ((inside, "in"), (outside, "outside of")):
        left_out(signal, mask, fewest=1, name=name)  # says which example has too few models
    score = _mean(signal, inside) - _mean(signal, outside)
    error = np.sqrt(_variance(signal, inside) + _variance(signal, outside))
    return Memorisation(score, error)


def influence(signal: Floats, inside: Flags, *, errors: float = 2.0) -> Floats:
    """Return what the presence of one example adds to the signal of another, [example, example].

    Entry [i, j] is the mean signal of j over models trained on i, less that over models that were
    not; the diagonal is `memorisation`. Off it, each is drawn towards 0 by some standard errors,
    and to 0 where it is smaller: of n^2 differences of few models the largest are noise.

    Args:
        signal, inside: as for `memorisation`; memory is example^2, so take some thousands.
        errors: by how many standard errors; 0 leaves all as they are.

    Raises:
        BadEvidence: as for `memorisation`.
        ExpungeError: errors below 0.

    Source: Feldman and Zhang, arXiv 2008.03703: influence.
    """
    if not errors >= 0:
        raise ExpungeError(f"Got errors={errors!r}; expected 0 or more.")
    own = memorisation(signal, inside).score
    signal = np.asarray(signal, dtype=np.float64)
    present = np.asarray(inside, dtype=np.float64)
    absent = 1.0 - present
    gap, variance = np.zeros((len(own), len(own))), np.zeros((len(own), len(own)))
    for sign, member in ((1.0, present), (-1.0, absent)):
        count = member.sum(axis=0)[:, None]
        mean = member.T @ signal / count
        gap += sign * mean
        squares = member.T @ signal**2 / count - mean**2
        variance += np.maximum(squares, 0.0) / np.maximum(count - 1, 1)
    shrunk = np.sign(gap) * np.maximum(np.abs(gap) - errors * np.sqrt(variance), 0.0)
    np.fill_diagonal(shrunk, own)
    return shrunk


def _mean(signal: Floats, group: Flags) -> Floats:
    """Mean over a group of models, of each example."""
    return np.asarray((signal * group).sum(axis=0) / group.sum(axis=0))


def _variance(signal: Floats, group: Flags) -> Floats:
    """Variance of that mean."""
    count = group.sum(axis=0)
    squares = (((signal - _mean(signal, group)) * group) ** 2).sum(axis=0)
    return np.asarray(squares / (count - 1) / count)


Logits = NDArray[np.floating]


Targets = NDArray[np.integer]


def scaled_confidence(logits: Logits, targets: Targets) -> Floats:
    """Return phi = log p_y - log sum_{k != y} p_k, the logit-scaled confidence.

    It is z_y - logsumexp_{k != y} z_k, so adding a constant to the logits of an answer changes
    nothing. `metrics.challenge.signal` is the same number with the released clamp at 104.

    Args:
        logits: [model, example, class], before the softmax.
        targets: integers [example], the right class.

    Returns:
        float64 [model, example], any finite number; higher = the model is surer of the truth.

    Raises:
        BadEvidence: shapes that do not match, fewer than 2 classes, a target out of range, logits
            that are NaN or infinite.

    Source: Carlini et al., LiRA (2112.03570), section VI-A, "stable" form.
    """
    return _each_model(_phi, logits, targets)


def cross_entropy(phi: Floats) -> Floats:
    """Return the loss -log p_y = log(1 + e^-phi), nats, of a logit-scaled confidence."""
    found: Floats = np.logaddexp(0.0, -phi)
    return found


def confidence(phi: Floats) -> Floats:
    """Return p_y = 1 / (1 + e^-phi) of a logit-scaled confidence; rounds to 1 above phi = 37."""
    found: Floats = expit(phi)
    return found


def entropy(logits: Logits, targets: Targets) -> Floats:
    """Return the entropy -sum_k p_k log p_k of each answer, nats, float64 [model, example].

    Args:
        logits, targets: as for `scaled_confidence`; the targets are only checked.

    Raises:
        BadEvidence: as for `scaled_confidence`.
    """

    def one(answers: Floats, _: Targets) -> Floats:
        logs = log_softmax(answers, axis=1)
        found: Floats = -(np.exp(logs) * logs).sum(axis=1)
        return found

    return _each_model(one, logits, targets)


def modified_entropy(logits: Logits, targets: Targets) -> Floats:
    """Return -(1 - p_y) log p_y - sum_{k != y} p_k log(1 - p_k), float64 [model, example].

    0 for a right and sure answer, large for a wrong and sure one (plain entropy is 0 for both).
    Code descended from OPTML-Group/Unlearn-Saliency, SVC_MIA.py (commit a6e89fd), takes log p_k for
    log(1 - p_k) and, for every example, swaps the columns of all targets in the batch.

    Args:
        logits, targets: as for `scaled_confidence`.

    Raises:
        BadEvidence: as for `scaled_confidence`.

    Source: Song and Mittal (2003.10595), equation 8.
    """
    return _each_model(_modified_entropy, logits, targets)


def fitting(phi: Floats, *, eps1: float = 1e-2, eps2: float = 1e-5) -> Floats:
    """Return IAM's signal -log(eps1 - log(p_y + eps2)) of a logit-scaled confidence.

    Args:
        phi: float64 [...].
        eps1, eps2: the authors' constants for images; eps1 must exceed log(1 + eps2).

    Raises:
        BadEvidence: constants for which a sure answer has no signal.

    Source: Wang et al. (2506.06112); Happy2Git/Unlearning_Inference_IAM, new_test_scores.py
    (commit 13f385b), which also scales it linearly to [0, 1]: no score depends on that.
    """
    if eps2 <= 0 or eps1 <= np.log1p(eps2):
        raise BadEvidence(
            f"Got eps1={eps1!r} and eps2={eps2!r}; expected eps1 > log(1 + eps2) > 0."
        )
    found: Floats = -np.log(eps1 - np.log(confidence(phi) + eps2))
    return found


def taylor_soft_margin(
    logits: Logits,
    targets: Targets,
    *,
    temperature: float = 2.0,
    margin: float = 0.6,
    order: int = 4,
) -> Floats:
    """Return RMIA's confidence: softmax with a Taylor polynomial for exp, and a margin on z_y.

    With T(z) = sum_{i <= order} z^i / i!, it is T(z_y - m) / (T(z_y - m) + sum_{k != y} T(z_k)),
    z the logits over the temperature. Unlike phi it changes when a constant is added to all logits.
    An even order is asked for, since an odd T is negative below some z: the authors' n = 4 counts
    terms, so it stops at z^3 and gives "confidences" below 0 and above 1 for logits under -3.2.

    Args:
        logits, targets: as for `scaled_confidence`.
        temperature: divides the logits; the authors' for CIFAR-10.
        margin: taken from the right logit after that.
        order: highest power, even.

    Returns:
        float64 [model, example], between 0 and 1.

    Raises:
        BadEvidence: an odd order, a temperature that is not positive, or as `scaled_confidence`.

    Source: Zarifzadeh et al. (2312.03262); Happy2Git/
    Unlearning_Inference_IAM, unlearning_lib/metrics/rmia.py (commit 13f385b), `convert_signals`.
    """
    if order < 2 or order % 2 or not temperature > 0:
        raise BadEvidence(
            f"Got order={order!r} and temperature={temperature!r}; expected an even order of at "
            "least 2 (an odd polynomial is negative somewhere) and a positive temperature."
        )

    def one(answers: Floats, right: Targets) -> Floats:
        scaled = answers / temperature
        rows = np.arange(len(right))
        others = _taylor(scaled, order)
        others[rows, right] = 0.0
        mine = _taylor(scaled[rows, right] - margin, order)
        found: Floats = mine / (mine + others.sum(axis=1))
        return found

    return _each_model(one, logits, targets)


def _taylor(z: Floats, order: int) -> Floats:
    """The first powers of the series of exp(z)."""
    coefficients = [1 / factorial(power) for power in range(order, -1, -1)]
    return np.asarray(np.polyval(coefficients, z), dtype=np.float64)


def _each_model(
    signal: Callable[[Floats, Targets], Floats], logits: Logits, targets: Targets
) -> Floats:
    """Check, then apply to one model at a time: all of them in float64 would be large."""
    logits, targets = np.asarray(logits), np.asarray(targets)
    if logits.ndim != 3 or targets.shape != logits.shape[1:2] or logits.size == 0:
        raise BadEvidence(
            f"Got logits {logits.shape} and targets {targets.shape}; "
            "expected [model, example, class] and [example]."
        )
    classes = logits.shape[2]
    if classes < 2 or not 0 <= targets.min() <= targets.max() < classes:
        raise BadEvidence(
            f"Got {classes} classes and targets from {targets.min()} to {targets.max()}; expected "
            "at least 2 classes, and targets that count from 0."
        )
    bad = int((~np.isfinite(logits)).any(axis=(1, 2)).sum())
    if bad:
        raise BadEvidence(
            f"{bad} of {len(logits)} models answer with NaN or infinite logits; leave the models "
            "that diverged out."
        )
    return np.stack([signal(one.astype(np.float64), targets) for one in logits])


def _phi(logits: Floats, targets: Targets) -> Floats:
    """Right logit less the log of the summed exponentials of the others; one model."""
    rows = np.arange(len(targets))
    right = logits[rows, targets]
    others = logits.copy()
    others[rows, targets] = -np.inf
    found: Floats = right - logsumexp(others, axis=1)
    return found


def _modified_entropy(logits: Floats, targets: Targets) -> Floats:
    """The same for one model, with log(1 - p) from the other classes where p is near 1."""
    rows = np.arange(len(targets))
    logs = log_softmax(logits, axis=1)
    chance = np.exp(logs)
    # Only the largest probability can be so near 1 that 1 - p loses its digits.
    top = logits.argmax(axis=1)
    rest = logs.copy()
    rest[rows, top] = -np.inf
    chance[rows, top] = 0.0
    log_not = np.log1p(-chance)
    log_not[rows, top] = logsumexp(rest, axis=1)
    chance[rows, top] = np.exp(logs[rows, top])
    terms = chance * log_not
    terms[rows, targets] = np.exp(log_not[rows, targets]) * logs[rows, targets]
    found: Floats = -terms.sum(axis=1)
    return found


def loss_attack(logits: Logits, targets: Targets) -> Floats:
    """Return minus the loss of each answer, float64 [model, example]. *Weak*.

    Ranks as the confidence does, but keeps apart what rounds to a confidence of 1.

    Args:
        logits: [model, example, class], before the softmax.
        targets: integers [example].

    Raises:
        BadEvidence: as for `signals.scaled_confidence`.

    Source: Yeom et al. (1709.01604).
    """
    return -cross_entropy(scaled_confidence(logits, targets))


def confidence_attack(logits: Logits, targets: Targets) -> Floats:
    """Return the confidence in the right class, float64 [model, example]. *Weak*.

    Args, Raises: as for `loss_attack`.

    Source: Salem et al. (1806.01246).
    """
    return confidence(scaled_confidence(logits, targets))


def entropy_attack(logits: Logits, targets: Targets) -> Floats:
    """Return minus the entropy of each answer, float64 [model, example]. *Weak*; label-free.

    Args, Raises: as for `loss_attack`.

    Source: Salem et al. (1806.01246).
    """
    return -entropy(logits, targets)


def modified_entropy_attack(logits: Logits, targets: Targets) -> Floats:
    """Return minus the modified entropy of each answer, float64 [model, example]. *Weak*.

    Args, Raises: as for `loss_attack`.

    Source: Song and Mittal (2003.10595), equation 8, without their thresholds a class.
    """
    return -modified_entropy(logits, targets)


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
