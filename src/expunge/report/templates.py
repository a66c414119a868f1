"""Fill a template: one environment for all pages, one style, and words made visible."""

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
    "base.html", "report.html", "language.html", "verdicts.html", "audit.html",
    "plots.html", "attacks.html", "parts.html",
)  # fmt: skip


def filled(template: str, content: Mapping[str, Any]) -> str:
    """Return one self-contained HTML page: no script, no request, no date.

    Args:
        template: the name of a page's template.
        content: all that the template names. It is escaped; pass it through `visible` first.
    """
    return environment().get_template(template).render(content)


def visible(thing: Any) -> Any:
    """Return a record whose words hold only signs that can be seen, and single spaces.

    A right-to-left override or a control sign in a name could make a row say something else.
    """
    if isinstance(thing, str):
        signs = " ".join(thing.split())
        return "".join(sign if sign.isprintable() else f"\\u{{{ord(sign):x}}}" for sign in signs)
    if isinstance(thing, Mapping):
        return {visible(key): visible(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [visible(each) for each in thing]
    return thing


@cache
def environment() -> Environment:
    """Return the templates and the style; the page's policy lets in that style alone."""
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
