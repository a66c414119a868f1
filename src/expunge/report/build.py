"""The page: a summary record in, one HTML text out; no script, no request, no date."""

from __future__ import annotations

import base64
import hashlib
import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.errors import StoreError
from expunge.report import panels, prose
from expunge.report.attacks import attacks, said
from expunge.report.glossary import GLOSSARY
from expunge.report.scatter import scatter
from expunge.report.table import all_numbers, table

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = ("report.html", "plots.html", "attacks.html")
PARTS = (
    "experiment", "problem", "ceiling", "floor", "rows", "gallery", "not_shown", "hardware",
    "versions", "seconds_a_retraining",
)  # fmt: skip


def render(summary: Mapping[str, Any]) -> str:
    """Return the report of an experiment as one self-contained HTML page.

    Args:
        summary: what `expunge.summary.summary` returns. Its words may come from foreign files:
            they are escaped, and signs that cannot be seen are written out.

    Raises:
        StoreError: the summary lacks a part, as one by an older version may.
    """
    missing = [part for part in PARTS if part not in summary]
    if missing:
        raise StoreError(
            f"The summary has no {', '.join(missing)}; an older version may have made it. "
            "Run the experiment again, then make the report."
        )
    return _environment().get_template("report.html").render(context(visible(summary)))


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
        "glossary": GLOSSARY,
        "shown": [*prose.shown(summary), *said(summary)],
        "not_shown": [words.replace("`", "") for words in summary["not_shown"]],
    }


def visible(thing: Any) -> Any:
    """Return a record whose words hold only signs that can be seen, and single spaces.

    A right-to-left override or a control sign in a name could make a row say something else.
    """
    if isinstance(thing, str):
        return "".join(map(_seen, " ".join(thing.split())))
    if isinstance(thing, Mapping):
        return {visible(key): visible(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [visible(each) for each in thing]
    return thing


def _seen(sign: str) -> str:
    return sign if sign.isprintable() else f"\\u{{{ord(sign):x}}}"


@cache
def _environment() -> Environment:
    """The templates and the style, whose digest is all that the page's policy lets in."""
    from jinja2 import DictLoader, Environment, StrictUndefined
    from markupsafe import Markup

    here = files("expunge.report")
    # Only files of this package are marked as safe; whatever a summary says is escaped.
    style = Markup((here / "style.css").read_text("utf-8"))
    made = Environment(
        loader=DictLoader({name: (here / name).read_text("utf-8") for name in TEMPLATES}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    made.globals.update(style=style, style_digest=digest)
    return made
