"""Reads shadow models from the store: which examples each saw, and which originals they fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from expunge.core.batch import Joined, Subset
from expunge.core.evidence import Evidence
from expunge.core.problem import Problem, network_spec
from expunge.core.store import Job, Store
from expunge.engine.training import from_scratch
from expunge.errors import BadEvidence
from expunge.experiments.collect import layout
from expunge.experiments.plan import Plan, digest
from expunge.metrics.attacks.games import Shadows
from expunge.metrics.attacks.readings import spread_rows
from expunge.metrics.attacks.signals import (
    confidence,
    memorisation,
    scaled_confidence,
    taylor_soft_margin,
)
from expunge.metrics.attacks.singles import PairedShadows, SingleSignals

Ints = NDArray[np.int64]


Flags = NDArray[np.bool_]


Floats = NDArray[np.float64]


UNSEEN = "test"


# More retained examples than this are thinned evenly before single ones are attacked.
MOST_EXAMPLES = 2000


def differences(plan: Plan, shadows: Plan) -> tuple[str, ...]:
    """Return how another plan's shadow models are made otherwise than this one's originals.

    Args:
        plan: whose originals are attacked.
        shadows: whose shadow models stand in for them; its forget set does not matter.
    """
    found = []
    if network_spec(plan.problem) != network_spec(shadows.problem):
        found.append("the networks differ")
    for name in ("train", UNSEEN):
        held = [each.problem.sets.get(name) for each in (plan, shadows)]
        mine, theirs = (None if data is None else digest(data) for data in held)
        if mine != theirs:
            found.append(f"the examples of {name!r} differ")
    recipes = [from_scratch(p.problem, "train", "shadow").steps for p in (plan, shadows)]
    return (*found, *changed(recipes[0], recipes[1], "recipe"))


def changed(one: Any, other: Any, path: str) -> Iterator[str]:
    """Yield where two words, or tuples of words, differ: "recipe[1].epochs is 3.0, not 10.0"."""
    if isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other):
        for place, (mine, theirs) in enumerate(zip(one, other, strict=True)):
            yield from changed(mine, theirs, f"{path}[{place}]")
    elif type(one) is type(other) and dataclasses.is_dataclass(one):
        for field in dataclasses.fields(one):
            mine, theirs = (getattr(each, field.name) for each in (one, other))
            yield from changed(mine, theirs, f"{path}.{field.name}")
    elif one != other:
        yield f"{path} is {other!r}, not {one!r}"


def refuse_other_recipe(plan: Plan, shadows: Plan) -> None:
    """Refuse shadow models that are made in another way than the original.

    Raises:
        BadEvidence: they are; the message names the differences.
    """
    found = differences(plan, shadows)
    if found:
        raise BadEvidence(
            "These shadow models do not fit this original, since they are made in another "
            f"way: {'; '.join(found)}. Train shadows by the original's own recipe (shadows = K)."
        )


def shadow_evidence(plan: Plan, store: Store, shadows: Plan | None = None) -> Evidence:
    """What all shadow models answer on the training set and on unseen examples.

    Args:
        plan: whose originals are attacked.
        store: holds the shadows' evidence.
        shadows: another plan that they were made for; None takes the plan's own.

    Raises:
        BadEvidence: none were asked for, or they are of another recipe.
    """
    made = plan if shadows is None else shadows
    refuse_other_recipe(plan, made)
    seeds = made.experiment.shadow_seeds
    if not seeds:
        raise BadEvidence("The experiment has no shadow models; set shadows = 64, say.")
    read = [store.tensors(made.evidence(made.shadow(seed)), "evidence") for seed in seeds]
    targets, rows = layout(made.problem, made.evaluation_sets("shadow"))
    return Evidence(np.stack([each["logits"].numpy() for each in read]), targets, rows)


def members(plan: Plan) -> Flags:
    """Which training example each shadow was trained on: bool [shadow, example of train]."""
    seeds = plan.experiment.shadow_seeds
    found = np.zeros((len(seeds), len(plan.problem.sets["train"])), dtype=np.bool_)
    for row, seed in enumerate(seeds):
        found[row, plan.half(seed).numpy()] = True
    return found


def rows_in_train(problem: Problem, name: str) -> Ints:
    """The rows of the training set that a set consists of.

    Raises:
        BadEvidence: the set is no part of the training set that rows are known of.
    """
    data, train = problem.sets[name], problem.sets["train"]
    if isinstance(data, Subset) and data.base is train:
        return data.index.numpy()
    if isinstance(train, Joined):
        start = 0
        for part in (train.first, train.second):
            if part is data:
                return np.arange(start, start + len(part))
            start += len(part)
    raise BadEvidence(f"It is not known which rows of the training set the set {name!r} has.")


def for_battery(plan: Plan, found: Evidence) -> Shadows:
    """The shadows as the attacks on models read them: on the forget set and on unseen examples."""
    rows, train = rows_in_train(plan.problem, "forget"), found.on("train")
    forget = Evidence(train.logits[:, rows], train.targets[rows], {"forget": slice(0, len(rows))})
    sides = {"forget": forget} | ({UNSEEN: found.on(UNSEEN)} if UNSEEN in found.sets else {})
    phi = {name: scaled_confidence(side.logits, side.targets) for name, side in sides.items()}
    soft = {name: taylor_soft_margin(side.logits, side.targets) for name, side in sides.items()}
    return Shadows(phi, soft, members(plan)[:, rows])


def for_singles(plan: Plan, found: Evidence, name: str) -> tuple[PairedShadows, Ints]:
    """The shadows on one set, and which of its examples are attacked.

    Raises:
        BadEvidence: there are no unseen examples for RMIA.
    """
    whole = rows_in_train(plan.problem, name)
    places = spread_rows(len(whole), MOST_EXAMPLES)
    rows, train = whole[places], found.on("train")
    logits, targets = train.logits[:, rows], train.targets[rows]
    pair = np.array([seed // 2 for seed in plan.experiment.shadow_seeds], dtype=np.int64)
    signals = SingleSignals(
        scaled_confidence(logits, targets), taylor_soft_margin(logits, targets), unseen(found)
    )
    return PairedShadows(signals, members(plan)[:, rows], pair), places


def of_models(evidence: Evidence, name: str, places: Ints) -> SingleSignals:
    """What other models answer on the same examples of a set."""
    side = evidence.on(name)
    logits, targets = side.logits[:, places], side.targets[places]
    return SingleSignals(
        scaled_confidence(logits, targets), taylor_soft_margin(logits, targets), unseen(evidence)
    )


def unseen(evidence: Evidence) -> NDArray[np.float64]:
    """RMIA's confidences on examples that no model has seen."""
    side = evidence.on(UNSEEN)
    return taylor_soft_margin(side.logits, side.targets)


def make_memorisation(plan: Plan, store: Store) -> Job:
    """Compute the memorisation scores, if they are not in the store yet.

    The product's file "memorisation" holds `score` and `error`, float32 [example of train], NaN
    where fewer than 2 shadows saw, or did not see, an example.
    """
    job = plan.memorisation
    if not store.has(job):
        sure = confidences(plan, store)
        store.write(job, {"memorisation": scored(sure, members(plan))}, {"shadows": len(sure)})
    return job


def confidences(plan: Plan, store: Store) -> Floats:
    """Each shadow's probability of the right class, float64 [shadow, example of train]."""
    train = shadow_evidence(plan, store).on("train")
    return confidence(scaled_confidence(train.logits, train.targets))


def scored(sure: Floats, member: Flags) -> dict[str, torch.Tensor]:
    """Memorisation and its error, [example]; NaN below 2 models on a side, as of a left-out row."""
    known = (member.sum(axis=0) >= 2) & ((~member).sum(axis=0) >= 2)
    found = {name: torch.full((len(known),), torch.nan) for name in ("score", "error")}
    if known.any():
        scores = memorisation(sure[:, known], member[:, known])
        for name in found:
            found[name][torch.from_numpy(known)] = torch.from_numpy(getattr(scores, name)).float()
    return found
