"""Attacks on one method from stored evidence, and signals that need no retrained model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import t as student
from torch.nn import functional

from expunge.core.batch import Data, all_targets
from expunge.core.evidence import Evidence
from expunge.core.machine import device
from expunge.core.method import Method
from expunge.core.problem import Problem
from expunge.core.seeds import derived
from expunge.core.store import Store
from expunge.errors import BadEvidence
from expunge.experiments.classifier_rows import ClassifierRow
from expunge.experiments.collect import collect
from expunge.experiments.plan import Plan
from expunge.experiments.shadowing import for_battery, for_singles, of_models, shadow_evidence
from expunge.metrics.agreement import mean, scored
from expunge.metrics.attacks.battery import FEWEST, battery, false_alarms
from expunge.metrics.attacks.games import Readings, read_answers, spread_rows
from expunge.metrics.attacks.singles import singles
from expunge.metrics.paper_scores import retrain_free_divergence, zero_retrain_forgetting
from expunge.statistics.baseline import blind_baseline_on_features
from expunge.statistics.rank import FEWEST_METHODS, rank_agreement

UNSEEN = "test"


SEEN = ("train", "forget", "retain")


# Images are compared without a model by their classes and by averages over a grid of so many.
GRID = 4


MOST_IMAGES = 1000


def evaluation_set(problem: Problem, method: Method, name: str = UNSEEN) -> str:
    """Return the set of unseen examples that attacks may use against a method.

    Raises:
        BadEvidence: the models were trained on it, or the method or the recipe reads it.
    """
    if name in SEEN:
        raise BadEvidence(f"The models were trained on {name!r}; attacks need unseen examples.")
    for reader in (method, problem.recipe):
        if reader is not None and name in reader.sets:
            raise BadEvidence(
                f"{reader.name} reads the set {name!r}, so its examples are not unseen: an attack "
                f"that takes them for non-members would be fooled. Measure on {UNSEEN!r}."
            )
    return name


def attack_record(
    plan: Plan, method: Method, subject: Evidence, oracle: Evidence, original: Evidence,
    shadows: Evidence | None,
) -> dict[str, Any]:  # fmt: skip
    """Return everything that the array attacks find in one method.

    The control `retrain` also says how often the attacks raise a false alarm between retrained
    models, and what an attack reaches that never sees a model.
    """
    unseen = evaluation_set(plan.problem, method)
    mine, theirs, start = (
        read_answers(each, unseen=unseen) for each in (subject, oracle, original)
    )
    held = None if shadows is None else for_battery(plan, shadows)
    draws = np.random.default_rng(derived("score", plan.experiment.seed, "attacks"))
    battery_found = battery(mine, theirs, start, draws, shadows=held)
    tried = []
    for one in battery_found.tried:
        effect = one.effect
        judged = {} if effect is None else {"excluded": effect.excluded, "power": effect.power}
        tried.append({**asdict(one), **judged})
    found = {**asdict(battery_found), "tried": tried}
    if method.name == "retrain":
        found["false_alarms"] = alarm_record(theirs, start, draws)
        found["blind"] = blind_record(plan.problem, draws)
    return found


def alarm_record(oracle: Readings, original: Readings, rng: np.random.Generator) -> dict[str, Any]:
    """Return how often attacks find something between retrained models, or why it is unknown."""
    if len(oracle) < 2 * FEWEST:
        return {"reason": f"{len(oracle)} retrained models are too few; {2 * FEWEST} is the least."}
    return asdict(false_alarms(oracle, original, rng))


def blind_record(problem: Problem, rng: np.random.Generator) -> dict[str, Any]:
    """Return whether classes and images alone, without a model, identify forget examples."""
    if UNSEEN not in problem.sets:
        return {"reason": "There is no set of examples that no model has seen."}
    sides = [
        model_free_features(problem.sets[name], problem.class_count) for name in ("forget", UNSEEN)
    ]
    member = np.repeat([True, False], [len(side) for side in sides])
    try:
        found = blind_baseline_on_features(np.concatenate(sides), member, rng)
    except BadEvidence as fault:
        return {"reason": str(fault)}
    effects = [{"name": e.name, "value": e.value, "p": e.p} for e in found.effects]
    return {"void": found.void, "said": found.reason, "effects": effects}


def model_free_features(data: Data, classes: int) -> NDArray[np.float64]:
    """Return features without a model: class, mean, spread, and averages over a coarse grid."""
    rows = torch.from_numpy(spread_rows(len(data), MOST_IMAGES))
    inputs = data.batch(rows).inputs.double()
    one_hot = functional.one_hot(all_targets(data)[rows], classes).double()
    flat = inputs.flatten(1)
    if inputs.ndim == 4:
        coarse = functional.adaptive_avg_pool2d(inputs, GRID).flatten(1)
    else:
        coarse = functional.adaptive_avg_pool1d(flat[:, None], min(GRID**2, flat.shape[1]))[:, 0]
    parts = [one_hot, flat.mean(1, keepdim=True), flat.std(1, keepdim=True), coarse]
    return torch.cat(parts, dim=1).numpy()


def membership_record(
    plan: Plan, shadows: Evidence, groups: Mapping[str, Evidence]
) -> dict[str, Any]:
    """Return the membership of single forget and retain examples, or why it is not known.

    Args:
        plan: with shadows.
        shadows: their evidence, of `shadow_evidence`.
        groups: "original", "unlearned", "retrained".
    """
    found: dict[str, Any] = {}
    try:
        for name in ("forget", "retain"):
            halved, places = for_singles(plan, shadows, name)
            signals = {who: of_models(each, name, places) for who, each in groups.items()}
            by_attack = singles(signals, halved)
            found[name] = {
                "places": places.tolist() if len(places) < len(plan.problem.sets[name]) else [],
                **{attack: asdict(said) for attack, said in by_attack.items()},
            }
    except BadEvidence as fault:
        return {"reason": str(fault)}
    return {"shadows": len(shadows), **found}


def shadows_of(plan: Plan, store: Store) -> Evidence | None:
    """Return the shadow models' answers, where the experiment has any."""
    return shadow_evidence(plan, store) if plan.experiment.shadows else None


Floats = NDArray[np.float64]


RANDOM_NETWORKS = 4


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
