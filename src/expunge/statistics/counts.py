"""Exact intervals of shares, and the true positive rate at a false positive rate."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv
from scipy.stats import binom

from expunge.errors import BadEvidence
from expunge.statistics.checks import Floats, check_fraction, checked_counts, finite_array
from expunge.statistics.result import Interval


def lower_limit(hits: ArrayLike, trials: ArrayLike, alpha: float) -> Floats:
    """Return the exact one-sided lower limit of a share: above the truth with at most alpha.

    Args:
        hits, trials: counts, of any shape that broadcasts.
        alpha: the share of misses that is allowed.

    Raises:
        BadEvidence, ExpungeError: counts that cannot be, alpha outside (0, 1).

    Source: Clopper and Pearson (1934); the beta form as in SciPy.
    """
    check_fraction("alpha", alpha)
    k, n = checked_counts(hits, trials)
    # No hit leaves 0 possible; the beta distribution has no such parameter.
    found = betaincinv(np.maximum(k, 1), n - k + 1, alpha)
    return np.where(k == 0, 0.0, found)


def upper_limit(hits: ArrayLike, trials: ArrayLike, alpha: float) -> Floats:
    """Return the exact one-sided upper limit of a share: below the truth with at most alpha.

    Args, Raises, Source: as for `lower_limit`.
    """
    k, n = checked_counts(hits, trials)
    return 1.0 - lower_limit(n - k, n, alpha)


def clopper_pearson(hits: int, trials: int, alpha: float = 0.05) -> Interval:
    """Return a share with its exact interval, alpha / 2 at each end.

    Args:
        hits, trials: counts of independent trials.
        alpha: the share of misses that is allowed.

    Raises:
        BadEvidence, ExpungeError: as for `lower_limit`.

    Source: Clopper and Pearson (1934); SciPy's `binomtest` gives the same, for one count.
    """
    check_fraction("alpha", alpha)
    low, high = lower_limit(hits, trials, alpha / 2), upper_limit(hits, trials, alpha / 2)
    return Interval(hits / trials, float(low), float(high), alpha, int(trials))


def negatives_needed(fpr: float, alpha: float = 0.05) -> int:
    """Return how many negatives can show a false positive rate of at most this, at best.

    With none of n above a threshold the rate is at most fpr if (1 - fpr)^n <= alpha: 29 for 10 %,
    299 for 1 %, 2,995 for 0.1 %.

    Raises:
        ExpungeError: fpr or alpha outside (0, 1).
    """
    check_fraction("fpr", fpr)
    check_fraction("alpha", alpha)
    # log1p keeps the digits of a small rate; a whole number must not be rounded up once more.
    return math.ceil(round(math.log(alpha) / math.log1p(-fpr), 9))


def tpr_at(positives: ArrayLike, negatives: ArrayLike, fpr: float, alpha: float = 0.05) -> Interval:
    """Return the true positive rate at a false positive rate, with the threshold's own error.

    The ends rest on two thresholds: one whose false positive rate is at most `fpr`, and one whose
    rate is at least that, each but for alpha / 4; the counts of positives add alpha / 4 each.

    Args:
        positives, negatives: float [unit], scores of independent units; high says positive.
        fpr: the false positive rate.
        alpha: the share of misses that is allowed.

    Raises:
        BadEvidence: too few negatives to resolve this rate, or scores that are not finite.
        ExpungeError: fpr or alpha outside (0, 1).

    Source: order statistics as tolerance limits, Wilks (1941); Clopper and Pearson (1934).
    """
    ones, zeros = (
        finite_array("positives", positives),
        np.sort(finite_array("negatives", negatives))[::-1],
    )
    needed, n = negatives_needed(fpr, alpha), len(zeros)
    if n < needed:
        raise BadEvidence(
            f"Got {n} negatives; a false positive rate of {fpr:g} takes at least {needed}. "
            f"Report a rate of {1 - alpha ** (1 / n):.2g} or more, or add negatives."
        )
    allowed = math.floor(fpr * n + 1e-9)
    best = int((ones > zeros[allowed]).sum()) / len(ones)
    # Strictly above the k-th largest negative: a rate above fpr has probability P(Bin < k).
    strict = int((binom.cdf(np.arange(n + 1) - 1, n, fpr) <= alpha / 4).sum()) - 1
    low = lower_limit((ones > zeros[strict - 1]).sum(), len(ones), alpha / 4) if strict else 0.0
    # At or above the k-th largest: a rate below fpr has probability P(Bin >= k).
    loose = int(binom.isf(alpha / 4, n, fpr)) + 1
    high = upper_limit((ones >= zeros[loose - 1]).sum(), len(ones), alpha / 4) if loose <= n else 1
    return Interval(best, min(float(low), best), max(float(high), best), alpha, len(ones))
