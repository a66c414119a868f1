"""The words that a search may use: steps, parts and terms, as sentences in a TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from expunge.core.method import Step
from expunge.core.selector import Selector
from expunge.core.sentence import parse
from expunge.core.term import Term
from expunge.errors import BadData, BadSentence, did_you_mean
from expunge.methods.sentences import method_words

KEYS: dict[str, type] = {"steps": Step, "parts": Selector, "terms": Term}


LARGEST_FILE = 1_000_000


@dataclass(frozen=True)
class SearchVocabulary:
    """What may be put into a sentence; their numbers are where the search begins."""

    steps: tuple[Step, ...]
    parts: tuple[Selector, ...]
    terms: tuple[Term, ...]


def search_vocabulary(path: Path | None = None) -> SearchVocabulary:
    """The words of a file, or those that come with the package.

    Raises:
        BadData: the file cannot be read.
        BadSentence: it is no TOML, or holds a key or a word that is not known.
    """
    if path is None:
        return read(
            (files("expunge.experiments.tuning") / "words.toml").read_text("utf-8"), "words.toml"
        )
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise BadData(f"{path} is larger than {LARGEST_FILE} bytes; no list of words is.")
        return read(path.read_text("utf-8", errors="replace"), str(path))
    except OSError as fault:
        raise BadData(f"{path} could not be read: {fault.strerror}.") from None


def read(text: str, origin: str) -> SearchVocabulary:
    """Read a vocabulary from TOML."""
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as fault:
        raise BadSentence(f"{origin} is not TOML: {fault}.") from None
    for key in table:
        if key not in KEYS:
            raise BadSentence(f"{origin}: unknown key {key!r}.{did_you_mean(key, KEYS)}")
    found = {key: _words(origin, table, key) for key in KEYS}
    if not found["steps"]:
        raise BadSentence(f"{origin}: the key 'steps' must list a step or more.")
    return SearchVocabulary(**found)


def _words(origin: str, table: dict[str, Any], key: str) -> tuple[Any, ...]:
    """The entries of one key, each of its kind."""
    listed = table.get(key, [])
    if not isinstance(listed, list) or not all(isinstance(entry, str) for entry in listed):
        raise BadSentence(f"{origin}: {key} must be a list of sentences in quotes.")
    return tuple(_word(origin, entry, key) for entry in listed)


def _word(origin: str, entry: str, key: str) -> Any:
    # A bare name is the word with its defaults, as far as it has them.
    said = f"{entry}()" if entry in method_words() else entry
    try:
        found = parse(said, method_words())
    except BadSentence as fault:
        raise BadSentence(f"{origin}: {key}: {fault}") from None
    if not isinstance(found, KEYS[key]):
        raise BadSentence(f"{origin}: {key}: {entry!r} is no {key.removesuffix('s')}.")
    return found
