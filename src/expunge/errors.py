"""Mistakes that a user can make, each told in sentences and with an exit code of its own."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ExpungeError(Exception):
    """A mistake that the user can mend; the command line prints it without a traceback."""

    exit_code = 2


class BadSentence(ExpungeError):
    """A sentence that cannot be read, or that says what no method can do."""

    exit_code = 3


class BadData(ExpungeError):
    """Data that is missing, or that is not what it claims to be."""

    exit_code = 4


class BadEvidence(ExpungeError):
    """Arrays that a metric cannot read: wrong shapes, too few models, values not finite."""

    exit_code = 5


class Unsupported(ExpungeError):
    """A term or step that makes no sense for this batch or model; the message says why."""

    exit_code = 6


class OffLimits(ExpungeError):
    """A method asked for a set that it must not see (test, holdout)."""

    exit_code = 7


class NothingChanged(ExpungeError):
    """A method that left every weight as it was."""

    exit_code = 8


class Diverged(ExpungeError):
    """A loss or a weight became infinite or not a number."""

    exit_code = 9


class StoreError(ExpungeError):
    """A store that cannot be read or written: full, read-only, or not a store."""

    exit_code = 10


class BudgetSpent(ExpungeError):
    """A certified removal that the noise no longer covers: the model must be retrained.

    Args:
        possible: how many of the rows asked for could have been removed.
    """

    exit_code = 11

    def __init__(self, message: str, possible: int) -> None:
        super().__init__(message)
        self.possible = possible


class TooLarge(ExpungeError):
    """A run that does not fit into the memory that is free; the message says what takes less."""

    exit_code = 12


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean X?" for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {near[0]}?" if near else ""


def printable(text: str) -> str:
    """A foreign text without characters that act on a terminal or turn its direction."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)
