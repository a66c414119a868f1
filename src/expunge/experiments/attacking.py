"""Attacks the models of one method, from their answers in the store; gives a record for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from expunge.core.batch import Data, all_targets
from expunge.core.evidence import Evidence
from expunge.core.method import Method
from expunge.core.problem import Problem
from expunge.core.seeds import derived
from expunge.core.store import Store
from expunge.errors import BadEvidence
from expunge.experiments.plan import Plan
from expunge.experiments.shadowing import for_battery, for_singles, of_models, shadow_evidence
from expunge.metrics.attacks.battery import FEWEST, battery, false_alarms
from expunge.metrics.attacks.readings import Readings, read_answers, spread_rows
from expunge.metrics.attacks.singles import singles
from expunge.statistics.baseline import blind_baseline_on_features

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
