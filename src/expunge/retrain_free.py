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

from expunge.collect import collect
from expunge.errors import BadEvidence
from expunge.evidence import Evidence
from expunge.hardware import device
from expunge.metrics.agreement import mean
from expunge.metrics.distances import retrain_free_divergence, zero_retrain_forgetting
from expunge.metrics.score import scored
from expunge.plan import Plan
from expunge.statistics import rank_agreement
from expunge.statistics.rank import FEWEST_METHODS
from expunge.streams import derived

Floats = NDArray[np.float64]

RANDOM_NETWORKS = 4
UNSEEN = "test"
SIGNALS = ("zrf", "rf_jsd")
ORACLE_METRICS = ("quality", "divergence_forget")


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
    return {name: _told(made[name], rng, bounds[name]) for name in SIGNALS}


def random_answers(plan: Plan) -> Floats:
    """Logits of a few networks with fresh weights on the forget set, [network, example, class]."""
    found = []
    for number in range(RANDOM_NETWORKS):
        model = plan.problem.untrained("zrf", number).to(device())
        found.append(collect(model, plan.problem, ["forget"]).double().numpy())
    return np.stack(found)


def correlations(rows: Sequence[Mapping[str, Any]], seed: int) -> list[dict[str, Any]]:
    """How each signal ranks the methods of a run, beside how the oracles' metrics rank them.

    Args:
        rows: of a summary, with `scores` and `retrain_free`; controls are left out, since the
            untouched original and retraining themselves would agree with anything.
        seed: draws permutations.
    """
    kept = [row for row in rows if not row["control"] and "retrain_free" in row]
    return [
        {"signal": signal, "against": metric, **_agreement(kept, signal, metric, seed)}
        for signal in SIGNALS
        for metric in ORACLE_METRICS
    ]


def _agreement(
    rows: Sequence[Mapping[str, Any]], signal: str, metric: str, seed: int
) -> dict[str, Any]:
    """Rank correlations, or why there are none."""
    able = [row for row in rows if "value" in row["retrain_free"][signal]]
    if len(able) < FEWEST_METHODS:
        return {"reason": f"{len(able)} methods; a correlation takes {FEWEST_METHODS}."}
    mine = [row["retrain_free"][signal]["value"] for row in able]
    theirs = [row["scores"][metric]["value"] for row in able]
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


def _told(
    values: Callable[[], Floats], rng: np.random.Generator, bounds: tuple[float, float]
) -> dict[str, Any]:
    """A signal over models, marked as one that needs no retrained model."""
    try:
        score = scored(mean, [values()], rng, unit="nats", bounds=bounds)
    except BadEvidence as fault:
        return {"reason": str(fault), "retrain_free": True}
    return {**asdict(score), "retrain_free": True}
