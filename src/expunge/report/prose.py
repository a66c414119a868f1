"""The sentences of the pages, each derived from the numbers of a summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from expunge.metrics.row_label import FEWEST_MODELS, LARGEST_COST
from expunge.report.glossary import CONTROLS
from expunge.report.numbers import THIN, figure, fixed, percent, percent_interval, with_interval

Record = Mapping[str, Any]

PASSED = "as retrained within noise"

TOO_FEW = "too few models to say"

# Names beyond this many are counted and not listed.
LISTED = 4

LONGEST_NAME = 60

# A name in a script that runs from right to left moves no sign outside of these.
ISOLATE, END_ISOLATE = "\N{FIRST STRONG ISOLATE}", "\N{POP DIRECTIONAL ISOLATE}"

SET_ORDER = ("train", "retain", "forget", "val", "test", "holdout")

HARDWARE_ORDER = ("processor", "accelerator", "cores")


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


def gap_closed(row: Record, summary: Record) -> str:
    """The share of the gap that a method closes: 0 = original, 1 = retrained; with its interval."""
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
    """Return a name for use in a sentence: not too long, and unable to turn its direction."""
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
        f"{said} as retrained; the nearest is {inline(best['name'])}: it closes "
        f"{gap_closed(best, summary)} of the gap between original and retrained, at "
        f"{percent(best['cost']['time_share'])} of retraining's cost."
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
        "No method can be ranked: held-out retrained models do not differ from the untouched "
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
            "The control “sham” has the verdict “as retrained”, though it forgets nothing beneath "
            "its last layer: on this forget set these numbers cannot tell removed from hidden, "
            "for any method in the table."
        ]
    if not wrong:
        return ["The controls did what they must: “retrain” passes and “nothing” does not."]
    return [
        f"The control “{name}” has the verdict “{verdicts.get(name, 'missing')}”, which it must "
        "not have: do not trust the order of the methods."
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
        f"The control “sham”, which hides the answer and does not forget, closes "
        f"{gap_closed(sham, summary)} of the gap: so much this scale gives without "
        f"forgetting.{rest}"
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
    classes = f"{counted(len(problem['classes']), 'class').replace('classs', 'classes')}; "
    return f"{problem['name']}: {classes if problem['classes'] else ''}examples: {_sizes(problem)}"


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


Fact = tuple[str, str, bool]


def scored_methods(summary: Record) -> list[Record]:
    """The methods that have numbers, nearest to the oracle first."""
    return scored(methods(summary))


def collapsed(row: Record) -> bool:
    """Whether surely more than half of a scored row's generations are broken, on any side."""
    return any(side["collapsed"] for side in row["collapse"].values())


def fallen(summary: Record) -> list[Record]:
    """The methods that have collapsed."""
    return [row for row in scored_methods(summary) if collapsed(row)]


def language_nearest(summary: Record) -> Record | None:
    """The method nearest to retrained models among those that did not collapse, if any."""
    standing = [row for row in scored_methods(summary) if not collapsed(row)]
    return min(standing, key=lambda row: row["distance"]["value"], default=None)


def apart(row: Record) -> str:
    """The distance of a row with its interval."""
    return with_interval(row["distance"], 2)


def language_headline(summary: Record) -> str:
    """The result of the experiment in plain words: who is nearest, how far, who collapsed."""
    count, fell = len(scored_methods(summary)), fallen(summary)
    if not count:
        return "No method could be scored; there are only the controls."
    best = language_nearest(summary)
    if best is None:
        said = "The one method has" if count == 1 else f"All {count} methods have"
        return f"{said} collapsed: what they write is broken, and that is not forgetting."
    return (
        f"Nearest to models that never saw the forget set is {inline(best['name'])}, at a "
        f"distance of {apart(best)}, where 0 is as retrained and 1 the untouched original. "
        f"{_fallen(fell, count)}"
    )


def _fallen(fell: Sequence[Record], count: int) -> str:
    if not fell:
        return f"None of {counted(count, 'method')} collapsed."
    return f"{len(fell)} of {counted(count, 'method')} collapsed: {listed(fell)}."


def caveats(summary: Record) -> list[str]:
    """What must be known beside the headline: ties, and how rough the order is."""
    said, best = [], language_nearest(summary)
    if best is not None:
        level = [
            row for row in scored_methods(summary)
            if row is not best and not collapsed(row)
            and row["distance"]["low"] <= best["distance"]["high"]
        ]  # fmt: skip
        reaches = best["distance"]["low"] <= summary["ceiling"]["high"]
        said.append(
            f"Other retrained models, evaluated like a method, are at "
            f"{with_interval(summary['ceiling'], 2)}; {inline(best['name'])} "
            f"{'is as near within noise' if reaches else 'does not reach them'}."
        )
        # Its distance alone does not tell how the nearest fails.
        words = "; ".join([best["verdict"], *best["flags"]])
        said.append(f"Its verdict: {words}.")
        if level:
            said.append(f"Not clearly farther, since intervals overlap: {listed(level)}.")
    few = summary["experiment"]["members"]
    if few < FEWEST_MODELS:
        said.append(
            f"With {counted(few, 'model')} a row the order is rough: "
            f"{FEWEST_MODELS} is the least for a ranking."
        )
    return said


def measured(summary: Record) -> str:
    """What is said below every table: how many models, which intervals, which hardware."""
    return (
        f"n = {summary['experiment']['members']} models a row; brackets are 95 % intervals over "
        f"models and subjects (bootstrap); {about_hardware(summary['hardware'])}."
    )


def language_facts(summary: Record) -> list[Fact]:
    """What was done with what: a heading, the words, and whether they are code."""
    made, problem = summary["experiment"], summary["problem"]
    return [
        ("Problem", f"{problem['name']} ({problem['source']}); texts: {_sizes(problem)}", False),
        ("Evaluation sets", _questions(problem["asked"]), False),
        ("Forget set", f"{made['forget']}, drawn with seed {made['forget_seed']}", True),
        ("Model", f"{made['architecture']}, {grouped(problem['weights'])} weights", True),
        ("Trained by", made["recipe"], True),
        ("Models", _language_models(made, summary["seconds_a_retraining"]), False),
        ("Hardware", about_hardware(summary["hardware"]), False),
        ("Versions", joined(summary["versions"]), False),
    ]


def grouped(number: int) -> str:
    """Return a whole number with thin spaces between thousands."""
    return f"{number:,}".replace(",", THIN)


def _sizes(problem: Record) -> str:
    known = [name for name in SET_ORDER if name in problem["sizes"]]
    names = [*known, *(name for name in problem["sizes"] if name not in known)]
    return ", ".join(f"{name} {problem['sizes'][name]}" for name in names)


def _questions(sets: Mapping[str, Record]) -> str:
    found = [
        f"{name} {held['questions']}"
        + (f" on {counted(held['subjects'], 'subject')}" if held["subjects"] else "")
        for name, held in sets.items()
    ]
    return "questions: " + ", ".join(found)


def _language_models(made: Record, seconds: float) -> str:
    count = made["members"]
    source = "one original" if made["protocol"] == "challenge" else "as many originals"
    return (
        f"{count} unlearned by each method from {source}, and {count} retrained (protocol "
        f"{made['protocol']}); {figure(seconds)}{THIN}s a retraining"
    )


def language_shown(summary: Record) -> list[str]:
    """What the numbers show, and no more."""
    ends = [with_interval(summary[side], 2) for side in ("ceiling", "floor")]
    anchors = (
        f"Other retrained models have a distance of {ends[0]}, the untouched original of "
        f"{ends[1]}: the two ends of the scale."
    )
    said = [anchors, *language_controls(summary), language_headline(summary), *caveats(summary)[1:]]
    return [*said, *hidden(summary), *cheap(summary), *failed(summary)]


def language_controls(summary: Record) -> Iterator[str]:
    """Whether the controls did what they must."""
    rows = {row["name"]: row for row in scored(summary["rows"]) if row["control"]}
    wrong = []
    if "retrain" in rows and rows["retrain"]["rank"] != 1:
        wrong.append("“retrain”, which must be nearest, is not")
    for name in ("nothing", "filter"):
        if name in rows and rows[name]["distance"]["low"] <= summary["ceiling"]["high"]:
            wrong.append(f"“{name}”, which forgets nothing, is as near as retrained models")
    if "gibberish" in rows and not collapsed(rows["gibberish"]):
        wrong.append("“gibberish”, which must be called collapsed, is not")
    if wrong:
        yield f"{'; '.join(wrong)}: do not trust the order of the methods."
    elif rows:
        yield f"The controls did what they must: {', '.join(rows)}."


def hidden(summary: Record) -> Iterator[str]:
    """What the control that only hides answers reaches."""
    for row in scored(summary["rows"]):
        if row["name"] != "filter":
            continue
        below = [
            one
            for one in scored_methods(summary)
            if one["distance"]["high"] >= row["distance"]["low"]
        ]
        rest = f" Not clearly nearer than it: {listed(below)}." if below else ""
        yield (
            f"The control “filter”, which hides answers behind keywords and forgets nothing, has a "
            f"distance of {apart(row)}.{rest}"
        )


def suppression(summary: Record) -> list[tuple[str, str, list[str]]]:
    """Each control that is there: name, what it is, and what was found."""
    return [
        (row["name"], CONTROLS.get(row["name"], "a control"), _found(row))
        for row in summary["rows"]
        if row["control"]
    ]


def _found(row: Record) -> list[str]:
    """A control's numbers on the forget set, by what is said and by what is likely."""
    if "unscored" in row:
        return [f"Unscored: {row['unscored']}"]
    said = [f"Distance {apart(row)}: forget side {fixed(row['distance']['forget'], 2)}, retain "
            f"side {fixed(row['distance']['retain'], 2)}."]  # fmt: skip
    for gauge, words in (
        ("rouge recall, forget", "By what it says (ROUGE-L recall of the true answers)"),
        ("probability, forget", "By what it finds likely (their probability)"),
    ):
        if gauge in row["scores"]:
            held = row["scores"][gauge]
            said.append(
                f"{words}: {fixed(held['value'], 2)}; retrained {fixed(held['oracle']['value'], 2)}"
                f", original {fixed(held['original']['value'], 2)}."
            )
    refused = row["collapse"].get("forget", {}).get("refused", 0.0)
    return [*said, *([f"It refuses {percent(refused)} of the questions."] if refused else [])]
