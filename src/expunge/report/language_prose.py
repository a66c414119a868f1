"""The sentences of the page on language models, each derived from the numbers of the summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from expunge.metrics.row_label import FEWEST_MODELS
from expunge.report import prose
from expunge.report.language_answers import collapsed
from expunge.report.language_words import CONTROLS
from expunge.report.numbers import THIN, figure, fixed, percent, with_interval

Record = Mapping[str, Any]


Fact = tuple[str, str, bool]


def able(summary: Record) -> list[Record]:
    """The methods that have numbers, nearest to the oracle first."""
    return prose.scored(prose.methods(summary))


def fallen(summary: Record) -> list[Record]:
    """The methods that have collapsed."""
    return [row for row in able(summary) if collapsed(row)]


def nearest(summary: Record) -> Record | None:
    """The method nearest to retrained models among those that did not collapse, if any."""
    standing = [row for row in able(summary) if not collapsed(row)]
    return min(standing, key=lambda row: row["distance"]["value"], default=None)


def apart(row: Record) -> str:
    """The distance of a row with its interval."""
    return with_interval(row["distance"], 2)


def headline(summary: Record) -> str:
    """The result of the experiment in plain words: who is nearest, how far, who collapsed."""
    count, fell = len(able(summary)), fallen(summary)
    if not count:
        return "No method could be scored; there are only the controls."
    best = nearest(summary)
    if best is None:
        said = "The one method has" if count == 1 else f"All {count} methods have"
        return f"{said} collapsed: what they write is broken, and that is not forgetting."
    return (
        f"Nearest to models that never saw the forget set is {prose.inline(best['name'])}, at a "
        f"distance of {apart(best)}, where 0 is as retrained and 1 the untouched original. "
        f"{_fallen(fell, count)}"
    )


def _fallen(fell: Sequence[Record], count: int) -> str:
    if not fell:
        return f"None of {prose.counted(count, 'method')} collapsed."
    return f"{len(fell)} of {prose.counted(count, 'method')} collapsed: {prose.listed(fell)}."


def caveats(summary: Record) -> list[str]:
    """What must be known beside the headline: ties, and how rough the order is."""
    said, best = [], nearest(summary)
    if best is not None:
        level = [
            row for row in able(summary)
            if row is not best and not collapsed(row)
            and row["distance"]["low"] <= best["distance"]["high"]
        ]  # fmt: skip
        reaches = best["distance"]["low"] <= summary["ceiling"]["high"]
        said.append(
            f"Other retrained models, judged like a method, stand at "
            f"{with_interval(summary['ceiling'], 2)}; {prose.inline(best['name'])} "
            f"{'is as near within noise' if reaches else 'does not reach them'}."
        )
        # Its distance alone does not tell how the nearest fails.
        words = "; ".join([best["verdict"], *best["flags"]])
        said.append(f"Its verdict: {words}.")
        if level:
            said.append(f"Not clearly farther, since intervals overlap: {prose.listed(level)}.")
    few = summary["experiment"]["members"]
    if few < FEWEST_MODELS:
        said.append(
            f"With {prose.counted(few, 'model')} a row the order is rough: "
            f"{FEWEST_MODELS} is the least for a ranking."
        )
    return said


def measured(summary: Record) -> str:
    """What stands below every table: how many models, which intervals, which hardware."""
    return (
        f"n = {summary['experiment']['members']} models a row; brackets are 95 % intervals over "
        f"models and subjects (bootstrap); {prose.about_hardware(summary['hardware'])}."
    )


def facts(summary: Record) -> list[Fact]:
    """What was done with what: a heading, the words, and whether they are code."""
    made, problem = summary["experiment"], summary["problem"]
    return [
        ("Problem", f"{problem['name']} ({problem['source']}); texts: {_sizes(problem)}", False),
        ("Asked", _questions(problem["asked"]), False),
        ("Forget set", f"{made['forget']}, drawn with seed {made['forget_seed']}", True),
        ("Model", f"{made['architecture']}, {grouped(problem['weights'])} weights", True),
        ("Trained by", made["recipe"], True),
        ("Models", _models(made, summary["seconds_a_retraining"]), False),
        ("Hardware", prose.about_hardware(summary["hardware"]), False),
        ("Versions", prose.joined(summary["versions"]), False),
    ]


def grouped(number: int) -> str:
    """Return a whole number with thin spaces between thousands."""
    return f"{number:,}".replace(",", THIN)


def _sizes(problem: Record) -> str:
    known = [name for name in prose.SET_ORDER if name in problem["sizes"]]
    names = [*known, *(name for name in problem["sizes"] if name not in known)]
    return ", ".join(f"{name} {problem['sizes'][name]}" for name in names)


def _questions(sets: Mapping[str, Record]) -> str:
    found = [
        f"{name} {told['questions']}"
        + (f" on {prose.counted(told['subjects'], 'subject')}" if told["subjects"] else "")
        for name, told in sets.items()
    ]
    return "questions: " + ", ".join(found)


def _models(made: Record, seconds: float) -> str:
    count = made["members"]
    source = "one original" if made["protocol"] == "challenge" else "as many originals"
    return (
        f"{count} unlearned by each method from {source}, and {count} retrained (protocol "
        f"{made['protocol']}); {figure(seconds)}{THIN}s a retraining"
    )


def shown(summary: Record) -> list[str]:
    """What the numbers show, and no more."""
    ends = [with_interval(summary[side], 2) for side in ("ceiling", "floor")]
    anchors = (
        f"Other retrained models have a distance of {ends[0]}, the untouched original of "
        f"{ends[1]}: the two ends of the scale."
    )
    said = [anchors, *controls(summary), headline(summary), *caveats(summary)[1:]]
    return [*said, *hidden(summary), *prose.cheap(summary), *prose.failed(summary)]


def controls(summary: Record) -> Iterator[str]:
    """Whether the controls did what they must."""
    rows = {row["name"]: row for row in prose.scored(summary["rows"]) if row["control"]}
    wrong = []
    if "retrain" in rows and rows["retrain"]["rank"] != 1:
        wrong.append("“retrain”, which must be nearest, is not")
    for name in ("nothing", "filter"):
        if name in rows and rows[name]["distance"]["low"] <= summary["ceiling"]["high"]:
            wrong.append(f"“{name}”, which forgets nothing, is as near as retrained models")
    if "gibberish" in rows and not collapsed(rows["gibberish"]):
        wrong.append("“gibberish”, which must be seen as collapse, is not")
    if wrong:
        yield f"{'; '.join(wrong)}: do not trust the order of the methods."
    elif rows:
        yield f"The controls did what they must: {', '.join(rows)}."


def hidden(summary: Record) -> Iterator[str]:
    """What the control that only hides answers reaches."""
    for row in prose.scored(summary["rows"]):
        if row["name"] != "filter":
            continue
        below = [one for one in able(summary) if one["distance"]["high"] >= row["distance"]["low"]]
        rest = f" Not clearly nearer than it: {prose.listed(below)}." if below else ""
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
            told = row["scores"][gauge]
            said.append(
                f"{words}: {fixed(told['value'], 2)}; retrained {fixed(told['oracle']['value'], 2)}"
                f", original {fixed(told['original']['value'], 2)}."
            )
    refused = row["collapse"].get("forget", {}).get("refused", 0.0)
    return [*said, *([f"It refuses {percent(refused)} of the questions."] if refused else [])]
