"""KLoM: how far the margins of unlearned models lie from those of retrained ones. *Strong*.

The Kullback-Leibler divergence of margins, example by example, from histograms of many models of
both kinds. Its own noise floor is that of oracles against other oracles: see `klom_floor`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from expunge.errors import BadEvidence

Floats = NDArray[np.float64]

Ints = NDArray[np.int64]

BINS = 20

CLIP = 100.0

# The least probability of a bin of the unlearned models, which caps the divergence near ln 1e5.
LEAST = 1e-5


def klom(unlearned: Floats, oracle: Floats) -> Floats:
    """Return KL(oracle || unlearned) of the margins of each example.

    Margins are cut to [-100, 100] and counted in 20 equal bins on the joint range of both groups,
    the largest one in the last bin; bins of the unlearned that are empty where the oracle's are not
    count as 1e-5. Identical margins everywhere give 0, groups that share no bin 11.51.

    RoyRin/data-unlearning-bench, eval.py (commit eb261f9) calls it in this direction, though its
    arguments are named the other way round. There the largest margin falls outside of the last bin,
    so that it is counted in neither group.

    Args:
        unlearned, oracle: float64 [model, example], `signals.scaled_confidence`; the numbers of
            models may differ, 100 of each in the paper, each unlearned from an original of its own.

    Returns:
        float64 [example], nats, from 0 to 11.52.

    Raises:
        BadEvidence: shapes that do not match, fewer than 2 models, values that are not finite.

    Source: Georgiev et al. (2410.23232), KL divergence of margins.
    """
    both = _checked(unlearned, oracle)
    mine, theirs = (np.clip(one, -CLIP, CLIP) for one in both)
    low = np.minimum(mine.min(axis=0), theirs.min(axis=0))
    high = np.maximum(mine.max(axis=0), theirs.max(axis=0))
    high = np.where(high > low, high, low + 1.0)
    edges = np.linspace(low, high, BINS + 1, axis=1)
    p, q = _shares(theirs, edges), _shares(mine, edges)
    q = np.where(p > 0, np.maximum(q, LEAST), q)
    q /= q.sum(axis=1, keepdims=True)
    ratio = np.divide(p, q, out=np.ones_like(p), where=p > 0)
    found: Floats = (p * np.log(ratio)).sum(axis=1)
    return np.maximum(found, 0.0)


def klom_floor(oracle: Floats, rng: np.random.Generator, *, splits: int = 10) -> Floats:
    """Return KLoM of one random half of the oracles against the other, mean over splits.

    What no method can beat: where nothing differs, empty bins give 3.1, 0.9, 0.35 and 0.15 nats
    with 20, 50, 100 and 200 models of each kind. A half is smaller than the whole, so this floor is
    that of half the models; best is a second group of oracles, `klom(held_out, oracle)`.

    Args:
        oracle: float64 [model, example].
        rng: draws the halves.
        splits: how often.

    Returns:
        float64 [example], nats.

    Raises:
        BadEvidence: fewer than 4 oracles, fewer than 1 split, or as for `klom`.
    """
    oracle = np.asarray(oracle, dtype=np.float64)
    if len(oracle) < 4 or splits < 1:
        raise BadEvidence(
            f"Got {len(oracle)} oracles and {splits} splits; expected at least 4 oracles, 2 for "
            "each half, and 1 split."
        )
    total = np.zeros(oracle.shape[1:])
    for _ in range(splits):
        order = rng.permutation(len(oracle))
        half = len(oracle) // 2
        total += klom(oracle[order[:half]], oracle[order[half:]])
    return total / splits


def _checked(unlearned: Floats, oracle: Floats) -> tuple[Floats, Floats]:
    """Both margins as float64, or a refusal."""
    mine, theirs = np.asarray(unlearned, np.float64), np.asarray(oracle, np.float64)
    if mine.ndim != 2 or theirs.ndim != 2 or mine.shape[1] != theirs.shape[1] or not mine.size:
        raise BadEvidence(
            f"Got margins {mine.shape} of unlearned and {theirs.shape} of retrained models; "
            "expected [model, example], on the same examples and at least one."
        )
    if min(len(mine), len(theirs)) < 2:
        raise BadEvidence(
            f"Got {len(mine)} unlearned and {len(theirs)} retrained models; a histogram of one is "
            "none: give at least 2 of each, 100 for the published scale."
        )
    if not np.isfinite(mine).all() or not np.isfinite(theirs).all():
        raise BadEvidence("Some margins are NaN or infinite; leave the models that diverged out.")
    return mine, theirs


def _shares(margins: Floats, edges: Floats) -> Floats:
    """Share of the models in each bin, [example, bin]; the last bin holds its right edge."""
    examples = np.arange(edges.shape[0])
    width = (edges[:, -1] - edges[:, 0]) / BINS
    place = np.clip(((margins - edges[:, 0]) / width).astype(np.int64), 0, BINS - 1)
    # The division may be off by a rounding; the edges decide.
    place -= margins < edges[examples, place]
    place += (place < BINS - 1) & (margins >= edges[examples, place + 1])
    flat = np.bincount((place + examples * BINS).ravel(), minlength=BINS * len(examples))
    return flat.reshape(-1, BINS) / len(margins)
