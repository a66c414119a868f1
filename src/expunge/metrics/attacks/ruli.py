"""RULI and IAM: attacks that need few shadow models, or one.

Both games return log odds. The authors print p_unlearned / (p_unlearned + p_other), which is the
sigmoid of this and ranks examples alike, but is 0 / 0 where both densities underflow and ties at 1
where the answer is clearest, just where the rate of false positives is low.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from expunge.errors import BadEvidence, ExpungeError
from expunge.metrics.attacks.lira import Variance, check_mask, checked, left_out

Floats = NDArray[np.float64]


Flags = NDArray[np.bool_]


BANDWIDTH = 1.0


# Below this a sum of kernels is about to lose digits, and is computed in logs.
UNDERFLOW = 1e-290


def ruli_privacy(
    signal: Floats, unlearned: Flags, unseen: Flags, *, bandwidth: float = BANDWIDTH
) -> Floats:
    """Return log p_unlearned - log p_unseen of what *unlearned* models answer.

    The privacy game: of two examples, one was trained on and unlearned, one was never seen by this
    same unlearned model. Each target is left out of its own densities.

    Args:
        signal: float64 [model, example], `signals.scaled_confidence` of unlearned models.
        unlearned: bool [model, example]: trained with the example, then asked to forget it.
        unseen: bool [model, example]: never saw it. Entries in neither are scored, not fitted.
        bandwidth: of the Gaussian kernel, in log odds; the authors' 1.0.

    Returns:
        float64 [model, example]; higher = more likely unlearned than never seen.

    Raises:
        BadEvidence: arrays that do not match, fewer than 2 models a group, constant signals.
        ExpungeError: a bandwidth that is not positive.

    Source: Naderloui et al. (2506.13009), privacy; datasec-lab/Ruli, core/attack/
    unlearn_attack.py (commit 9541122), `TargetModelEvaluator`.
    """
    signal = checked(signal, unlearned, unseen)
    if not bandwidth > 0:
        raise ExpungeError(f"Got bandwidth={bandwidth!r}; expected a number above 0, in log odds.")
    for mask, name in ((unlearned, "inside of"), (unseen, "outside of")):
        left_out(signal, mask, fewest=1, name=name)
    return _log_odds(signal, unlearned, unseen, bandwidth)


def ruli_efficacy(
    signal: Floats,
    unlearned: Flags,
    retrained: Floats,
    unseen: Flags,
    *,
    bandwidth: float = BANDWIDTH,
) -> tuple[Floats, Floats]:
    """Return log p_unlearned - log p_retrained of what unlearned and retrained models answer.

    The efficacy game: was the example unlearned, or is this a model that was trained without it?
    The authors take for the second the shadows as trained, on the examples that they never saw.

    Args:
        signal: float64 [model, example], `signals.scaled_confidence` of unlearned models.
        unlearned: bool [model, example]: trained with the example, then asked to forget it.
        retrained: float64 [model, example], the same signal of models that unlearned nothing.
        unseen: bool, as `retrained`: trained without the example.
        bandwidth: as for `ruli_privacy`.

    Returns:
        Scores of the unlearned and of the retrained models, float64 [model, example] each; higher =
        more likely unlearned than retrained.

    Raises:
        BadEvidence, ExpungeError: as for `ruli_privacy`.

    Source: Naderloui et al. (2506.13009), efficacy; datasec-lab/Ruli, core/attack/
    unlearn_attack.py (commit 9541122), `TestEvaluator`.
    """
    if np.shape(signal)[1:] != np.shape(retrained)[1:]:
        raise BadEvidence(
            f"Got signals {np.shape(signal)} and {np.shape(retrained)}; expected the same examples."
        )
    check_mask(unlearned, np.shape(signal))
    check_mask(unseen, np.shape(retrained))
    both = np.concatenate([signal, retrained])
    inside = np.concatenate([unlearned, np.zeros_like(unseen)])
    outside = np.concatenate([np.zeros_like(unlearned), unseen])
    scores = ruli_privacy(both, inside, outside, bandwidth=bandwidth)
    return scores[: len(signal)], scores[len(signal) :]


def _log_odds(signal: Floats, inside: Flags, outside: Flags, bandwidth: float) -> Floats:
    """Difference of two log densities, one target model at a time: all pairs would be large."""
    weights = [group.astype(np.float64) for group in (inside, outside)]
    scores = np.empty_like(signal)
    for row, target in enumerate(signal):
        gaps = (signal - target) / bandwidth
        gaps *= gaps
        gaps *= -0.5
        gaps[row] = -np.inf
        kernel = np.exp(gaps)
        first, second = (np.einsum("me,me->e", kernel, one) for one in weights)
        far = np.flatnonzero(np.minimum(first, second) < UNDERFLOW)
        first[far], second[far] = 1.0, 1.0
        counts = [one.sum(axis=0) - one[row] for one in weights]
        scores[row] = np.log(first / counts[0]) - np.log(second / counts[1])
        near = gaps[:, far]
        scores[row, far] = _log_mean(near, inside[:, far]) - _log_mean(near, outside[:, far])
    return scores


def _log_mean(gaps: Floats, group: Flags) -> Floats:
    """Log of the mean of exp(gaps) over the models of a group, from the nearest model on."""
    held = np.where(group, gaps, -np.inf)
    nearest = held.max(axis=0)
    total = np.exp(held - nearest).sum(axis=0)
    found: Floats = nearest + np.log(total / np.isfinite(held).sum(axis=0))
    return found


STEPS = 100


# Where all the values of a step are one number, the distribution is a jump at that number.
SMALLEST_SPREAD = 1e-10


def iam(
    unlearned: Floats,
    original: Floats,
    shadows: Floats,
    unseen: Flags,
    *,
    steps: int = STEPS,
    variance: Variance = "global",
) -> Floats:
    """Return the weighted mean over alpha of CDF(signal; alpha), weights alpha from 0 to 1.

    At alpha = 0 the values are those of shadow models that never saw the example, at alpha = 1
    those of the original, between them they are mixed in proportion; a Gumbel distribution is
    fitted to each step by its moments (scale sqrt(6) sd / pi, place mean - 0.5772 scale). Near 0 =
    gone, near 1 = still fitted; the authors' unlearning score is 1 minus this. A score below that
    of genuine retrained models is over-forgetting: read it against theirs, low is not good.

    This is the paper's sum over all steps. The released code leaves the last step (alpha = 1) out
    and multiplies the CDF at step i by the alpha of step i + 1; at 100 steps the two differ by up
    to 0.01.

    Args:
        unlearned: float64 [target, example], `signals.fitting` of the models under test.
        original: float64 [example] or [target, example], the same of the original; where there is
            none, `signals.fitting` of a sure answer, log odds of 40, say ("offline").
        shadows: float64 [shadow, example], the same of at least 1 model.
        unseen: bool [shadow, example]: the shadow never saw the example.
        steps: number of alphas, at least 2.
        variance: "global" (the authors') shares one over shadows *and* examples, so that one shadow
            is enough, but holds how examples differ too; "example" is over shadows alone, which
            shrinks to nothing as alpha nears 1, and needs 2 shadows that never saw the example.

    Returns:
        float64 [target, example], between 0 and 1; higher = member.

    Raises:
        BadEvidence: arrays that do not match or are not finite, an example that too few shadows
            never saw, one number everywhere.
        ExpungeError: fewer than 2 steps, a variance that is not known.

    Source: Wang et al. (2506.06112); Happy2Git/Unlearning_Inference_IAM,
    unlearning_lib/metrics/iam_score.py (commit 13f385b), type "gumbel".
    """
    if steps < 2 or variance not in ("example", "global"):
        raise ExpungeError(
            f"Got steps={steps!r} and variance={variance!r}; expected at least 2 steps, and "
            "'example' or 'global'."
        )
    unlearned, original = _targets(unlearned, original)
    weight = _weights(shadows, unseen, unlearned, fewest=2 if variance == "example" else 1)
    if np.ptp(np.concatenate([unlearned, original, np.asarray(shadows)])) == 0:
        raise BadEvidence(
            f"All models answer {unlearned.flat[0]:g} on all examples: there is nothing to attack."
        )
    shadows = np.asarray(shadows, dtype=np.float64)
    mean = (shadows * weight).sum(axis=0) / weight.sum(axis=0)
    squares = ((shadows - mean) ** 2 * weight).sum(axis=0)
    spread = (_within if variance == "example" else _across)(mean, squares, original, weight)
    total, weights = np.zeros_like(unlearned), 0.0
    for alpha in np.linspace(0.0, 1.0, steps):
        middle = (1 - alpha) * mean + alpha * original
        scale = math.sqrt(6) / math.pi * np.maximum(spread(alpha), SMALLEST_SPREAD)
        z = (unlearned - middle) / scale + np.euler_gamma
        # Gumbel's cumulative distribution, without overflow.
        total += alpha * np.exp(-np.exp(np.minimum(-z, 700.0)))
        weights += alpha
    return total / weights


def _targets(unlearned: Floats, original: Floats) -> tuple[Floats, Floats]:
    """Check what is under test; the original becomes [target or 1, example]."""
    unlearned = np.asarray(unlearned, dtype=np.float64)
    original = np.asarray(original, dtype=np.float64)
    if unlearned.ndim != 2 or original.shape not in (unlearned.shape, unlearned.shape[1:]):
        raise BadEvidence(
            f"Got signals {unlearned.shape} and of the original {original.shape}; expected "
            "[target, example] and [example] or [target, example]."
        )
    return unlearned, original.reshape(-1, unlearned.shape[1])


def _weights(shadows: Floats, unseen: Flags, unlearned: Floats, *, fewest: int) -> Floats:
    """Check the shadows; return 1 where one never saw the example, else 0."""
    shape = np.shape(shadows)
    if len(shape) != 2 or shape[1] != unlearned.shape[1] or unlearned.size == 0:
        raise BadEvidence(
            f"Got shadows {shape} and targets {unlearned.shape}; expected [shadow, example] and "
            "[target, example], and at least one example."
        )
    check_mask(unseen, shape)
    if not np.isfinite(shadows).all() or not np.isfinite(unlearned).all():
        raise BadEvidence("Some signals are NaN or infinite; leave the models that diverged out.")
    count = np.sum(unseen, axis=0)
    if count.min() < fewest:
        raise BadEvidence(
            f"Example {count.argmin()} was never seen by {count.min()} shadows; expected at least "
            f"{fewest} ({(count < fewest).sum()} of {len(count)} examples have too few)."
        )
    return np.asarray(unseen, dtype=np.float64)


def _within(
    mean: Floats, squares: Floats, original: Floats, weight: Floats
) -> Callable[[float], Floats]:
    """Standard deviation over shadows at each alpha, [example]; the original has none."""
    shadow = np.sqrt(squares / weight.sum(axis=0))
    return lambda alpha: (1 - alpha) * shadow


def _across(
    mean: Floats, squares: Floats, original: Floats, weight: Floats
) -> Callable[[float], Floats]:
    """Standard deviation over shadows and examples at each alpha, [target or 1, 1].

    A mixture's variance follows from three moments, so no array of steps is made.
    """
    share = weight.sum(axis=0) / weight.sum()
    first = mean - share @ mean
    second = original - (original @ share)[:, None]
    shadow = squares.sum() / weight.sum() + share @ first**2
    both, other = (second * first) @ share, second**2 @ share

    def spread(alpha: float) -> Floats:
        mixed = (1 - alpha) ** 2 * shadow + 2 * alpha * (1 - alpha) * both + alpha**2 * other
        return np.sqrt(np.maximum(mixed, 0.0))[:, None]

    return spread
