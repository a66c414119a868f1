"""The packages of the extra `expunge[lm]`, asked for only where they are used."""

from __future__ import annotations

import importlib
from types import ModuleType

from expunge.errors import Unsupported


def transformers() -> ModuleType:
    """The package transformers.

    Raises:
        Unsupported: it is not installed; the message says how it is.
    """
    try:
        return importlib.import_module("transformers")
    except ImportError:
        raise missing("transformers") from None


def peft() -> ModuleType:
    """The package peft.

    Raises:
        Unsupported: as for `transformers`.
    """
    try:
        return importlib.import_module("peft")
    except ImportError:
        raise missing("peft") from None


def missing(name: str) -> Unsupported:
    """What to say where a package of the extra is not there."""
    return Unsupported(
        f"Language models need the package {name}. Install it with: pip install 'expunge[lm]'"
    )
