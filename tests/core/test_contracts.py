"""Every published method, step, term and part, held to every contract."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from contracts import CONTRACTS, METHODS, PARTS, STEPS, TERMS, TOKENS_ONLY
from expunge.core.method import Method, Step
from expunge.core.selector import Selector
from expunge.core.term import Term
from expunge.experiments.sentences import all_words
from expunge.methods.published import PUBLISHED


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("name", METHODS)
def test_contract(name: str, contract: Callable[[Method], None]) -> None:
    contract(METHODS[name])


def names_within(thing: object) -> set[str]:
    """The classes of a word and of all words inside it, by name."""
    found = {type(thing).__name__}
    inner = thing if isinstance(thing, tuple) else tuple(getattr(thing, "__dict__", {}).values())
    for item in inner:
        found |= names_within(item)
    return found


@pytest.mark.parametrize(("kind", "there"), [(Step, STEPS), (Term, TERMS), (Selector, PARTS)])
def test_every_word_goes_through_the_table(kind: type, there: tuple[object, ...]) -> None:
    known = {name for name, word in all_words().items() if issubclass(word, kind)}
    held = names_within(tuple(METHODS.values()))
    assert known - held - TOKENS_ONLY == set()
    assert there


def test_every_published_method_goes_through_the_table() -> None:
    assert {name for name, method in PUBLISHED.items() if method.steps} <= set(METHODS)
