"""What every page is made with: templates, the style with its digest, words made visible."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


TEMPLATES = (
    "report.html", "plots.html", "attacks.html", "audits.html", "language.html",
    "language_parts.html", "verdicts.html", "audit.html", "heat.html", "foot.html",
)  # fmt: skip


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
def environment() -> Environment:
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
