"""Make the report of an experiment: a summary in, one HTML page out."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from expunge.errors import StoreError
from expunge.report import audits, generations, grids, panels, prose
from expunge.report.attacks import attacks, said
from expunge.report.glossary import GLOSSARY, LANGUAGE_GLOSSARY
from expunge.report.numbers import filled, visible
from expunge.report.page_tables import all_numbers, language_table, table
from expunge.report.scatter import plane, scatter

Record = Mapping[str, Any]

# What every summary has, and what those of one kind have besides.
PARTS = (
    "experiment", "problem", "ceiling", "floor", "rows", "not_shown", "hardware", "versions",
    "seconds_a_retraining",
)  # fmt: skip
IMAGE_PARTS, LANGUAGE_PARTS = ("gallery",), ("gauges", "doubts")

# What every row of a language summary has; a scored row has more, and each of these has parts.
ROW_HEAD = ("name", "sentence", "source", "control", "verdict")
SCORED_ROW: dict[str, tuple[str, ...]] = {
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


def render(summary: Record) -> str:
    """Return the report of an experiment as one self-contained HTML page.

    Args:
        summary: what the `summary` of an experiment's task returns. Its words may come from
            foreign files and from models: they are escaped, and signs that cannot be seen are
            written out.

    Raises:
        StoreError: the summary lacks a part, as one by an older version may.
    """
    language = summary.get("kind") == "language"
    missing = list(dict.fromkeys(_lacking(summary, language)))
    if missing:
        raise StoreError(
            f"The summary has no {', '.join(missing)}; an older version may have made it. "
            "Run the experiment again, then make the report."
        )
    if language:
        # What models wrote is cut into words and remarks before its blanks become one.
        seen = visible(generations.dissected(summary))
        return filled("language.html", {**_shared(seen), **_language(seen)})
    seen = visible(summary)
    return filled("report.html", {**_shared(seen), **_classification(seen)})


def write(summary: Record, path: Path | str) -> Path:
    """Write the report of an experiment to a file, whole or not at all; return its path.

    Raises:
        StoreError: the file cannot be written, or as for `render`.
    """
    place, page = Path(path), render(summary)
    draft = place.with_name(f".{uuid.uuid4().hex}.part")
    try:
        draft.write_bytes(page.encode())
        os.replace(draft, place)
    except OSError as fault:
        with suppress(OSError):
            draft.unlink()
        raise StoreError(
            f"The report could not be written to {place}: {fault.strerror}. "
            "Give a file in a folder that exists and that you may write to."
        ) from None
    return place


def _lacking(summary: Record, language: bool) -> Iterator[str]:
    """Name what the page needs and the summary lacks."""
    needed = (*PARTS, *(LANGUAGE_PARTS if language else IMAGE_PARTS))
    gone = [part for part in needed if part not in summary]
    yield from gone
    if not language:
        return
    # Before its keys were kept in order, gauges were a mapping.
    if "gauges" not in gone and not isinstance(summary["gauges"], list):
        yield "list of gauges"
    for row in summary.get("rows", ()):
        yield from _lacking_in_row(row)


def _lacking_in_row(row: Record) -> Iterator[str]:
    yield from (f"{part} of a row" for part in ROW_HEAD if part not in row)
    if "unscored" in row:
        return
    for part, inner in SCORED_ROW.items():
        if part not in row:
            yield f"{part} of a row"
        else:
            yield from (f"{part}: {one}" for one in inner if one not in row[part])
    for side in row.get("collapse", {}).values():
        yield from (f"collapse: {part}" for part in SIDE if part not in side)
    for sample in row.get("samples", ()):
        yield from (f"sample: {part}" for part in SAMPLE if part not in sample)


def _shared(summary: Record) -> dict[str, Any]:
    """What both reports name."""
    return {
        "title": summary["experiment"]["name"],
        "not_shown": [words.replace("`", "") for words in summary["not_shown"]],
    }


def _classification(summary: Record) -> dict[str, Any]:
    """The sections of the report on classifiers, as its template names them."""
    rows = [row for group in prose.groups(summary) for row in group]
    end = panels.last_bin(summary["ceiling"]["n"])
    best_first = prose.in_order(prose.scored(rows), by_quality=True)
    heads, numbers = all_numbers(rows)
    return {
        "headline": prose.headline(summary),
        "facts": prose.facts(summary),
        "exact": summary["experiment"]["rule"] == "exact",
        "table": table(summary),
        "rows": rows,
        "number_heads": heads,
        "numbers": numbers,
        "scatter": scatter(best_first, summary["ceiling"], summary["floor"]["value"]),
        "epsilons": panels.epsilon_panels(rows, end),
        "last_bin": end,
        "gallery": panels.gallery(summary),
        "coarse": panels.COARSE,
        "curves": panels.curves(rows),
        "attacks": attacks(summary),
        "cards": audits.cards(summary),
        "scale": audits.scale(),
        "audits_intro": audits.intro(summary),
        "glossary": GLOSSARY,
        "shown": [*prose.shown(summary), *said(summary), *audits.said(summary)],
    }


def _language(summary: Record) -> dict[str, Any]:
    """The sections of the report on language models, as its template names them.

    Args:
        summary: visible, what models wrote in pieces.
    """
    fell, rest = generations.broken(summary)
    return {
        "headline": prose.language_headline(summary),
        "caveats": prose.caveats(summary),
        "facts": prose.language_facts(summary),
        "measured": prose.measured(summary),
        "table": language_table(summary),
        "answered": generations.answered(summary),
        "plane": plane(summary),
        "curves": panels.curves(summary["rows"]),
        "probabilities": panels.probability_curves(summary),
        "grids": grids.grids(summary),
        "quality": grids.qualities(summary),
        "leaks": grids.leaks(summary),
        "fell": fell,
        "rest": rest,
        "shares": list(generations.shares(summary)),
        "controls": prose.suppression(summary),
        "details": grids.details(summary),
        "glossary": LANGUAGE_GLOSSARY,
        "shown": prose.language_shown(summary),
        "scored": bool(prose.scored(summary["rows"])),
    }
