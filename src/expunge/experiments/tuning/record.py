"""What tuning and search found, as JSON for the store."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from statistics import median
from typing import Any

from expunge.core.store import Job, Store
from expunge.experiments.experiment import Experiment, to_toml
from expunge.experiments.summary import digest_of
from expunge.experiments.tuning import held_out, search
from expunge.experiments.tuning.evaluate import Evaluation
from expunge.experiments.tuning.search import Candidate, SearchResult
from expunge.experiments.tuning.tune import Finalist, Trial, Tuned, Tuning

# "near" is within 10 % of the best distance.
NEAR = 1.1


# What takes no part when the found are compared with the published.
ANCHORS = ("retrain", "nothing")


Summary = Mapping[str, Any]


Row = Mapping[str, Any]


def keep(kind: str, experiment: Experiment, record: dict[str, Any], store: Store) -> Job:
    """Put a record into the store, under the experiment's name.

    Args:
        kind: "tuning" or "search".
        experiment: whose name it is found by.
        record: of `tuning_record` or `search_record`.
        store: where it goes.
    """
    job = Job(kind, digest_of(record))
    if not store.has(job):
        store.write(job, about=record)
    store.name(experiment.name, job)
    return job


def tuning_record(found: Tuning) -> dict[str, Any]:
    """All trials, the finalists, the protocol: what a report or another reader needs."""
    return {
        "experiment": to_toml(replace(found.experiment, data="")),  # folders are not passed on
        "tuned": to_toml(replace(found.experiment_tuned, data="")),
        "protocol": held_out.__doc__,
        "held_out": {"forget": found.said, "overlap": found.overlap},
        "budget": asdict(found.budget),
        "anchors": {"retrained": found.retrained, "original": found.original},
        "methods": {each.method.name: _tuned(each) for each in found.methods},
    }


def _tuned(found: Tuned) -> dict[str, Any]:
    """One method: the whole curve and not its best point alone."""
    winner, given = found.winner, found.given
    return {
        "source": found.method.source,
        "given": found.method.sentence,
        "tuned": winner.trial.method.sentence if winner else "",
        "winner": _again(winner) if winner else None,
        "given_again": _again(given) if given else None,
        "finalists": [_again(each) for each in found.finalists],
        "trials": [_trial(each) for each in found.trials],
        "best_so_far": best_so_far(found.trials),
        "curve": curve(found.trials),
        "importances": dict(found.importances),
    }


def _trial(found: Trial) -> dict[str, Any]:
    """One configuration."""
    numbers = dict(found.numbers)
    head = {"number": found.number, "sentence": found.method.sentence, "numbers": numbers}
    return {**head, "shortened": found.shortened, **_evaluation(found.verdict)}


def _evaluation(found: Evaluation) -> dict[str, Any]:
    """A distance and its parts, or the reason why there is none."""
    if found.failed:
        return {"failed": found.reason}
    return {**asdict(found), "losses": dict(found.losses)}


def _again(found: Finalist) -> dict[str, Any]:
    """A finalist with its fresh distance; a failure with fresh seeds has none."""
    head = {"number": found.trial.number, "sentence": found.trial.method.sentence}
    if not math.isfinite(found.distance):
        reasons = [each.reason for each in found.fresh if each.failed]
        return {**head, "failed": reasons[0]}
    fresh = [_evaluation(each) for each in found.fresh]
    numbers = {"distance": found.distance, "quality": found.quality, "optimism": found.optimism}
    return {**head, **numbers, "fresh": fresh}


def curve(trials: Sequence[Trial]) -> dict[str, Any]:
    """How the distance depends on the numbers: best, median, worst, and how many are near the best.

    "near" is the share of all trials, failed ones among them, within 10 % of the best distance.
    """
    sound = [each.verdict.distance for each in trials if not each.verdict.failed]
    failed = len(trials) - len(sound)
    if not sound:
        return {"failed": failed, "of": len(trials)}
    near = sum(found <= NEAR * min(sound) for found in sound) / len(trials)
    spread = {"best": min(sound), "median": median(sound), "worst": max(sound)}
    return {**spread, "near": near, "failed": failed, "of": len(trials)}


def best_so_far(trials: Sequence[Trial]) -> list[float | str]:
    """The least distance after each trial; "none" as long as all have failed."""
    found: list[float | str] = []
    least = math.inf
    for each in trials:
        least = min(least, each.verdict.distance)
        found.append(least if math.isfinite(least) else "none")
    return found


def search_record(found: SearchResult, summaries: Sequence[Summary]) -> dict[str, Any]:
    """The protocol, the finalists with fresh distances, and the scores on unseen sets."""
    return {
        "experiment": to_toml(replace(found.experiment, data="")),  # folders are not passed on
        "protocol": search.__doc__,
        "terms": asdict(found.terms),
        "held_out": found.said,
        "anchors": {"retrained": found.retrained, "original": found.original},
        "best_so_far": list(found.best_so_far),
        "unfit": dict(found.unfit),
        "found": [_candidate(each) for each in found.found],
        "published": [_candidate(each) for each in found.published],
        "scored": [_scores(each) for each in summaries],
    }


def _candidate(one: Candidate) -> dict[str, Any]:
    """A finalist and what fresh seeds gave."""
    head = {"name": one.method.name, "sentence": one.method.sentence}
    fresh = [_evaluation(each) for each in one.verdicts]
    return {**head, "distance": one.distance, "quality": one.quality, "fresh": fresh}


def _scores(summary: Summary) -> dict[str, Any]:
    """The scores on one experiment, and what they say of the search."""
    rows = [scored_row(row, summary) for row in summary["rows"]]
    return {"experiment": summary["experiment"]["name"], "rows": rows, "finding": finding(summary)}


def scored_row(row: Row, summary: Summary) -> dict[str, Any]:
    """A row of the ranking, its normalised score with the interval of the method's own models."""
    head = {"name": row["name"], "sentence": row["sentence"], "verdict": row["verdict"]}
    if "unscored" in row:
        return {**head, "unscored": row["unscored"]}
    quality = row["scores"]["quality"]
    numbers = {"quality": quality, "score": row["scores"].get("score", "no test set")}
    return {**head, **numbers, "normalised": between(quality, summary), "cost": row["cost"]}


def between(quality: Mapping[str, float], summary: Summary) -> dict[str, float] | str:
    """(F - floor) / (ceiling - floor), with the interval of F carried over, anchors held fixed."""
    floor, ceiling = summary["floor"]["value"], summary["ceiling"]["value"]
    if ceiling <= floor:
        return "the ceiling is not above the floor"
    ends = {name: (quality[name] - floor) / (ceiling - floor) for name in ("value", "low", "high")}
    return ends


def finding(summary: Summary) -> str:
    """Whether what was found is better than the best published, in a sentence.

    What was found is the sentence that came first on the tuning split, and no choice among
    several by the score itself; the published entry is the best of all that were scored.
    """
    rows = [row for row in summary["rows"] if "scores" in row and row["name"] not in ANCHORS]
    new = [row for row in rows if row["name"].startswith("found_")]
    old = [row for row in rows if not row["name"].startswith("found_")]
    if not new or not old:
        return "Nothing to compare: no sentence was found, or no published entry could be scored."
    best, rival = new[0], max(old, key=_quality)
    gap, noise = _quality(best) - _quality(rival), math.hypot(_half(best), _half(rival))
    how = "better" if gap > noise else "worse" if -gap > noise else "not better"
    return (
        f"{best['name']} is {how} than the best published, {rival['name']}: "
        f"F {_quality(best):.3f} against {_quality(rival):.3f}, noise {noise:.3f}.{_kin(best, old)}"
    )


def _kin(best: Row, published: Sequence[Row]) -> str:
    """Whether what was found is a published sentence with other numbers."""
    alike = [row["name"] for row in published if _words(row) == _words(best)]
    return f" Its words are those of {alike[0]}; only numbers differ." if alike else ""


def _words(row: Row) -> list[str]:
    return re.findall(r"[A-Z]\w*|'\w+'", row["sentence"])


def _quality(row: Row) -> float:
    return float(row["scores"]["quality"]["value"])


def _half(row: Row) -> float:
    """The wider half of the interval."""
    quality = row["scores"]["quality"]
    return float(max(quality["high"] - quality["value"], quality["value"] - quality["low"]))
