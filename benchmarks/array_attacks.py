"""Speed and memory of the array attacks: 256 models and 5,000 examples, each attack on its own.

Run from the root of the repository: python benchmarks/array_attacks.py [--models 256]
[--examples 5000] [--svc-models 4]. The support vector machine grows with the square of the
examples, so it is timed on a few models and the time of all is worked out.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from expunge.metrics.attacks import exposure, klom, lira, rmia, roc, ruli, signals
from expunge.metrics.attacks import ruli as iam
from expunge.metrics.attacks import signals as population
from expunge.metrics.attacks import signals as svc

Floats = NDArray[np.float64]


def world(models: int, examples: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits of ten classes; models are sure of most examples."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 10, size=examples)
    logits = rng.normal(size=(models, examples, 10)).astype(np.float32)
    logits[:, np.arange(examples), targets] += 4 + 2 * rng.normal(size=examples)
    return logits, targets


def timed(name: str, task: Callable[[], object]) -> float:
    start, worked = time.perf_counter(), time.process_time()
    task()
    took, worked = time.perf_counter() - start, time.process_time() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{name:34} {took:7.2f} s, of which computing {worked:6.2f} s; "
        f"peak memory so far {peak:.2f} GiB",
        flush=True,
    )
    return took


def tasks(models: int, examples: int) -> dict[str, Callable[[], object]]:
    logits, targets = world(models, examples)
    rng = np.random.default_rng(1)
    member = rng.random((models, examples)) < 0.5
    phi = signals.scaled_confidence(logits, targets) + member
    fitted = signals.fitting(phi)
    soft = signals.taylor_soft_margin(logits, targets)
    scores = lira.lira(phi, member)
    curve = roc.roc(scores, member, ~member)
    return {
        "phi": lambda: signals.scaled_confidence(logits, targets),
        "modified entropy attack": lambda: population.modified_entropy_attack(logits, targets),
        "entropy attack": lambda: population.entropy_attack(logits, targets),
        "taylor soft margin": lambda: signals.taylor_soft_margin(logits, targets),
        "U-LiRA, variance of the example": lambda: lira.u_lira(phi, member, ~member),
        "U-LiRA, global variance": lambda: lira.lira(phi, member, variance="global"),
        "U-LiRA exposure, pairs left out": lambda: exposure.u_lira_exposure(
            phi, member, ~member, rng
        ),
        "RULI privacy": lambda: ruli.ruli_privacy(phi, member, ~member),
        "RULI efficacy": lambda: ruli.ruli_efficacy(phi, member, phi, ~member),
        "RMIA offline": lambda: rmia.rmia_offline(soft, ~member, soft),
        "RMIA online": lambda: rmia.rmia_online(soft, member, soft),
        "IAM, 100 steps": lambda: iam.iam(fitted, fitted[0], fitted, ~member),
        "KLoM": lambda: klom.klom(phi, phi[::-1] + 1),
        "KLoM floor, 10 splits": lambda: klom.klom_floor(phi, rng),
        "ROC: AUC and TPR at 0.1 %": lambda: (curve.auc(), curve.tpr_at(0.001)),
        "exposure of scores": lambda: exposure.exposure(scores, member, ~member),
        "AUC with interval, 200 resamples": lambda: roc.interval(
            roc.Roc.auc, curve, rng, over="both", unit="AUC"
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=256)
    parser.add_argument("--examples", type=int, default=5000)
    parser.add_argument("--svc-models", type=int, default=4)
    given = parser.parse_args()
    if given.models < 64 or given.models * given.examples < 10_000:
        parser.error("expected 64 models or more, and 10,000 answers of models to examples.")
    print(f"{given.models} models, {given.examples} examples, 10 classes")
    total = sum(timed(*task) for task in tasks(given.models, given.examples).items())
    print(f"all array attacks {total:.1f} s")
    few, half = given.svc_models, given.examples // 2
    sure = signals.confidence(np.random.default_rng(2).normal(size=(few, 2 * half)) + 2)
    took = timed(
        f"SVC, {few} models, {half} v. {half}",
        lambda: svc.mia_efficacy(sure[:, :half], sure[:, :half], sure[:, half:]),
    )
    print(f"SVC, {given.models} models: {took / few * given.models:.0f} s")


if __name__ == "__main__":
    main()
