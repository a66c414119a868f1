"""The page: a summary record in, one HTML text out; no script, no request, no date."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from expunge.errors import StoreError
from expunge.report import audits as beneath
from expunge.report import language_page as language
from expunge.report import panels, prose
from expunge.report.attacks import attacks, said
from expunge.report.glossary import GLOSSARY
from expunge.report.page_table import all_numbers, table
from expunge.report.scatter import scatter
from expunge.report.templates import environment, visible

PARTS = (
    "experiment", "problem", "ceiling", "floor", "rows", "gallery", "not_shown", "hardware",
    "versions", "seconds_a_retraining",
)  # fmt: skip


def render(summary: Mapping[str, Any]) -> str:
    """Return the report of an experiment as one self-contained HTML page.

    Args:
        summary: what `summary.summary` returns. Its words may come from foreign files:
            they are escaped, and signs that cannot be seen are written out.

    Raises:
        StoreError: the summary lacks a part, as one by an older version may.
    """
    if summary.get("kind") == "language":
        return language.render(summary)
    missing = [part for part in PARTS if part not in summary]
    if missing:
        raise StoreError(
            f"The summary has no {', '.join(missing)}; an older version may have made it. "
            "Run the experiment again, then make the report."
        )
    return environment().get_template("report.html").render(context(visible(summary)))


def write(summary: Mapping[str, Any], path: Path | str) -> Path:
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


def context(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return all that the template names."""
    rows = [row for group in prose.groups(summary) for row in group]
    end = panels.last_bin(summary["ceiling"]["n"])
    best_first = prose.in_order(prose.scored(rows), by_quality=True)
    heads, numbers = all_numbers(rows)
    return {
        "title": summary["experiment"]["name"],
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
        "cards": beneath.cards(summary),
        "scale": beneath.scale(),
        "audits_intro": beneath.intro(summary),
        "glossary": GLOSSARY,
        "shown": [*prose.shown(summary), *said(summary), *beneath.said(summary)],
        "not_shown": [words.replace("`", "") for words in summary["not_shown"]],
    }
