"""What a search found, as JSON for the store and in plain words: better than published, or not."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from expunge.core.store import Job, Store
from expunge.experiments.experiment import to_toml
from expunge.experiments.summary import digest_of
from expunge.experiments.tuning import search
from expunge.experiments.tuning.evolve import Candidate
from expunge.experiments.tuning.record import verdict
from expunge.experiments.tuning.search import SearchResult

CONTROLS = ("retrain", "nothing")


Summary = Mapping[str, Any]


Row = Mapping[str, Any]


def record(found: SearchResult, summaries: Sequence[Summary]) -> dict[str, Any]:
    """The protocol, the finalists with fresh distances, and the scores on unseen sets."""
    return {
        "experiment": to_toml(replace(found.experiment, data="")),  # folders are not passed on
        "protocol": search.__doc__,
        "terms": asdict(found.terms),
        "held_out": found.said,
        "anchors": {"retrained": found.retrained, "original": found.original},
        "best_so_far": list(found.best_so_far),
        "unfit": dict(found.unfit),
        "found": [candidate(each) for each in found.found],
        "published": [candidate(each) for each in found.published],
        "scored": [about(each) for each in summaries],
    }


def keep(found: SearchResult, summaries: Sequence[Summary], store: Store) -> Job:
    """Put the record into the store, under the experiment's name."""
    told = record(found, summaries)
    job = Job("search", digest_of(told))
    if not store.has(job):
        store.write(job, about=told)
    store.name(found.experiment.name, job)
    return job


def candidate(one: Candidate) -> dict[str, Any]:
    """A finalist and what fresh seeds gave."""
    head = {"name": one.method.name, "sentence": one.method.sentence}
    fresh = [verdict(each) for each in one.verdicts]
    return {**head, "distance": one.distance, "quality": one.quality, "fresh": fresh}


def about(summary: Summary) -> dict[str, Any]:
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

    What was found is the sentence that came first on the held-out ground, and no choice among
    several by the score itself; the published entry is the best of all that were scored.
    """
    rows = [row for row in summary["rows"] if "scores" in row and row["name"] not in CONTROLS]
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


def written_with(found: SearchResult) -> str:
    """The experiment with the sentences that were found beside its own."""
    own = {method.name for method in found.experiment.methods}
    new = tuple(method for method in found.to_score if method.name not in own)
    methods = (*found.experiment.methods, *new)
    return to_toml(replace(found.experiment, methods=methods))


def draw(found: SearchResult, summaries: Sequence[Summary], console: Console) -> None:
    """Print the finalists, the scores on each unseen set, and what they say."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("sentence", "distance", "F"):
        table.add_column(name, justify="left" if name == "sentence" else "right", overflow="fold")
    for one in sorted((*found.found, *found.published), key=lambda each: each.distance):
        said = f"{one.method.name}: {one.method.sentence}"
        table.add_row(Text(said), f"{one.distance:.3f}", f"{one.quality:.3f}")
    console.print(table)
    for line in notes(found):
        console.print(Text(line))
    for each in summaries:
        _draw_scores(each, console)


def notes(found: SearchResult) -> Iterator[str]:
    """On what the finalists were judged."""
    terms = found.terms
    yield (
        f"{terms.budget} sentences tried on {found.said}; judged again with fresh seeds and "
        f"oracles. Distances: held-out retrained models {found.retrained:.3f}, the original "
        f"{found.original:.3f}."
    )
    for name, reason in found.unfit:
        yield f"{name} took no part: {reason}"


def _draw_scores(summary: Summary, console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("method", "F", "95 %", "of the way", "95 %", "cost", "verdict"):
        table.add_column(name, justify="left" if name in ("method", "verdict") else "right")
    for row in summary["rows"]:
        table.add_row(*(Text(cell) for cell in cells(scored_row(row, summary))))
    count = summary["experiment"]["members"]
    console.print(Text(f"\n{summary['experiment']['name']}, never seen by the search, N = {count}"))
    console.print(table)
    console.print(Text(finding(summary)))


def cells(row: Row) -> list[str]:
    """One line of the scores."""
    if "unscored" in row:
        return [row["name"], "-", "-", "-", "-", "-", f"unscored: {row['unscored']}"]
    quality, way = row["quality"], row["normalised"]
    shown = ["-", "-"] if isinstance(way, str) else [f"{way['value']:.2f}", _ends(way, 2)]
    share = f"{row['cost']['examples_share']:.0%}"
    return [
        row["name"],
        f"{quality['value']:.3f}",
        _ends(quality, 3),
        *shown,
        share,
        row["verdict"],
    ]


def _ends(numbers: Mapping[str, float], digits: int) -> str:
    return f"[{numbers['low']:.{digits}f}, {numbers['high']:.{digits}f}]"


def _quality(row: Row) -> float:
    return float(row["scores"]["quality"]["value"])


def _half(row: Row) -> float:
    """The wider half of the interval."""
    quality = row["scores"]["quality"]
    return float(max(quality["high"] - quality["value"], quality["value"] - quality["low"]))
