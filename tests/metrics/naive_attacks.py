"""Slow twins of the array attacks: one model, one example, one pair at a time, by the formulas.

Nothing is shared with the package. Where authors' code departs from the formula, `released_*` does
as it does.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import gumbel_r, norm

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def probabilities(logits: Floats) -> list[float]:
    """One answer."""
    exps = [math.exp(z - max(logits)) for z in logits]
    return [e / sum(exps) for e in exps]


def phi(logits: Floats, target: int) -> float:
    p = probabilities(logits)
    return math.log(p[target]) - math.log(sum(q for k, q in enumerate(p) if k != target))


def modified_entropy(p: list[float], target: int) -> float:
    total = -(1 - p[target]) * math.log(p[target])
    for k, q in enumerate(p):
        if k != target:
            total -= q * math.log(1 - q)
    return total


def released_modified_entropy(p: Floats, targets: NDArray[np.integer]) -> list[float]:
    """log p for log(1 - p), and the columns of all targets swapped in every row."""
    found = []
    for row in p:
        weights = [1 - q if k in targets else q for k, q in enumerate(row)]
        found.append(-sum(w * math.log(q) for w, q in zip(weights, row, strict=True)))
    return found


def u_lira(signal: Floats, inside: Flags, outside: Flags, floor: float = 1e-4) -> Floats:
    """Refits both groups for each target."""
    found = np.empty(signal.shape)
    for row, example in np.ndindex(*signal.shape):
        logs = []
        for group in (inside, outside):
            rest = [
                signal[other, example]
                for other in range(len(signal))
                if group[other, example] and other != row
            ]
            spread = max(float(np.var(rest, ddof=1)), floor)
            logs.append(norm.logpdf(signal[row, example], np.mean(rest), math.sqrt(spread)))
        found[row, example] = logs[0] - logs[1]
    return found


def global_u_lira(signal: Floats, inside: Flags, outside: Flags, floor: float = 1e-4) -> Floats:
    """One variance over the examples, of the models that are not the target."""
    found = np.empty(signal.shape)
    for row in range(len(signal)):
        rest = np.delete(np.arange(len(signal)), row)
        logs = []
        for group in (inside, outside):
            squares, freedom, means = 0.0, 0, []
            for example in range(signal.shape[1]):
                held = signal[rest, example][group[rest, example]]
                means.append(held.mean())
                squares += float(((held - held.mean()) ** 2).sum())
                freedom += len(held) - 1
            spread = max(squares / freedom, floor)
            logs.append(norm.logpdf(signal[row], means, math.sqrt(spread)))
        found[row] = logs[0] - logs[1]
    return found


def released_membership(value: float, forgotten: Floats, never: Floats) -> float:
    """Both Gaussians hold the target, and a spread of 0 divides by 0."""
    inner = norm.pdf(value, forgotten.mean(), forgotten.std())
    return float(inner / (inner + norm.pdf(value, never.mean(), never.std())))


def ruli(signal: Floats, inside: Flags, outside: Flags, bandwidth: float = 1.0) -> Floats:
    """p_in / (p_in + p_out) from sums of normal densities."""
    found = np.empty(signal.shape)
    for row, example in np.ndindex(*signal.shape):
        densities = []
        for group in (inside, outside):
            rest = [
                norm.pdf(signal[row, example], signal[other, example], bandwidth)
                for other in range(len(signal))
                if group[other, example] and other != row
            ]
            densities.append(float(np.mean(rest)))
        found[row, example] = densities[0] / sum(densities)
    return found


def rmia_offline(
    confidence: Floats, unseen: Flags, population: Floats, a: float, gamma: float
) -> Floats:
    models = range(len(confidence))
    found = np.empty(confidence.shape)

    def typical(answers: list[float]) -> float:
        return (1 + a) / 2 * float(np.mean(answers)) + (1 - a) / 2

    for row, example in np.ndindex(*confidence.shape):
        rest = [confidence[m, example] for m in models if m != row and unseen[m, example]]
        ratio = confidence[row, example] / typical(rest)
        wins = 0
        for point in range(population.shape[1]):
            others = [population[m, point] for m in models if m != row]
            wins += ratio / (population[row, point] / typical(others)) > gamma
        found[row, example] = wins / population.shape[1]
    return found


def _iam_steps(
    unlearned: Floats, original: Floats, shadows: Floats, steps: int, shared: bool
) -> tuple[Floats, Floats]:
    """Alphas, and the Gumbel CDF [step, example] of one target."""
    alphas = np.linspace(0, 1, steps)
    found = []
    for alpha in alphas:
        values = (1 - alpha) * shadows + alpha * original
        spread = np.full(len(original), values.std()) if shared else values.std(axis=0)
        scale = math.sqrt(6) * np.maximum(spread, 1e-10) / math.pi
        place = values.mean(axis=0) - np.euler_gamma * scale
        with np.errstate(over="ignore"):
            found.append(gumbel_r.cdf(unlearned, place, scale))
    return alphas, np.array(found)


def iam(
    unlearned: Floats, original: Floats, shadows: Floats, steps: int, shared: bool = True
) -> Floats:
    alphas, cdf = _iam_steps(unlearned, original, shadows, steps, shared)
    return sum(alpha * row for alpha, row in zip(alphas, cdf, strict=True)) / alphas.sum()


def released_iam(
    unlearned: Floats, original: Floats, shadows: Floats, steps: int, shared: bool = True
) -> Floats:
    """Without the last step, and each step weighed by the next one's alpha."""
    alphas, cdf = _iam_steps(unlearned, original, shadows, steps, shared)
    return (alphas[1:, None] * cdf[:-1]).sum(axis=0) / alphas[1:].sum()


def klom(unlearned: Floats, oracle: Floats) -> float:
    """One example, with NumPy's histogram, whose last bin is closed."""
    mine, theirs = np.clip(unlearned, -100, 100), np.clip(oracle, -100, 100)
    low, high = min(mine.min(), theirs.min()), max(mine.max(), theirs.max())
    if low == high:
        return 0.0
    q = np.histogram(mine, bins=20, range=(low, high))[0] / len(mine)
    p = np.histogram(theirs, bins=20, range=(low, high))[0] / len(theirs)
    q = np.array([max(b, 1e-5) if a > 0 else b for a, b in zip(p, q, strict=True)])
    q /= q.sum()
    return float(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0))


def released_klom(unlearned: Floats, oracle: Floats) -> float:
    """One example; the largest margin falls out of the last bin."""
    low = min(unlearned.min(), oracle.min())
    edges = np.linspace(low, max(unlearned.max(), oracle.max()), 21)
    shares = []
    for margins in (oracle, unlearned):
        place = np.digitize(margins, edges)
        counts = np.array([np.sum(place == i) for i in range(1, 21)])
        shares.append(counts / counts.sum())
    p, q = shares
    q = np.where(p > 0, np.maximum(q, 1e-5), q)
    q /= q.sum()
    return float(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0))


def auc(members: Floats, others: Floats) -> float:
    wins = [(a > b) + 0.5 * (a == b) for a in members for b in others]
    return float(np.mean(wins))


def tpr_at(members: Floats, others: Floats, fpr: float) -> float:
    best = 0.0
    for cut in [-math.inf, *members, *others]:
        if np.mean(others > cut) <= fpr:
            best = max(best, float(np.mean(members > cut)))
    return best


def advantage(members: Floats, others: Floats) -> float:
    cuts = [-math.inf, *members, *others]
    return max(float(np.mean(members > cut) - np.mean(others > cut)) for cut in cuts)


def exposure(signal: Floats, inside: Flags, outside: Flags) -> tuple[Floats, Floats]:
    """AUC and advantage of each example, both groups refitted without each pair."""
    areas, advantages = [], []
    for column, mine, theirs in zip(signal.T, inside.T, outside.T, strict=True):
        wins, caught = [], []
        for i in np.flatnonzero(mine):
            for j in np.flatnonzero(theirs):
                scores = []
                fits = [
                    column[[m for m in np.flatnonzero(group) if m not in (i, j)]]
                    for group in (mine, theirs)
                ]
                for target in (i, j):
                    logs = [
                        norm.logpdf(column[target], one.mean(), one.std(ddof=1)) for one in fits
                    ]
                    scores.append(logs[0] - logs[1])
                wins.append((scores[0] > scores[1]) + 0.5 * (scores[0] == scores[1]))
                caught.append(float(scores[0] > 0) - float(scores[1] > 0))
        areas.append(np.mean(wins))
        advantages.append(np.mean(caught))
    return np.array(areas), np.array(advantages)
