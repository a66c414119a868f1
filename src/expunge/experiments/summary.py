"""The summary of an experiment: all that the table and the report say, as one JSON record."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from expunge.audits.panel import STANDARD
from expunge.core.method import Method
from expunge.core.store import Job, Store
from expunge.engine.check import doubts, unfit
from expunge.errors import StoreError
from expunge.experiments.audit_jobs import findings_of
from expunge.experiments.memorised_sets import about_choice
from expunge.experiments.plan import Plan
from expunge.experiments.retrain_free import correlations
from expunge.metrics.row_label import ScoredRow, Spread, flags, gap_closed, row_label
from expunge.metrics.score import RESAMPLES, Score, Unscored

NOT_SHOWN = (
    "That the information is gone: these numbers compare answers on the measured examples. "
    "A model can hide what it still knows, as the control `sham` does.",
    "Attacks that were not tried. “Excluded” is said of the listed attacks and of the stated "
    "margin; “inconclusive” is no evidence of forgetting.",
    "Loss, entropy, modified entropy and SVC are weak attacks: one threshold for all examples "
    "overstates protection. An area near the oracle's is no evidence of forgetting.",
    "Only this forget set, this network and this recipe were measured. "
    "Another choice can order the methods otherwise.",
    "Copies of the original, earlier exports and models derived from it still hold everything.",
    "The intervals are over models; the examples and the split into sets stay as they are.",
)


NO_AUDITS = (
    "Relearning, probes of inner layers, pruning and quantisation were not run here: the attacks "
    "read answers and no weights. Name audits in the experiment to run them."
)


def summary(plan: Plan, store: Store) -> dict[str, Any]:
    """Everything that was found, from the store alone.

    Raises:
        StoreError: the experiment has not been carried out to its end.
    """
    found = {m.name: numbers(plan, store, m) for m in plan.methods}
    shown = dataclasses.asdict(plan.experiment)
    shown["recipe"] = plan.experiment.recipe.sentence
    shown["data"] = Path(plan.experiment.data).name  # reports are passed on, folders are not
    shown["methods"] = {m.name: m.sentence for m in plan.experiment.methods}
    shown["audits"] = [repr(audit) for audit in plan.experiment.audits]
    shown["resamples"] = RESAMPLES
    audits = {m.name: findings_of(plan, store, m) for m in plan.methods}
    rows = [row(plan, method, found, audits[method.name]) for method in plan.methods]
    first = plan.oracle(plan.experiment.seeds[0])
    made = store.about(first)
    return {
        "experiment": shown,
        "problem": about_problem(plan, store),
        "chosen": about_choice(plan, store, rows),
        "ceiling": found["retrain"]["scores"]["quality"],
        "floor": found["nothing"]["scores"]["quality"],
        "rows": rows,
        "gallery": gallery(plan, store, found),
        "doubts": {m.name: said for m in plan.methods if (said := doubted(plan, m))},
        "not_shown": [*NOT_SHOWN, *protocol_limits(plan)],
        "false_alarms": found["retrain"]["attacks"]["false_alarms"],
        "audit_alarms": audits["retrain"].get("false_alarms", {}),
        "blind": found["retrain"]["attacks"]["blind"],
        "retrain_free": correlations(rows, plan.experiment.seed),
        "hardware": made["hardware"],
        "versions": made["versions"],
        "seconds_a_retraining": found["retrain"]["cost"]["retraining_seconds"],
    }


def numbers(plan: Plan, store: Store, method: Method) -> dict[str, Any]:
    """A method's numbers, or the reason why it has none."""
    if store.has(plan.failure(method)):
        return {"unscored": store.about(plan.failure(method))["reason"]}
    if not store.has(plan.score(method)):
        raise StoreError(
            f"{method.name} has no score in {store.root} yet. "
            "Run the experiment first; `expunge status` says what is missing."
        )
    return store.about(plan.score(method))


def doubted(plan: Plan, method: Method) -> list[str]:
    """What speaks against a method on this problem; of one that was refused, nothing more."""
    return [] if unfit(method, plan.problem) else list(doubts(method, plan.problem))


def about_problem(plan: Plan, store: Store) -> dict[str, Any]:
    """What was forgotten, from what."""
    about = store.about(plan.root)
    return {
        "name": plan.problem.name,
        "classes": about["classes"],
        "sizes": about["sizes"],
        "rows": store.tensors(plan.root, "forget")["rows"][:20].tolist(),
    }


def row(
    plan: Plan, method: Method, found: Mapping[str, Any], audits: Mapping[str, Any]
) -> dict[str, Any]:
    """One row of the table, ending in plain words."""
    mine = found[method.name]
    control = method.name in ("retrain", "nothing", "sham")
    head = {
        "name": method.name,
        "sentence": method.sentence,
        "source": method.source,
        "control": control,
    }
    if "unscored" in mine:
        return {**head, "unscored": mine["unscored"], "verdict": "unscored"}
    judged = judged_row(plan, method.name, found)
    share = gap_closed(judged.quality.value, judged.floor, judged.ceiling)
    return {
        **head,
        "scores": mine["scores"],
        "cost": mine["cost"],
        "epsilons": mine["epsilons"],
        "attacks": mine["attacks"],
        "retrain_free": mine["retrain_free"],
        **({"membership": mine["membership"]} if "membership" in mine else {}),
        **({"audits": {**audits}} if audits else {}),
        "normalised": share.reason if isinstance(share, Unscored) else share,
        "verdict": row_label(judged),
        "flags": list(flags(judged)),
    }


def judged_row(plan: Plan, name: str, found: Mapping[str, Any]) -> ScoredRow:
    """What the verdict on a row is made from."""
    tuned = found.get("finetune", {})
    return ScoredRow(
        quality=_score(found[name]),
        ceiling=_score(found["retrain"]),
        floor=_score(found["nothing"]),
        finetune=_score(tuned) if name != "finetune" and "scores" in tuned else None,
        subject=_spread(found[name]),
        oracle=_spread(found["retrain"]),
        original=_spread(found["nothing"]),
        classes=plan.problem.class_count,
        largest_change=found[name]["cost"]["largest"],
        cost=found[name]["cost"]["time_share"],
    )


def _score(numbers: Mapping[str, Any]) -> Score:
    said = {k: v for k, v in numbers["scores"]["quality"].items() if k != "aim"}
    return Score(**said)


def _spread(numbers: Mapping[str, Any]) -> dict[str, Spread]:
    by_set = numbers["accuracy_of_models"].items()
    return {name: Spread(float(np.mean(a)), float(np.std(a, ddof=1))) for name, a in by_set}


def gallery(plan: Plan, store: Store, found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A few forget examples: picture, class, and the signal of the models of every method."""
    kept = store.tensors(plan.root, "forget")
    rows = [row for row in found["nothing"]["gallery"] if row["example"] < len(kept["pictures"])]
    shown = []
    for place, entry in enumerate(rows):
        target = int(kept["targets"][entry["example"]])
        shown.append(
            {
                "example": int(kept["rows"][entry["example"]]),
                "class": plan.problem.classes[target] if plan.problem.classes else str(target),
                "picture": _picture(kept["pictures"][entry["example"]].numpy()),
                "original": entry["unlearned"][0],
                "retrained": entry["retrained"],
                "unlearned": {
                    name: numbers["gallery"][place]["unlearned"]
                    for name, numbers in found.items()
                    if "gallery" in numbers and name != "nothing"
                },
            }
        )
    return shown


def _picture(image: np.ndarray) -> list[Any]:
    """Whole numbers 0 to 255, [c][h][w], stretched to the picture's own range.

    What is no picture of one or three channels, as a vector is, becomes a strip of grey.
    """
    seen = image if image.ndim == 3 and len(image) in (1, 3) else image.reshape(1, 1, -1)
    low, high = seen.min(), seen.max()
    stretched = (seen - low) / max(float(high - low), 1e-9) * 255
    return stretched.round().astype(int).tolist()


def protocol_limits(plan: Plan) -> list[str]:
    """What the protocol and the number of members leave open."""
    few = plan.experiment.members
    said = audit_limits(plan)
    if plan.experiment.protocol == "challenge":
        said.append(
            "All unlearned models start from one original (protocol `challenge`); "
            "another original was not tried, and what attacks find may be what these models share."
        )
    if not plan.experiment.shadows:
        said.append(
            "No shadow models were trained (shadows = 0): whether single retain or forget examples "
            "are recognised as members of the training set was not tried."
        )
    if few < 16:
        said.append(f"With {few} models a side no method can be ranked; 16 is the least.")
    return said


def audit_limits(plan: Plan) -> list[str]:
    """What audits of the weights leave open."""
    experiment = plan.experiment
    if not experiment.audits:
        return [NO_AUDITS]
    asked = {type(audit) for audit in experiment.audits}
    left = [repr(audit) for audit in STANDARD if type(audit) not in asked]
    without = (
        [f"These usual audits of the weights were not run: {', '.join(left)}."] if left else []
    )
    return [
        f"Audits measured {min(experiment.audited, experiment.members)} models of each kind; a "
        "stronger attacker, who trains longer or reads other layers, may find what these did not. "
        "Several of them read the same thing: they are not independent witnesses.",
        *without,
    ]


def keep(plan: Plan, store: Store) -> dict[str, Any]:
    """Put the summary into the store, so that a report can be made from the store alone."""
    found = plan.task.summary(plan, store)
    # Addressed by what it says: a summary worked out anew in another way is another product.
    job = Job("summary", digest_of(found))
    if not store.has(job):
        store.write(job, about=found)
    store.name(plan.experiment.name, job)
    return found


def digest_of(found: dict[str, Any]) -> str:
    """A digest of a record."""
    return hashlib.blake2b(json.dumps(found, sort_keys=True).encode(), digest_size=16).hexdigest()
