"""The summary of an experiment, whatever its task, and the ranking made from it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expunge.core.method import Method
from expunge.core.store import Job, Store
from expunge.engine.check import doubts, unfit
from expunge.errors import StoreError
from expunge.experiments.classifier_rows import ClassifierRow, MetricScore, accuracy_column
from expunge.experiments.plan import Plan
from expunge.experiments.rows import AllScores, Column, Record
from expunge.metrics.agreement import Unscored
from expunge.metrics.row_label import LARGEST_COST


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


# A method's epochs are counted in whole minibatches, which may exceed the cap by a few examples.
CAP = LARGEST_COST * 1.025


@dataclass(frozen=True)
class Place:
    """One row of the ranking.

    Args:
        row: all numbers of a method.
        score: the challenge's score with its 95 % interval.
        gap_closed: (score - floor) / (ceiling - floor), then its interval, scaled alike; floor and
            ceiling are taken as they are, so their own noise is not in it.
        rank: 1 is best; equal where intervals overlap with the same rows above; None for controls,
            methods above the cost cap, and collapsed ones.
        why: why there is no rank; empty where there is one.
    """

    row: ClassifierRow
    score: MetricScore
    gap_closed: tuple[float, float, float]
    rank: int | None
    why: str = ""

    @property
    def name(self) -> str:
        """The method's name."""
        return self.row.head.name


def ranking(summary: Record) -> list[Place]:
    """Return all scored rows of a summary, the best rank first, then what has no rank."""
    read = [ClassifierRow.from_json(record) for record in summary["rows"]]
    rows = [row for row in read if isinstance(row, ClassifierRow)]
    by_name = {row.head.name: score_of(row).value for row in rows}
    floor, span = by_name["nothing"], by_name["retrain"] - by_name["nothing"]
    judged = [score_of(row) for row in rows if not without_rank(row)]
    places = []
    for row in rows:
        score, why = score_of(row), without_rank(row)
        low, middle, high = (
            (one - floor) / span if span > 0 else 0.0
            for one in (score.low, score.value, score.high)
        )
        rank = None if why else 1 + sum(other.low > score.high for other in judged)
        places.append(Place(row, score, (middle, low, high), rank, why))
    return sorted(places, key=lambda p: (p.rank is None, p.rank or 0, -p.score.value))


def without_rank(row: ClassifierRow) -> str:
    """Return why a row takes no rank; empty when it does."""
    if row.head.control:
        return "control"
    if row.numbers.cost.examples_share > CAP:
        return f"above {LARGEST_COST:.0%} of retraining's cost"
    return "collapsed" if row.collapsed else ""


def score_of(row: ClassifierRow) -> MetricScore:
    """Return the challenge's score; forgetting quality where there is no test set."""
    return row.numbers.scores.get("score", row.numbers.quality)


def _of_row(name: str) -> Column[Place]:
    """An accuracy as the table of the experiment shows it."""
    column = accuracy_column(name)
    return Column(name, lambda place: column.cell(place.row))


def _score(place: Place) -> str:
    return f"{place.score.value:.4f} [{place.score.low:.4f}, {place.score.high:.4f}]"


def _gap_closed(place: Place) -> str:
    middle, low, high = place.gap_closed
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


COLUMNS: tuple[Column[Place], ...] = (
    Column("rank", lambda place: "-" if place.rank is None else str(place.rank)),
    Column("method", lambda place: place.name, left=True),
    Column("score", _score),
    Column("gap closed", _gap_closed),
    _of_row("retain"),
    _of_row("test"),
    Column("read", lambda place: f"{place.row.numbers.cost.examples_share:.0%}"),
    Column("time", lambda place: f"{place.row.numbers.cost.time_share:.0%}"),
    Column("verdict", lambda place: place.why or place.row.verdict, left=True),
)


def first_places(summary: Record, first: int | None = None) -> list[Place]:
    """Return the whole ranking, or its first places and the controls."""
    places = ranking(summary)
    kept = [p for p in places if p.rank is not None][:first]
    return kept + [p for p in places if p.rank is None and (first is None or p.row.head.control)]


def legend(summary: Record) -> str:
    """Return how to read a ranking."""
    experiment, hardware = summary["experiment"], summary["hardware"]
    return (
        f"{experiment['name']}: forget set {experiment['forget']}, n = {experiment['members']} "
        f"models a row and as many oracles, protocol {experiment['protocol']}, rule "
        f"{experiment['rule']}. score: the challenge's, F times the retain and test accuracies' "
        "ratios, with a 95 % interval over models; gap closed: 0 = the original, 1 = held-out "
        "retrained models; rank: 1 + the methods whose interval lies wholly above, controls, dear "
        "and collapsed ones apart; accuracies in %, with the gap to retrained; read and time: "
        "examples read and time taken, as shares of "
        f"retraining's. {hardware['processor']}, {hardware['cores']} cores."
    )
