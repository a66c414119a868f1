"""Chooses forget sets by what shadow models memorised, and says what must be known about them.

Shadow models know of no forget set, so they come first: shadows, their evidence, memorisation, the
forget set's rows, and only then everything that depends on what is forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from expunge.core.batch import all_targets
from expunge.core.store import Store
from expunge.errors import BadData
from expunge.experiments.classifier_rows import ClassifierRow
from expunge.experiments.experiment import BY_SHADOWS, forget_chooser
from expunge.experiments.plan import Plan
from expunge.experiments.shadowing import confidences, make_memorisation, members, scored
from expunge.metrics.attacks.signals import influence
from expunge.metrics.row_label import FEWEST_MODELS
from expunge.problems.images.memorised import Memorised

Floats = NDArray[np.float64]


# Standard errors by which an example that counts as hardly memorised may be more so.
ERRORS = 2.0


# Influences are as many numbers as examples squared, some times over: 0.8 GB each at this many.
MOST_EXAMPLES = 10_000


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
    if n > MOST_EXAMPLES:
        raise BadData(
            f"{plan.experiment.forget} weighs every pair of the {n} training examples; "
            f"{MOST_EXAMPLES} are the most. Set train_size, or take Memorised('high', ...)."
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
