"""Signals that need no retrained model, and whether they rank methods as retrained models do.

They are cheap, and what they say is not what an oracle says: the record marks them so, and the
summary holds their measured correlation with the metrics that read oracles, over this run's own
methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import t as student

from expunge.core.evidence import Evidence
from expunge.core.machine import device
from expunge.core.seeds import derived
from expunge.errors import BadEvidence
from expunge.experiments.classifier_rows import ClassifierRow
from expunge.experiments.collect import collect
from expunge.experiments.plan import Plan
from expunge.metrics.agreement import mean
from expunge.metrics.paper_scores import retrain_free_divergence, zero_retrain_forgetting
from expunge.metrics.score import scored
from expunge.statistics.rank import FEWEST_METHODS, rank_agreement

Floats = NDArray[np.float64]


RANDOM_NETWORKS = 4


UNSEEN = "test"


SIGNALS = ("zrf", "rf_jsd")


ORACLE_METRICS = ("quality", "divergence_forget")


FEWEST_EXPERIMENTS = 3


def retrain_free(plan: Plan, subject: Evidence, original: Evidence) -> dict[str, Any]:
    """Each signal's mean over models with its interval, or why there is none."""
    chance = softmax(random_answers(plan), axis=2)
    forget = subject.on("forget")

    def zrf() -> Floats:
        answers = (softmax(each.astype(np.float64), axis=1) for each in forget.logits)
        pairs = ((mine, chance[i % len(chance)]) for i, mine in enumerate(answers))
        return np.array([zero_retrain_forgetting(*pair) for pair in pairs])

    def rf_jsd() -> Floats:
        before = original.on(UNSEEN)
        # Of several originals their mean answer: the divergence compares means as it is.
        known = softmax(before.logits.astype(np.float64), axis=2).mean(axis=0)
        return np.array(
            [
                retrain_free_divergence(
                    softmax(each.astype(np.float64), axis=1), forget.targets, known, before.targets
                )
                for each in forget.logits
            ]
        )

    rng = np.random.default_rng(derived("score", plan.experiment.seed, "retrain-free"))
    bounds = {"zrf": (1 - float(np.log(2)), 1.0), "rf_jsd": (0.0, float(np.log(2)))}
    made = {"zrf": zrf, "rf_jsd": rf_jsd}
    return {name: _over_models(made[name], rng, bounds[name]) for name in SIGNALS}


def random_answers(plan: Plan) -> Floats:
    """Logits of a few networks with fresh weights on the forget set, [network, example, class]."""
    found = []
    for number in range(RANDOM_NETWORKS):
        model = plan.problem.untrained("zrf", number).to(device())
        found.append(collect(model, plan.problem, ["forget"]).double().numpy())
    return np.stack(found)


def correlations(rows: Sequence[ClassifierRow], seed: int) -> list[dict[str, Any]]:
    """Return how each signal ranks the methods of a run, beside how the oracles' metrics do.

    Args:
        rows: those with numbers; controls are left out, since the untouched original and
            retraining themselves would agree with anything.
        seed: draws permutations.
    """
    kept = [row for row in rows if not row.head.control and row.numbers.retrain_free]
    return [
        {"signal": signal, "against": metric, **_agreement(kept, signal, metric, seed)}
        for signal in SIGNALS
        for metric in ORACLE_METRICS
    ]


def across(summaries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How each signal ranks methods in several experiments: each one's correlation, and their mean.

    The interval of the mean is Student's, over experiments. These share methods and data, so that
    they are no independent draws: it says how the experiments differ, and no p-value is given.

    Args:
        summaries: of experiments, such as those of a suite.

    Returns:
        For each signal and metric "each", title -> Spearman's correlation with its interval, or the
        reason why there is none, and "mean", with `value`, `low`, `high` and `n` experiments, or
        the reason.
    """
    found = []
    for signal in SIGNALS:
        for metric in ORACLE_METRICS:
            each = {s["experiment"]["name"]: _of_experiment(s, signal, metric) for s in summaries}
            known = [one["value"] for one in each.values() if "value" in one]
            found.append({"signal": signal, "against": metric, "each": each, "mean": _mean(known)})
    return found


def _of_experiment(summary: Mapping[str, Any], signal: str, metric: str) -> dict[str, Any]:
    """What one experiment says of a signal."""
    for each in summary.get("retrain_free", []):
        if (each["signal"], each["against"]) == (signal, metric):
            if "reason" in each:
                return {"reason": each["reason"]}
            return {**each["spearman"], "methods": each["methods"]}
    return {"reason": "it was not measured."}


def _mean(values: Sequence[float]) -> dict[str, Any]:
    """The mean over experiments with Student's interval, cut at 1."""
    n = len(values)
    if n < FEWEST_EXPERIMENTS:
        return {"reason": f"{n} experiments; a mean takes {FEWEST_EXPERIMENTS}."}
    middle = float(np.mean(values))
    half = float(student.isf(0.025, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return {
        "value": middle,
        "low": max(middle - half, -1.0),
        "high": min(middle + half, 1.0),
        "n": n,
    }


def _agreement(
    rows: Sequence[ClassifierRow], signal: str, metric: str, seed: int
) -> dict[str, Any]:
    """Rank correlations, or why there are none."""
    able = [row.numbers for row in rows if "value" in row.numbers.retrain_free[signal]]
    if len(able) < FEWEST_METHODS:
        return {"reason": f"{len(able)} methods; a correlation takes {FEWEST_METHODS}."}
    mine = [each.retrain_free[signal]["value"] for each in able]
    theirs = [each.scores[metric].value for each in able]
    rng = np.random.default_rng(derived("rank", seed, signal, metric))
    try:
        found = rank_agreement(mine, theirs, rng)
    except BadEvidence as fault:
        return {"reason": str(fault)}
    return {
        "spearman": asdict(found.spearman), "spearman_p": found.spearman_p,
        "kendall": asdict(found.kendall), "kendall_p": found.kendall_p,
        "said": found.reason, "methods": len(able),
    }  # fmt: skip


def _over_models(
    values: Callable[[], Floats], rng: np.random.Generator, bounds: tuple[float, float]
) -> dict[str, Any]:
    """A signal over models, marked as one that needs no retrained model."""
    try:
        score = scored(mean, [values()], rng, unit="nats", bounds=bounds)
    except BadEvidence as fault:
        return {"reason": str(fault), "retrain_free": True}
    return {**asdict(score), "retrain_free": True}
