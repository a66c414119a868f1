"""All numbers of one method, from the evidence in the store and nothing else."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from expunge.core.evidence import Evidence
from expunge.core.machine import hardware
from expunge.core.method import Method
from expunge.core.seeds import derived
from expunge.core.store import Job, Store
from expunge.experiments.attacking import attacked, recognised, shadows_of
from expunge.experiments.collect import layout
from expunge.experiments.plan import Plan
from expunge.experiments.retrain_free import retrain_free
from expunge.metrics.agreement import Accuracy, ActivationDistance, JensenShannon, ToW, accuracies
from expunge.metrics.attacks.population import LossAttack
from expunge.metrics.challenge import quality as challenge
from expunge.metrics.score import Metric, Score

GALLERY = 6


CURVE = 60


def gather(
    plan: Plan, store: Store, models: list[Job], read: dict[str, np.ndarray] | None = None
) -> Evidence:
    """The evidence of many models; a model that stands for many members is read once.

    Args:
        plan, store: where the evidence lies.
        models: whose evidence.
        read: what was read before, by key; grows.
    """
    read = {} if read is None else read
    for model in models:
        if model.key not in read:
            found = store.tensors(plan.evidence(model), "evidence")["logits"]
            read[model.key] = found.numpy()
    targets, rows = layout(plan.problem, plan.measured)
    return Evidence(np.stack([read[model.key] for model in models]), targets, rows)


def score(plan: Plan, store: Store, method: Method) -> dict[str, Any]:
    """Every number of a method's row, with the method's own part of the pictures."""
    seeds = plan.experiment.seeds
    subjects = [plan.unlearned(method, seed) for seed in seeds]
    read: dict[str, np.ndarray] = {}
    subject = gather(plan, store, subjects, read)
    oracle = gather(plan, store, [plan.oracle(seed) for seed in seeds], read)
    original = gather(plan, store, originals(plan), read)
    return {
        "scores": scores(plan, subject, oracle),
        **told_apart(plan, store, method, subject, oracle, original),
        "retrain_free": retrain_free(plan, subject, original),
        "accuracy_of_models": spread(plan, subject),
        "epsilons": epsilons(plan, subject, oracle),
        "gallery": gallery(subject, oracle),
        "cost": cost(plan, store, method, subjects),
    }


def originals(plan: Plan) -> list[Job]:
    """The untouched originals, each once: one under the challenge's protocol."""
    each = (plan.original(seed) for seed in plan.experiment.seeds)
    return list({job.key: job for job in each}.values())


def told_apart(
    plan: Plan, store: Store, method: Method, subject: Evidence, oracle: Evidence,
    original: Evidence,
) -> dict[str, Any]:  # fmt: skip
    """What the array attacks say, and with shadow models the membership of single examples."""
    shadows = shadows_of(plan, store)
    found = {"attacks": attacked(plan, method, subject, oracle, original, shadows)}
    if shadows is not None:
        groups = {"original": original, "unlearned": subject, "retrained": oracle}
        found["membership"] = recognised(plan, shadows, groups)
    return found


def metrics(plan: Plan) -> dict[str, Metric]:
    """What the challenge's score is read beside."""
    found: dict[str, Metric] = {
        "accuracy_retain": Accuracy("retain"),
        "accuracy_forget": Accuracy("forget"),
        "divergence_forget": JensenShannon("forget"),
        "distance_forget": ActivationDistance("forget"),
    }
    if "test" in plan.measured:
        found["accuracy_test"] = Accuracy("test")
        found["tow"] = ToW()
        found["divergence_test"] = JensenShannon("test")
        found["distance_test"] = ActivationDistance("test")
        found["weak_attack"] = LossAttack()
    return found


def challenged(plan: Plan, subject: Evidence, oracle: Evidence) -> dict[str, Score]:
    """Forgetting quality, and the challenge's score where there is a test set."""
    rng, rule = stream_of(plan, "quality"), plan.experiment.rule
    if "test" not in plan.measured:
        return {"quality": challenge.ForgettingQuality(rule)(subject, oracle, rng)}
    quality, score = challenge.quality_and_score(subject, oracle, rng, rule=rule)
    return {"quality": quality, "score": score}


def scores(plan: Plan, subject: Evidence, oracle: Evidence) -> dict[str, Any]:
    """Each metric's value with its interval; each draws from a stream of its own."""
    found: dict[str, Any] = {}
    for name, score in challenged(plan, subject, oracle).items():
        found[name] = {**asdict(score), "aim": challenge.ForgettingQuality.aim}
    for name, metric in metrics(plan).items():
        score = metric(subject, oracle, stream_of(plan, name))
        found[name] = {**asdict(score), "aim": metric.aim}
    for name in plan.measured:
        found[f"accuracy_{name}"]["oracle"] = float(accuracies(oracle, name).mean())
    return found


def stream_of(plan: Plan, name: str) -> np.random.Generator:
    """The draws of one metric."""
    return np.random.default_rng(derived("score", plan.experiment.seed, name))


def spread(plan: Plan, subject: Evidence) -> dict[str, list[float]]:
    """Accuracy of each model on each set."""
    return {name: accuracies(subject, name).tolist() for name in plan.measured}


def epsilons(plan: Plan, subject: Evidence, oracle: Evidence) -> list[float]:
    """Epsilon of each forget example."""
    mine, theirs = challenge.forget_signal(subject), challenge.forget_signal(oracle)
    return challenge.epsilons(mine, theirs, rule=plan.experiment.rule).round(6).tolist()


def chosen(oracle: Evidence) -> list[int]:
    """Forget examples for the pictures: from the hardest to the easiest for retrained models."""
    middle = np.median(challenge.forget_signal(oracle), axis=0)
    order = np.argsort(middle, kind="stable")
    places = np.linspace(0, len(order) - 1, min(GALLERY, len(order))).round().astype(int)
    return [int(order[place]) for place in places]


def gallery(subject: Evidence, oracle: Evidence) -> list[dict[str, Any]]:
    """The signal of all models on a few forget examples."""
    mine, theirs = challenge.forget_signal(subject), challenge.forget_signal(oracle)
    return [
        {
            "example": i,
            "unlearned": mine[:, i].round(4).tolist(),
            "retrained": theirs[:, i].round(4).tolist(),
        }
        for i in chosen(oracle)
    ]


def cost(plan: Plan, store: Store, method: Method, subjects: list[Job]) -> dict[str, Any]:
    """What unlearning took, as a share of retraining: measured time and examples read.

    On a processor its own time counts, which other work on the machine does not lengthen; with an
    accelerator the wall clock does, since the processor waits.
    """
    clock = "seconds" if "accelerator" in hardware() else "processor_seconds"
    oracles = [plan.oracle(seed) for seed in plan.experiment.seeds]
    theirs = [store.about(job)["receipt"] for job in oracles]
    full = float(np.median([receipt[clock] for receipt in theirs]))
    if not method.steps:
        measured = ("seconds", "time_share", "examples_share", "moved", "touched", "largest")
        free = dict.fromkeys(measured, 0.0)
        return {**free, "retraining_seconds": full, "engine": "none", "curve": []}
    ours = [store.about(job)["receipt"] for job in subjects]
    seconds = float(np.median([receipt[clock] for receipt in ours]))
    read, all_read = (sum(group[0]["examples"].values()) for group in (ours, theirs))
    return {
        "seconds": seconds,
        "retraining_seconds": full,
        "time_share": seconds / full,
        "examples_share": read / all_read,
        "engine": ours[0]["engine"],
        "moved": float(np.mean([r["moved"] for r in ours])),
        "touched": float(np.mean([r["touched"] for r in ours])),
        "largest": max(r["largest"] for r in ours),
        "curve": mean_curve([r["curve"] for r in ours]),
    }


def mean_curve(curves: list[list[list[Any]]]) -> list[list[Any]]:
    """Mean training loss by step and epoch; thinned where there are many epochs.

    Members of a mixture go different ways: each epoch's mean is over those that had it.
    """
    losses: dict[tuple[Any, ...], list[float]] = {}
    for place, epoch, loss in (entry for curve in curves for entry in curve):
        losses.setdefault((place, epoch), []).append(loss)
    every = max(1, len(losses) // CURVE)
    kept = list(losses.items())[::every]
    return [[*where, float(np.mean(found))] for where, found in kept]
