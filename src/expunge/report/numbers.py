"""How numbers and foreign words are written, and the templates that all pages share."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


MINUS = "\N{MINUS SIGN}"


# Where a row has no such number.
MISSING = "–"


# A number and its interval stay on one line.
SPACE = "\N{NO-BREAK SPACE}"


THIN = "\N{NARROW NO-BREAK SPACE}"


def fixed(value: float, decimals: int) -> str:
    """Return a number with so many decimals; no minus before a zero."""
    # Adding 0.0 turns -0.0 into 0.0.
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", MINUS)


def decimals(largest: float) -> int:
    """Return the decimals that give the largest number of a group three significant digits."""
    if largest == 0:
        return 0
    return min(max(2 - math.floor(math.log10(abs(largest))), 0), 8)


def figure(value: float) -> str:
    """Return a number alone, with three significant digits."""
    return fixed(value, decimals(value))


def percent(share: float, places: int | None = None) -> str:
    """Return a share in percent: whole from 10 % on, one decimal below; 0 stays "0 %"."""
    if places is None and 0 < abs(share) < 0.0005:
        return f"<{THIN}0.1{THIN}%"
    if places is None:
        places = 1 if 0 < abs(share) < 0.0995 else 0
    return fixed(share * 100, places) + THIN + "%"


def interval(low: float, high: float, places: int) -> str:
    """Return "[low, high]"."""
    return f"[{fixed(low, places)},{SPACE}{fixed(high, places)}]"


def with_interval(score: Mapping[str, Any], places: int | None = None) -> str:
    """Return "value [low, high]" of a score, as many decimals for all three."""
    if places is None:
        places = decimals(max(abs(score[side]) for side in ("value", "low", "high")))
    return f"{fixed(score['value'], places)}{SPACE}{interval(score['low'], score['high'], places)}"


def percent_interval(value: float, low: float, high: float) -> str:
    """Return shares as "37 % [30, 44]"."""
    return f"{percent(value, 0)}{SPACE}{interval(low * 100, high * 100, 0)}"


def signed(value: float, places: int = 2) -> str:
    """Return a difference with its sign; no sign before a zero."""
    said = fixed(value, places)
    return said if said.startswith(MINUS) or not float(said) else f"+{said}"


def gap(points: float) -> str:
    """Return a difference of accuracies in points, with its sign."""
    return signed(points * 100, 1)


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
