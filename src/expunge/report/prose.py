"""The sentences of the report, each derived from the numbers of the summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from expunge.metrics.row_label import FEWEST_MODELS, LARGEST_COST
from expunge.report.numbers import THIN, figure, percent, percent_interval, with_interval

PASSED = "as retrained within noise"


TOO_FEW = "too few models to say"


# Names beyond this many are counted and not listed.
LISTED = 4


LONGEST_NAME = 60


# A name in a script that runs from right to left moves no sign outside of these.
ISOLATE, END_ISOLATE = "\N{FIRST STRONG ISOLATE}", "\N{POP DIRECTIONAL ISOLATE}"


SET_ORDER = ("train", "retain", "forget", "val", "test", "holdout")


HARDWARE_ORDER = ("processor", "accelerator", "cores")


Record = Mapping[str, Any]


def methods(summary: Record) -> list[Record]:
    """The rows that are no controls."""
    return [row for row in summary["rows"] if not row["control"]]


def scored(rows: Sequence[Record]) -> list[Record]:
    """The rows that have numbers."""
    return [row for row in rows if "scores" in row]


def ranked(summary: Record) -> bool:
    """Whether the numbers can order methods at all: enough models, a ceiling above the floor."""
    return all(row["verdict"] != TOO_FEW for row in summary["rows"])


def in_order(rows: Sequence[Record], by_quality: bool) -> list[Record]:
    """Rows from the best to the worst, those without numbers last; else as they came."""
    if not by_quality:
        return [*scored(rows), *(row for row in rows if "scores" not in row)]
    return sorted(rows, key=lambda row: -quality(row)["value"] if "scores" in row else 2.0)


def groups(summary: Record) -> tuple[list[Record], list[Record]]:
    """The controls as they came, and the methods in order."""
    controls = [row for row in summary["rows"] if row["control"]]
    return controls, in_order(methods(summary), ranked(summary))


def quality(row: Record) -> dict[str, Any]:
    """Forgetting quality of a scored row."""
    return row["scores"]["quality"]


def passed(summary: Record) -> list[Record]:
    """The methods that are as retrained within noise."""
    return [row for row in methods(summary) if row["verdict"] == PASSED]


def nearest(summary: Record) -> Record | None:
    """The method with the largest quality among those that did not collapse, if any."""
    able = [row for row in scored(methods(summary)) if row["verdict"] != "collapsed"]
    return max(able, key=lambda row: quality(row)["value"], default=None)


def way(row: Record, summary: Record) -> str:
    """How far between the original and retraining, with the interval of the method's quality."""
    floor, ceiling = summary["floor"]["value"], summary["ceiling"]["value"]
    ends = [(quality(row)[side] - floor) / (ceiling - floor) for side in ("low", "high")]
    return percent_interval(row["normalised"], *ends)


def listed(rows: Sequence[Record]) -> str:
    """Names as "a, b and c"; of many the first and how many more."""
    names = [inline(row["name"]) for row in rows]
    if len(names) > LISTED:
        names = [*names[: LISTED - 1], f"{len(names) - LISTED + 1} more"]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def inline(name: str) -> str:
    """Return a name as it stands in a sentence: not too long, and unable to turn its direction."""
    cut = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
    return cut if name.isascii() else f"{ISOLATE}{cut}{END_ISOLATE}"


def counted(number: int, thing: str) -> str:
    """Return a number and the thing that it counts: "1 method", "2 methods"."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def headline(summary: Record) -> str:
    """The result of the experiment in one sentence."""
    able = scored(methods(summary))
    if not able:
        return "No method could be scored; there are only the controls."
    if not ranked(summary):
        return why_unranked(summary)
    won, count = passed(summary), counted(len(methods(summary)), "method")
    if won:
        verb = "is" if len(won) == 1 else "are"
        return f"{len(won)} of {count} {verb} as retrained within noise: {listed(won)}."
    said = "The one method is not" if len(methods(summary)) == 1 else f"None of {count} is"
    best = nearest(summary)
    if best is None:
        return f"{said} as retrained; all have collapsed."
    return (
        f"{said} as retrained; the nearest is {inline(best['name'])}, {way(best, summary)} of "
        f"the way at {percent(best['cost']['time_share'])} of retraining's cost."
    )


def why_unranked(summary: Record) -> str:
    """Why no method can be ranked."""
    few = summary["experiment"]["members"]
    if few < FEWEST_MODELS:
        return (
            f"With {counted(few, 'model')} a side no method can be ranked: "
            f"{FEWEST_MODELS} is the least."
        )
    return (
        "No method can be ranked: held-out retrained models are not told from the untouched "
        "original beyond noise, so there is nothing to measure on."
    )


def shown(summary: Record) -> list[str]:
    """What the numbers show, and no more."""
    chosen = summary.get("chosen", {}).get("said", [])  # summaries of older versions lack it
    said = [*chosen, anchors(summary), *control_check(summary)]
    if ranked(summary) and scored(methods(summary)):
        said += [headline(summary), *kept(summary), *above_sham(summary)]
    elif scored(methods(summary)):
        said.append(why_unranked(summary))
    return [*said, *cheap(summary), *failed(summary)]


def anchors(summary: Record) -> str:
    """The two ends of the scale."""
    ends = [with_interval(summary[side], 3) for side in ("ceiling", "floor")]
    return (
        f"Held-out retrained models have a forgetting quality of {ends[0]}, the untouched "
        f"original of {ends[1]}: the two ends of the scale."
    )


def control_check(summary: Record) -> list[str]:
    """Whether the controls did what they must, where models are many enough to say."""
    if not ranked(summary):
        return []
    verdicts = {row["name"]: row["verdict"] for row in summary["rows"] if row["control"]}
    due = {"retrain": (PASSED,), "nothing": ("changed nothing", "not forgotten")}
    wrong = [name for name, words in due.items() if verdicts.get(name) not in words]
    if not wrong and verdicts.get("sham") == PASSED:
        return [
            "The control “sham” is judged as retrained, though it forgets nothing beneath its last "
            "layer: on this forget set these numbers cannot tell what is removed from what is "
            "hidden, for any method in the table."
        ]
    if not wrong:
        return ["The controls did what they must: “retrain” passes and “nothing” does not."]
    return [
        f"The control “{name}” is judged “{verdicts.get(name, 'missing')}”, which it must not be: "
        "do not trust the order of the methods."
        for name in wrong
    ]


def kept(summary: Record) -> list[str]:
    """How many methods kept what they should."""
    able = scored(methods(summary))
    kept_all = [
        row for row in able if not any(f.startswith(("retain", "test")) for f in row["flags"])
    ]
    return [
        f"{len(kept_all)} of {counted(len(able), 'method')} kept the accuracy on every other "
        "measured set within noise of retrained models."
    ]


def above_sham(summary: Record) -> list[str]:
    """What the control that only hides the answer reaches, and who is not clearly above it."""
    sham = next((row for row in scored(summary["rows"]) if row["name"] == "sham"), None)
    if sham is None:
        return []
    bar = quality(sham)["high"]
    below = [row for row in scored(methods(summary)) if quality(row)["low"] <= bar]
    rest = f" Not clearly above it: {listed(below)}." if below else ""
    return [
        f"The control “sham”, which hides the answer and does not forget, went "
        f"{way(sham, summary)} of the way: so much this scale gives without forgetting.{rest}"
    ]


def cheap(summary: Record) -> list[str]:
    """How many methods stayed within a fifth of retraining's cost."""
    able = scored(methods(summary))
    few = [row for row in able if row["cost"]["time_share"] <= LARGEST_COST]
    if not able:
        return []
    return [
        f"{len(few)} of {counted(len(able), 'method')} took at most {percent(LARGEST_COST)} of "
        f"the time of retraining ({figure(summary['seconds_a_retraining'])}{THIN}s a model, on the "
        "same clock)."
    ]


def failed(summary: Record) -> list[str]:
    """The methods without numbers."""
    without = [row for row in methods(summary) if "scores" not in row]
    if not without:
        return []
    return [f"Without a score, for the reason in the table: {listed(without)}."]


def facts(summary: Record) -> list[tuple[str, str, bool]]:
    """What was done with what: a heading, the words, and whether they are code."""
    made, problem = summary["experiment"], summary["problem"]
    return [
        ("Problem", about_problem(problem), False),
        ("Forget set", f"{made['forget']}, drawn with seed {made['forget_seed']}", True),
        ("Network", made["architecture"], True),
        ("Trained by", made["recipe"], True),
        ("Models", about_models(made), False),
        ("Rule", about_rule(made), False),
        ("Hardware", about_hardware(summary["hardware"]), False),
        ("Versions", joined(summary["versions"]), False),
    ]


def about_problem(problem: Record) -> str:
    """The problem and its sets."""
    known = [name for name in SET_ORDER if name in problem["sizes"]]
    names = [*known, *(name for name in problem["sizes"] if name not in known)]
    sizes = ", ".join(f"{name} {problem['sizes'][name]}" for name in names)
    classes = f"{counted(len(problem['classes']), 'class').replace('classs', 'classes')}; "
    return f"{problem['name']}: {classes if problem['classes'] else ''}examples: {sizes}"


def about_models(made: Record) -> str:
    """How many models, from which seeds, under which protocol."""
    first = made["seed"] * 1_000_000
    one = "one original" if made["protocol"] == "challenge" else "as many originals"
    return (
        f"{made['members']} unlearned by each method from {one} and {made['members']} retrained, "
        f"seeds {first} to {first + made['members'] - 1} (protocol {made['protocol']}); "
        f"95 % intervals over models from {made['resamples']} half-samples (subsampling bootstrap)"
    )


def about_rule(made: Record) -> str:
    """The rule of epsilon; its two scales are never mixed."""
    if made["rule"] == "exact":
        return (
            "exact: every threshold and interval is tried. It is a scale of its own, stricter "
            "than the released rule, and the two must never be mixed or compared."
        )
    return (
        f"{made['rule']}: as in the code that the NeurIPS 2023 challenge released; never to be "
        "compared with numbers of the exact rule"
    )


def about_hardware(made: Record) -> str:
    """Processor and accelerator first, then the rest; a number gets its name."""
    names = [name for name in HARDWARE_ORDER if name in made]
    names += [name for name in made if name not in names]
    return ", ".join(
        f"{made[name]} {name}" if isinstance(made[name], int) else str(made[name]) for name in names
    )


def joined(things: Record) -> str:
    """A mapping as "key value, key value"."""
    return ", ".join(f"{key} {value}" for key, value in things.items())
