"""Shadow models read from the store, and the forget sets that they choose."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from expunge.core.batch import Joined, Subset, all_targets
from expunge.core.evidence import Evidence
from expunge.core.problem import Problem, network_spec
from expunge.core.store import Job, Store
from expunge.engine.training import from_scratch
from expunge.errors import BadData, BadEvidence
from expunge.experiments.classifier_rows import ClassifierRow
from expunge.experiments.collect import layout
from expunge.experiments.experiment import BY_SHADOWS, forget_chooser
from expunge.experiments.plan import Plan, digest
from expunge.metrics.attacks.games import Shadows, spread_rows
from expunge.metrics.attacks.signals import (
    confidence,
    influence,
    memorisation,
    scaled_confidence,
    taylor_soft_margin,
)
from expunge.metrics.attacks.singles import PairedShadows, SingleSignals
from expunge.metrics.row_label import FEWEST_MODELS
from expunge.problems.images.canaries import Memorised

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


# Standard errors by which an example that counts as hardly memorised may be more so.
ERRORS = 2.0


# Influences are as many numbers as examples squared, some times over: 0.8 GB each at this many.
MOST_CHOSEN_EXAMPLES = 10_000


def make_forget_set(plan: Plan, store: Store) -> None:
    """Choose the forget set by what the shadow models answer, if it is not chosen yet.

    The product's file "forget" holds `rows`, int64, sorted.

    Raises:
        BadData: a size that leaves nothing to retain; more examples than influences can be of.
        BadEvidence: shadow models that cannot order the examples.
    """
    if store.has(plan.forget_set):
        return
    chooser, train = forget_chooser(plan.experiment.forget), plan.problem.sets["train"]
    kept = store.tensors(make_memorisation(plan, store), "memorisation")
    score, error = (kept[name].double().numpy() for name in ("score", "error"))
    if isinstance(chooser, Memorised):
        scores = largest(score, error) if chooser.stratum == "low" else score
    else:
        scores = influences(plan, store)
    seed = plan.experiment.forget_seed
    chosen = chooser(train, all_targets(train), seed=seed, scores=scores)
    about = {
        "shadows": plan.experiment.shadows,
        "reliability": reliability(plan, store),
        "memorisation": float(score[chosen.indices.numpy()].mean()),
        "memorisation_of_all": float(score.mean()),
    }
    store.write(plan.forget_set, {"forget": {"rows": chosen.indices}}, about)


def largest(score: Floats, error: Floats) -> Floats:
    """The largest memorisation, of either sign, that the errors leave open: least is surely low.

    Of few models the lowest scores themselves are those of hard examples, as noise would have it:
    fresh models memorise them more than the middle ones (docs/findings.md).
    """
    return np.abs(score) + ERRORS * error


def influences(plan: Plan, store: Store) -> Floats:
    """What the presence of one training example adds to another, float64 [example, example].

    Raises:
        BadData: more examples than that can be computed for.
    """
    n = len(plan.problem.sets["train"])
    if n > MOST_CHOSEN_EXAMPLES:
        raise BadData(
            f"{plan.experiment.forget} weighs every pair of the {n} training examples; "
            f"{MOST_CHOSEN_EXAMPLES} are the most. Set train_size, or take Memorised('high', ...)."
        )
    return influence(confidences(plan, store), members(plan))


def reliability(plan: Plan, store: Store) -> float:
    """Spearman's correlation of memorisation by one half of the shadows and by the other.

    Pairs with opposite halves of the training set stay together; 0 where one half orders nothing.
    """
    sure, member = confidences(plan, store), members(plan)
    first = np.arange(len(sure)) // 2 % 2 == 0
    scores = np.stack([scored(sure[half], member[half])["score"] for half in (first, ~first)])
    known = np.isfinite(scores).all(axis=0)
    if not known.any() or (np.ptp(scores[:, known], axis=1) == 0).any():
        return 0.0
    return float(spearmanr(*scores[:, known]).statistic)


def about_choice(plan: Plan, store: Store, rows: Sequence[ClassifierRow]) -> dict[str, Any]:
    """Return what a summary says of a forget set that shadow models chose; empty for any other.

    Args:
        plan, store: of an experiment that has been run.
        rows: those with numbers, of controls and methods.
    """
    # A problem of a user's own has a forget set without a sentence.
    if plan.experiment.forget == "own":
        return {}
    chooser = forget_chooser(plan.experiment.forget)
    if not isinstance(chooser, BY_SHADOWS):
        return {}
    about = store.about(plan.forget_set)
    said = [
        f"{plan.experiment.forget} was chosen by {about['shadows']} shadow models. {how(about)}"
    ]
    low = isinstance(chooser, Memorised) and chooser.stratum == "low"
    said += [negative_control(rows)] if low else []
    return {**about, "negative_control": low, "said": said}


def how(about: Mapping[str, Any]) -> str:
    """How much memorised the chosen examples are, and how far the order of examples is chance."""
    # Adding nought turns a rounded -0 into 0.
    mine, all_of_them = (
        round(about[name], 3) + 0.0 for name in ("memorisation", "memorisation_of_all")
    )
    return (
        f"Its mean memorisation is {mine:.3f}, that of all training examples "
        f"{all_of_them:.3f}; the two halves of the shadow models order the "
        f"examples with a Spearman correlation of {about['reliability']:.2f}. The examples were "
        "picked by these very models: attacks that use them here read what chose the examples."
    )


def negative_control(rows: Sequence[ClassifierRow]) -> str:
    """Return what the least memorised examples ask of a method, no change, and what was seen."""
    head = (
        "This forget set is a negative control: retrained models answer what was never memorised "
        "as the original does, so that the right change is none."
    )
    qualities = {row.head.name: row.numbers.quality for row in rows}
    retrain, nothing = qualities["retrain"], qualities["nothing"]
    if retrain.n < FEWEST_MODELS:
        return f"{head} {retrain.n} models a side cannot tell; {FEWEST_MODELS} is the least."
    ends = (
        f"forgetting quality {nothing.value:.3f} [{nothing.low:.3f}, {nothing.high:.3f}] "
        f"against {retrain.value:.3f} [{retrain.low:.3f}, {retrain.high:.3f}]"
    )
    if retrain.low > nothing.high:
        return (
            f"{head} Here doing nothing differs from retraining all the same ({ends}): what is "
            "measured is more than memory, such as one original held against many retrained models."
        )
    moved = [
        row.head.name
        for row in rows
        if not row.head.control and row.numbers.attacks["verdict"]["word"] == "found"
    ]
    harm = f" An attack finds these unlike retrained models: {', '.join(moved)}." if moved else ""
    return (
        f"{head} Doing nothing does not differ from retraining ({ends}), as it must be; whatever a "
        f"method changed here, it did not have to.{harm}"
    )


def notice(plan: Plan) -> str:
    """What must be known of a plan whose forget set is yet to be chosen; empty otherwise."""
    if plan.settled:
        return ""
    return (
        f"The forget set {plan.experiment.forget} is chosen once the {plan.experiment.shadows} "
        f"shadow models are made. Until then {len(plan.problem.sets['forget'])} random rows stand "
        "in for it: sizes, costs and shadow models are right; nothing that depends on the rows "
        "is counted as made."
    )
