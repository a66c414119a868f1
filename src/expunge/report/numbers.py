"""How numbers are written: three significant digits at most, signs and spaces as in print."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

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
