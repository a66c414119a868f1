"""The summary of an experiment: all that its table and its report say, as one JSON record."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from expunge.core.method import Method
from expunge.core.store import Job, Store
from expunge.engine.check import doubts, unfit
from expunge.errors import StoreError
from expunge.experiments.plan import Plan
from expunge.experiments.rows import AllScores
from expunge.metrics.score import Unscored


def summary(plan: Plan, store: Store) -> dict[str, Any]:
    """Return everything that was found, from the store alone.

    Layout, for every task:
        experiment: the experiment's fields; recipe, methods and audits as sentences.
        problem: name, sizes of the sets, and what the task says of it.
        ceiling, floor: the anchors, of held-out retrained models and of the untouched original.
        rows: as `to_json` of the task's rows gives them, one a method and control.
        doubts: method -> sentences. not_shown: sentences. hardware, versions,
        seconds_a_retraining.
        More keys are the sections of the task.

    Raises:
        StoreError: the experiment has not been run to its end.
    """
    by_name = {method.name: scores_of(plan, store, method) for method in plan.methods}
    found = AllScores(by_name["retrain"], by_name["nothing"], by_name)
    rows = plan.task.rows(plan, store, found)
    made = store.about(plan.oracle(plan.experiment.seeds[0]))
    return {
        "experiment": about_experiment(plan),
        "ceiling": plan.task.anchor(found.ceiling),
        "floor": plan.task.anchor(found.floor),
        "rows": [row.to_json() for row in rows],
        "doubts": {m.name: said for m in plan.methods if (said := doubts_about(plan, m))},
        "hardware": made["hardware"],
        "versions": made["versions"],
        "seconds_a_retraining": found.ceiling.cost.retraining_seconds,
        **plan.task.sections(plan, store, found, rows),
    }


def scores_of(plan: Plan, store: Store, method: Method) -> Any:
    """Return a method's scores as its task has them, or `Unscored` with the reason.

    Raises:
        StoreError: they are not in the store yet.
    """
    if store.has(plan.failure(method)):
        return Unscored(store.about(plan.failure(method))["reason"])
    if not store.has(plan.score(method)):
        raise StoreError(
            f"{method.name} has no score in {store.root} yet. "
            "Run the experiment first; `expunge status` says what is missing."
        )
    return plan.task.read_scores(store.about(plan.score(method)))


def doubts_about(plan: Plan, method: Method) -> list[str]:
    """Return what speaks against a method here; of one that was refused, nothing more."""
    return [] if unfit(method, plan.problem) else list(doubts(method, plan.problem))


def about_experiment(plan: Plan) -> dict[str, Any]:
    """Return the experiment as its report says it."""
    experiment = plan.experiment
    fields = {
        field.name: getattr(experiment, field.name) for field in dataclasses.fields(experiment)
    }
    return {
        **fields,
        "recipe": experiment.recipe.sentence,
        "data": Path(experiment.data).name,  # reports are passed on, folders are not
        "methods": {method.name: method.sentence for method in experiment.methods},
        "audits": [repr(audit) for audit in experiment.audits],
        "resamples": plan.task.resamples,
    }


def keep(plan: Plan, store: Store) -> dict[str, Any]:
    """Put the summary into the store, so that a report can be made from the store alone.

    Raises:
        StoreError: the experiment has not been run to its end.
    """
    found = summary(plan, store)
    # Addressed by what it says: a summary that is computed in another way is another product.
    job = Job("summary", digest_of(found))
    if not store.has(job):
        store.write(job, about=found)
    store.name(plan.experiment.name, job)
    return found


def digest_of(found: dict[str, Any]) -> str:
    """Return a digest of a record."""
    return hashlib.blake2b(json.dumps(found, sort_keys=True).encode(), digest_size=16).hexdigest()
