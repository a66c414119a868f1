"""What tuning found, as JSON for the store and as a table to read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from expunge.core.store import Job, Store
from expunge.experiments.experiment import to_toml
from expunge.experiments.summary import digest_of
from expunge.experiments.tuning import held_out as ground
from expunge.experiments.tuning.evaluate import Evaluation
from expunge.experiments.tuning.trials import Finalist, Trial, Tuned
from expunge.experiments.tuning.tune import Tuning

NEAR = 1.1


def record(found: Tuning) -> dict[str, Any]:
    """All trials, the finalists, the protocol: what a report or another reader needs."""
    return {
        "experiment": to_toml(replace(found.experiment, data="")),  # folders are not passed on
        "tuned": to_toml(replace(found.experiment_tuned, data="")),
        "protocol": ground.__doc__,
        "held_out": {"forget": found.said, "overlap": found.overlap},
        "budget": asdict(found.budget),
        "anchors": {"retrained": found.retrained, "original": found.original},
        "methods": {each.method.name: about(each) for each in found.methods},
    }


def keep(found: Tuning, store: Store) -> Job:
    """Put the record into the store, under the experiment's name."""
    about = record(found)
    job = Job("tuning", digest_of(about))
    if not store.has(job):
        store.write(job, about=about)
    store.name(found.experiment.name, job)
    return job


def about(found: Tuned) -> dict[str, Any]:
    """One method: the whole curve and not its best point alone."""
    winner, given = found.winner, found.given
    return {
        "source": found.method.source,
        "given": found.method.sentence,
        "tuned": winner.trial.method.sentence if winner else "",
        "winner": again(winner) if winner else None,
        "given_again": again(given) if given else None,
        "finalists": [again(each) for each in found.finalists],
        "trials": [trial(each) for each in found.trials],
        "best_so_far": best_so_far(found.trials),
        "curve": curve(found.trials),
        "importances": dict(found.importances),
    }


def trial(found: Trial) -> dict[str, Any]:
    """One configuration."""
    told = verdict(found.verdict)
    numbers = dict(found.numbers)
    head = {"number": found.number, "sentence": found.method.sentence, "numbers": numbers}
    return {**head, "shortened": found.shortened, **told}


def verdict(found: Evaluation) -> dict[str, Any]:
    """A distance and its parts, or the reason why there is none."""
    if found.failed:
        return {"failed": found.reason}
    return {**asdict(found), "losses": dict(found.losses)}


def again(found: Finalist) -> dict[str, Any]:
    """A finalist with its fresh distance; a failure with fresh seeds has none."""
    head = {"number": found.trial.number, "sentence": found.trial.method.sentence}
    if not math.isfinite(found.distance):
        reasons = [each.reason for each in found.fresh if each.failed]
        return {**head, "failed": reasons[0]}
    fresh = [verdict(each) for each in found.fresh]
    numbers = {"distance": found.distance, "quality": found.quality, "optimism": found.optimism}
    return {**head, **numbers, "fresh": fresh}


def curve(trials: Sequence[Trial]) -> dict[str, Any]:
    """How the distance hangs on the numbers: best, median, worst, and how many are near the best.

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


COLUMNS = (
    "method", "given", "tuned", "of the way", "F", "cost", "optimism",
    "best", "median", "worst", "near", "failed", "matters most",
)  # fmt: skip


def draw(found: Tuning, console: Console) -> None:
    """Print the table and what must be known to read it."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in COLUMNS:
        left = name in ("method", "matters most")
        table.add_column(name, justify="left" if left else "right", no_wrap=name == "method")
    for each in found.methods:
        table.add_row(*(Text(cell) for cell in cells(each, found)))
    console.print(table)
    for line in notes(found):
        console.print(Text(line))


def cells(found: Tuned, tuning: Tuning) -> list[str]:
    """One row; of a method that could not be tuned `notes` has the reason."""
    name, winner, given = found.method.name, found.winner, found.given
    if winner is None:
        return [name, *["-"] * (len(COLUMNS) - 3), str(len(found.trials)), ""]
    told = curve(found.trials)
    most = max(found.importances, key=lambda pair: pair[1], default=("", 0.0))
    return [
        name,
        f"{given.distance:.3f}" if given and math.isfinite(given.distance) else "failed",
        f"{winner.distance:.3f}",
        way(winner.distance, tuning),
        f"{winner.quality:.3f}",
        f"{winner.trial.verdict.cost:.0%}",
        f"{winner.optimism:+.3f}",
        *(f"{told[name]:.2f}" for name in ("best", "median", "worst")),
        f"{told['near']:.0%}",
        str(told["failed"]),
        f"{most[0]} ({most[1]:.0%})" if most[0] else "",
    ]


def way(distance: float, tuning: Tuning) -> str:
    """How much of the way from the original to retrained models, by distance."""
    whole = tuning.original - tuning.retrained
    return f"{(tuning.original - distance) / whole:.2f}" if whole > 0 else "-"


def notes(found: Tuning) -> Iterator[str]:
    """What the columns mean, and on what they were measured."""
    budget = found.budget
    yield (
        f"Tuned on {found.said}; {found.overlap} of its examples are scored by the ranking. "
        "Its members and oracles have seeds of their own; see docs/tuning.md."
    )
    yield (
        f"Every method had {budget.trials} trials of {budget.members} members against "
        f"{budget.oracles} oracles, at most {budget.cost:.0%} of what retraining reads."
    )
    yield (
        f"Distances: held-out retrained models {found.retrained:.3f}, the original "
        f"{found.original:.3f}. given, tuned, of the way, F: judged again with fresh seeds. "
        "optimism: distance when tuned less the fresh one. best to near: of all trials; near is "
        "the share within 10 % of the best."
    )
    for each in found.methods:
        if each.winner is None:
            first = each.trials[0].verdict.reason or "it failed with fresh seeds"
            yield f"{each.method.name} could not be tuned: {first}"
