"""The summary of an experiment on texts: all that the table and the report say, as one record."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.experiments.summary import doubted, numbers
from expunge.experiments.text.normalised_metrics import CHOICE, FORGET, RETAIN
from expunge.metrics.text.row_label import flags, language_row_label

if TYPE_CHECKING:
    from expunge.core.method import Method
    from expunge.core.store import Store
    from expunge.experiments.plan import Plan
    from expunge.problems.text.by_name import LanguageSetting


CONTROLS = ("retrain", "nothing", "filter", "gibberish")


FILTER = {
    "name": "filter",
    "sentence": "()",
    "source": "control: the original behind a filter that refuses by keyword; Thaker et al., "
    "arXiv 2403.03329",
}


NOT_SHOWN = (
    "That the information is gone: these numbers compare answers to fixed questions. Teaching "
    "again, probing inner layers and compressing the model were not tried here.",
    "Answers drawn at random: generations are greedy, and a model may say more when it is asked "
    "many times.",
    "Other questions, languages and ways to ask than those of the asked sets.",
    "Large models: numbers of a small model need not hold for others, and neither do the methods' "
    "learning rates.",
    "Copies of the original, earlier exports and models derived from it still hold everything.",
    "Intervals are over models and subjects; with few models they are rough.",
)


def summary(plan: Plan, store: Store, setting: LanguageSetting) -> dict[str, Any]:
    """Everything that was found, from the store alone.

    Layout:
        kind: "language".
        experiment: the experiment's fields; recipe and methods as sentences.
        problem: name, source, sizes (examples by set), asked (set -> side, questions, written,
            options), weights (of the model).
        gauges: a list in the order of the columns: name, metric, set, side, unit, and counts
            (whether the distance is made of it: the anchors differ enough).
        ceiling, floor: the distance of held-out retrained models and of the untouched original.
        rows: nearest to the oracle first, unscored ones last. Each has name, sentence, source,
            control, and either `unscored` (the reason) or:
            rank: one more than the number of rows whose whole interval is nearer; shared where
                intervals overlap.
            distance: value, low, high, forget, retain, of_models, n, gauges.
            scores: gauge -> metric, set, side, unit, value, low, high, n, oracle and original
                (value, low, high, n, unit each), gap (the same), remaining (0 as the oracle, 1 as
                the original; None on the retain side, and where these do not differ).
            forget_quality: d, lowest, highest, legacy_p, n; where there are wrong answers.
            utility: value, oracle, gap, of_models.
            membership: attack -> value, oracle, original (areas), gap (value, low, high ...),
                privleak (per cent; None where the oracle's area is 1); where there is a holdout.
            collapse: "forget" and "retain" -> refused (share of the generations that are the
                refusal), and of the others: share that is broken, low, high, oracle, reasons,
                collapsed, worst (broken ones), n.
            samples: set, question, answer, said, oracle, original.
            trace: records (side -> probability of the true answers: before, after each epoch, at
                the end), epochs, retrained, sets, questions; not of the filter.
            cost: as for classifiers: seconds, time_share, examples_share, retraining_seconds ...
            verdict: a few words. flags: warnings in sentences.
        doubts: method -> sentences. not_shown: sentences. hardware, versions,
        seconds_a_retraining.

    Raises:
        StoreError: the experiment has not been carried out to its end.
    """
    found = {m.name: numbers(plan, store, m) for m in plan.methods}
    ends = (found["retrain"], found["nothing"])
    rows = [row(method, found[method.name], *ends) for method in plan.methods]
    behind = {**found["nothing"]["filter"], "cost": found["nothing"]["cost"]}
    rows.append({**FILTER, "control": True, **_judged("filter", behind, *ends)})
    made = store.about(plan.oracle(plan.experiment.seeds[0]))
    return {
        "kind": "language",
        "experiment": shown(plan),
        "problem": about_problem(plan, setting),
        "gauges": gauges(found["retrain"], setting),
        "ceiling": ends[0]["distance"],
        "floor": ends[1]["distance"],
        "rows": ranked(rows),
        "doubts": {m.name: said for m in plan.methods if (said := doubted(plan, m))},
        "not_shown": list(NOT_SHOWN),
        "hardware": made["hardware"],
        "versions": made["versions"],
        "seconds_a_retraining": found["retrain"]["cost"]["retraining_seconds"],
    }


def shown(plan: Plan) -> dict[str, Any]:
    """The experiment as the report says it."""
    fields = {f.name: getattr(plan.experiment, f.name) for f in dataclasses.fields(plan.experiment)}
    return {
        **fields,
        "recipe": plan.experiment.recipe.sentence,
        "data": Path(plan.experiment.data).name,  # reports are passed on, folders are not
        "methods": {m.name: m.sentence for m in plan.experiment.methods},
        "audits": [repr(audit) for audit in getattr(plan.experiment, "audits", ())],
    }


def about_problem(plan: Plan, setting: LanguageSetting) -> dict[str, Any]:
    """What was forgotten, from what."""
    weights = sum(weight.numel() for weight in plan.problem.untrained("load").parameters())
    return {
        "name": plan.problem.name,
        "source": setting.source,
        "sizes": {name: len(data) for name, data in plan.problem.sets.items()},
        "asked": {
            one.name: {
                "side": one.side,
                "questions": len(one.items),
                "subjects": len({item.subject for item in one.items} - {""}),
                "written": one.written,
                "options": one.wrong is not None,
            }
            for one in setting.asked
        },
        "weights": weights,
    }


def gauges(numbers: Mapping[str, Any], setting: LanguageSetting) -> list[dict[str, Any]]:
    """What is measured, by set and metric, and of what the distance is made."""
    counted, scores = numbers["distance"]["gauges"], numbers["scores"]
    found = [
        {"name": name, **{key: told[key] for key in ("metric", "set", "side", "unit")}}
        for name, told in scores.items()
    ]
    sets = [asked.name for asked in setting.asked]
    metrics = [metric.name for metric in (*FORGET, *RETAIN, *CHOICE)]
    found.sort(key=lambda one: (sets.index(one["set"]), metrics.index(one["metric"])))
    return [{**one, "counts": one["name"] in counted} for one in found]


def row(
    method: Method, mine: Mapping[str, Any], ceiling: Mapping[str, Any], floor: Mapping[str, Any]
) -> dict[str, Any]:
    """One row of the table, ending in plain words."""
    head = {
        "name": method.name,
        "sentence": method.sentence,
        "source": method.source,
        "control": method.name in CONTROLS,
    }
    if "unscored" in mine:
        return {**head, "unscored": mine["unscored"], "verdict": "unscored"}
    return {**head, **_judged(method.name, mine, ceiling, floor)}


def _judged(
    name: str, mine: Mapping[str, Any], ceiling: Mapping[str, Any], floor: Mapping[str, Any]
) -> dict[str, Any]:
    told = {key: value for key, value in mine.items() if key != "filter"}
    return {
        **told,
        "verdict": language_row_label(name, told, ceiling["distance"], floor["distance"]),
        "flags": list(flags(name, told, ceiling["collapse"])),
    }


def ranked(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Nearest to the oracle first; what has no numbers comes last."""
    scored = [row for row in rows if "unscored" not in row]
    scored.sort(key=lambda row: row["distance"]["value"])
    nearer = [row["distance"]["high"] for row in scored]
    for row in scored:
        # a rank is claimed only where intervals part
        row["rank"] = 1 + sum(high < row["distance"]["low"] for high in nearer)
    return [*scored, *(row for row in rows if "unscored" in row)]
