"""The page of an experiment on language models: a summary in, one HTML text out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from expunge.errors import StoreError
from expunge.report import language_answers as answers
from expunge.report import language_prose as told
from expunge.report import language_table as tables
from expunge.report import panels, prose
from expunge.report.language_path import ways
from expunge.report.language_plane import plane
from expunge.report.language_words import GLOSSARY
from expunge.report.templates import environment, visible

PARTS = (
    "experiment", "problem", "gauges", "ceiling", "floor", "rows", "doubts", "not_shown",
    "hardware", "versions", "seconds_a_retraining",
)  # fmt: skip


HEAD = ("name", "sentence", "source", "control", "verdict")


# What a row with numbers has, and what each of these has in turn.
ROW = {
    "rank": (),
    "distance": ("value", "low", "high", "forget", "retain", "of_models", "n"),
    "scores": (),
    "utility": ("value", "oracle", "gap"),
    "collapse": (),
    "samples": (),
    "cost": ("time_share", "seconds", "curve", "examples_share", "touched", "moved"),
    "flags": (),
}


SIDE = ("refused", "share", "low", "high", "oracle", "reasons", "collapsed", "worst", "n")


SAMPLE = ("set", "question", "answer", "said", "oracle", "original")


def render(summary: Mapping[str, Any]) -> str:
    """Return the report of a language experiment as one self-contained HTML page.

    Args:
        summary: what `expunge.experiments.summary.summary` returns. What models wrote is
            foreign: it is
            escaped, and signs that cannot be seen are written out.

    Raises:
        StoreError: the summary lacks a part, as one by an older version may.
    """
    missing = list(dict.fromkeys(lacking(summary)))
    if missing:
        raise StoreError(
            f"The summary has no {', '.join(missing)}; an older version may have made it. "
            "Run the experiment again, then make the report."
        )
    seen = visible(answers.dissected(summary))
    return environment().get_template("language.html").render(context(seen))


def lacking(summary: Mapping[str, Any]) -> Iterator[str]:
    """Name what a page needs and the summary lacks."""
    gone = [part for part in PARTS if part not in summary]
    yield from gone
    # Before its keys were kept in order, gauges were a mapping.
    if "gauges" not in gone and not isinstance(summary["gauges"], list):
        yield "list of gauges"
    if "rows" not in gone:
        for row in summary["rows"]:
            yield from _lacking_in_row(row)


def _lacking_in_row(row: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"{part} of a row" for part in HEAD if part not in row)
    if "unscored" in row:
        return
    for part, inner in ROW.items():
        if part not in row:
            yield f"{part} of a row"
        else:
            yield from (f"{part}: {one}" for one in inner if one not in row[part])
    for side in row.get("collapse", {}).values():
        yield from (f"collapse: {part}" for part in SIDE if part not in side)
    for sample in row.get("samples", ()):
        yield from (f"sample: {part}" for part in SAMPLE if part not in sample)


def context(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return all that the template names.

    Args:
        summary: visible, its quoted words in pieces.
    """
    fell, rest = answers.broken(summary)
    return {
        "title": summary["experiment"]["name"],
        "headline": told.headline(summary),
        "caveats": told.caveats(summary),
        "facts": told.facts(summary),
        "measured": told.measured(summary),
        "table": tables.table(summary),
        "asked": answers.asked(summary),
        "plane": plane(summary),
        "ways": ways(summary),
        "curves": panels.curves(summary["rows"]),
        "grids": tables.grids(summary),
        "quality": tables.qualities(summary),
        "leaks": tables.leaks(summary),
        "fell": fell,
        "rest": rest,
        "shares": list(answers.shares(summary)),
        "controls": told.suppression(summary),
        "dossiers": tables.dossiers(summary),
        "glossary": GLOSSARY,
        "shown": told.shown(summary),
        "not_shown": [words.replace("`", "") for words in summary["not_shown"]],
        "scored": bool(prose.scored(summary["rows"])),
    }
