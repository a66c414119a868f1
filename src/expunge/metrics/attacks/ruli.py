"""RULI: likelihood ratios of kernel densities, one game for privacy and one for efficacy. *Strong*.

Both games return log odds. The authors print p_unlearned / (p_unlearned + p_other), which is the
sigmoid of this and ranks examples alike, but is 0 / 0 where both densities underflow and ties at 1
where the answer is clearest, just where the rate of false positives is low.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from expunge.errors import BadEvidence, ExpungeError
from expunge.metrics.attacks.lira import check_mask, checked, left_out

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
