"""All numbers of one method on a problem of images, from the answers in the store alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from expunge.core.evidence import Evidence
from expunge.core.machine import hardware
from expunge.core.method import Method
from expunge.core.seeds import derived
from expunge.core.store import Job, Store
from expunge.experiments.attacking import attack_record, membership_record, retrain_free, shadows_of
from expunge.experiments.classifier_rows import ClassifierScores, MetricScore
from expunge.experiments.collect import gather
from expunge.experiments.plan import Plan
from expunge.experiments.rows import UnlearningCost
from expunge.metrics.agreement import (
    Accuracy,
    ActivationDistance,
    JensenShannon,
    Metric,
    Score,
    ToW,
    accuracies,
)
from expunge.metrics.attacks.signals import LossAttack
from expunge.metrics.challenge import quality as challenge

GALLERY = 6


CURVE = 60


def score(plan: Plan, store: Store, method: Method) -> ClassifierScores:
    """Return every number of a method's row, with its part of the gallery of examples."""
    seeds = plan.experiment.seeds
    subjects = [plan.unlearned(method, seed) for seed in seeds]
    read: dict[str, np.ndarray] = {}
    subject = gather(plan, store, subjects, read)
    oracle = gather(plan, store, [plan.oracle(seed) for seed in seeds], read)
    original = gather(plan, store, originals(plan), read)
    shadows = shadows_of(plan, store)
    groups = {"original": original, "unlearned": subject, "retrained": oracle}
    epsilons = challenge.epsilons(
        challenge.forget_signal(subject),
        challenge.forget_signal(oracle),
        rule=plan.experiment.rule,
    )
    return ClassifierScores(
        scores=scores(plan, subject, oracle),
        cost=cost(plan, store, method, subjects),
        epsilons=epsilons.round(6).tolist(),
        attacks=attack_record(plan, method, subject, oracle, original, shadows),
        retrain_free=retrain_free(plan, subject, original),
        membership={} if shadows is None else membership_record(plan, shadows, groups),
        accuracy_of_models={name: accuracies(subject, name).tolist() for name in plan.measured},
        gallery=gallery(subject, oracle),
    )


def originals(plan: Plan) -> list[Job]:
    """The untouched originals, each once: one under the challenge's protocol."""
    each = (plan.original(seed) for seed in plan.experiment.seeds)
    return list({job.key: job for job in each}.values())


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


def scores(plan: Plan, subject: Evidence, oracle: Evidence) -> dict[str, MetricScore]:
    """Return each metric's value with its interval; each draws from a stream of its own."""
    found = {
        name: MetricScore.of(score, challenge.ForgettingQuality.aim)
        for name, score in challenged(plan, subject, oracle).items()
    }
    for name, metric in metrics(plan).items():
        found[name] = MetricScore.of(metric(subject, oracle, stream_of(plan, name)), metric.aim)
    for name in plan.measured:
        theirs = float(accuracies(oracle, name).mean())
        found[f"accuracy_{name}"] = replace(found[f"accuracy_{name}"], oracle=theirs)
    return found


def stream_of(plan: Plan, name: str) -> np.random.Generator:
    """The draws of one metric."""
    return np.random.default_rng(derived("score", plan.experiment.seed, name))


def chosen(oracle: Evidence) -> list[int]:
    """Return forget examples to show, from the hardest to the easiest for retrained models."""
    middle = np.median(challenge.forget_signal(oracle), axis=0)
    order = np.argsort(middle, kind="stable")
    places = np.linspace(0, len(order) - 1, min(GALLERY, len(order))).round().astype(int)
    return [int(order[place]) for place in places]


def gallery(subject: Evidence, oracle: Evidence) -> list[dict[str, Any]]:
    """Return the signal of all models on a few forget examples."""
    mine, theirs = challenge.forget_signal(subject), challenge.forget_signal(oracle)
    return [
        {
            "example": i,
            "unlearned": mine[:, i].round(4).tolist(),
            "retrained": theirs[:, i].round(4).tolist(),
        }
        for i in chosen(oracle)
    ]


def cost(plan: Plan, store: Store, method: Method, subjects: list[Job]) -> UnlearningCost:
    """Return what unlearning took, as a share of retraining: measured time and examples read.

    On a processor its own time counts, which other work on the machine does not lengthen; with an
    accelerator the wall clock does, since the processor waits.
    """
    clock = "seconds" if "accelerator" in hardware() else "processor_seconds"
    oracles = [plan.oracle(seed) for seed in plan.experiment.seeds]
    theirs = [store.about(job)["receipt"] for job in oracles]
    full = float(np.median([receipt[clock] for receipt in theirs]))
    if not method.steps:
        return UnlearningCost(retraining_seconds=full)
    ours = [store.about(job)["receipt"] for job in subjects]
    seconds = float(np.median([receipt[clock] for receipt in ours]))
    read, all_read = (sum(group[0]["examples"].values()) for group in (ours, theirs))
    return UnlearningCost(
        seconds=seconds,
        retraining_seconds=full,
        time_share=seconds / full,
        examples_share=read / all_read,
        engine=ours[0]["engine"],
        moved=float(np.mean([r["moved"] for r in ours])),
        touched=float(np.mean([r["touched"] for r in ours])),
        largest=max(r["largest"] for r in ours),
        curve=mean_curve([r["curve"] for r in ours]),
    )


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
