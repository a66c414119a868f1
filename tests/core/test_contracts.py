"""Every published method and every word of a sentence, held to every contract on images."""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path

import pytest

from contracts import GUARDS, IMAGE_CONTRACTS, ON_IMAGES, ON_TEXTS, Contract, images
from expunge import parse
from expunge.core.method import Method, Step, words_of
from expunge.core.selector import Selector
from expunge.core.term import Term
from expunge.core.vocabulary import in_full
from expunge.methods.guardrails import Guard
from expunge.methods.published import FAMILIES, NAMED
from expunge.methods.sentences import method_words

KEYS = Path(__file__).parent / "published_keys.txt"
WORDS = {
    name: word
    for name, word in method_words().items()
    if issubclass(word, Step | Term | Selector | Guard)
}


@pytest.mark.parametrize("contract", IMAGE_CONTRACTS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("name", ON_IMAGES)
def test_contract(name: str, contract: Contract) -> None:
    contract(ON_IMAGES[name], images)


def names_in(methods: dict[str, Method]) -> set[str]:
    return {type(word).__name__ for m in methods.values() for word in words_of(m.steps)}


def missing(words: set[str]) -> set[str]:
    """The words that no method of the table holds."""
    guards = {type(guard).__name__ for guard in GUARDS.values()}
    return words - names_in(ON_IMAGES) - names_in(ON_TEXTS) - guards


def test_every_word_goes_through_the_table() -> None:
    assert len(WORDS) > 80
    assert missing(set(WORDS)) == set()
    assert missing({*WORDS, "Another"}) == {"Another"}


def test_every_published_method_goes_through_the_table() -> None:
    published = {name for name, method in NAMED.items() if method.steps}
    assert published <= {*ON_IMAGES, *ON_TEXTS}


def keys() -> str:
    """A line for each published method: its name, and a hash of all that its store keys hold."""
    methods = {method.name: method for family in FAMILIES.values() for method in family}
    lines = (
        f"{name} {hashlib.blake2b(in_full(method).encode(), digest_size=16).hexdigest()}"
        for name, method in sorted(methods.items())
    )
    return "\n".join(lines) + "\n"


def test_no_published_method_changes_its_key() -> None:
    """What a store holds is found again; a method that is changed on purpose gets a new line."""
    assert keys() == KEYS.read_text("utf-8")


@pytest.mark.parametrize("name", GUARDS)
def test_a_guard_reads_back(name: str) -> None:
    assert parse(repr(GUARDS[name])) == GUARDS[name]
    assert in_full(parse(repr(GUARDS[name]))) == in_full(GUARDS[name])


@pytest.mark.parametrize("name", sorted(WORDS))
def test_a_word_says_what_it_does_and_whence_it_comes(name: str) -> None:
    first, *rest = (inspect.getdoc(WORDS[name]) or "").splitlines()
    assert first.endswith((".", ";", ")."))
    used = names_in({m.name: m for family in FAMILIES.values() for m in family})
    if name not in used and "Source:" not in "\n".join(rest):
        assert "(experimental)" in first, f"{name}: no paper, and no published method uses it"
