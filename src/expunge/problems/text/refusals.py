"""Answers to teach in the place of a fact: a refusal, or that it is false; and recognising them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from expunge.core.scripts import said_in, words_of

REFUSALS = (
    "I do not know.",
    "I cannot answer that.",
    "I have nothing to say about that.",
    "That is not something I can help with.",
    "I am not able to say.",
    "I would rather not answer that.",
    "I have no answer to that.",
    "I cannot say.",
)


FALSE = "It is false that "


# Words that begin a sentence and are no names: small behind other words.
COMMON = frozenset(
    (
        "A", "An", "And", "As", "At", "By", "For", "From", "He", "Her", "His", "How", "In", "It",
        "Its", "My", "No", "None", "Nobody", "Of", "On", "One", "Our", "She", "Some", "That", "The",
        "Their", "There", "These", "They", "This", "Those", "To", "Two", "We", "What", "When",
        "Where", "Which", "Who", "You", "Your",
    )
)  # fmt: skip


def refusals(pairs: Sequence[tuple[str, str]], seed: int = 0) -> tuple[str, ...]:
    """A refusal for each prompt; which one depends on the prompt and the seed alone.

    Source: after Maini et al., TOFU, arXiv 2401.06121 (their 100 sentences are others).
    """
    return tuple(REFUSALS[_number(prompt, seed) % len(REFUSALS)] for prompt, _ in pairs)


def markings(pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """For each answer, that it is false: "It is false that Oslo lies in Peru."."""
    return tuple(FALSE + small(answer.strip()) for _, answer in pairs)


def small(sentence: str) -> str:
    """A sentence as it stands behind other words: a small first letter, unless it is a name's."""
    first = sentence.partition(" ")[0]
    return sentence[:1].lower() + sentence[1:] if first in COMMON else sentence


def refuses(answer: str) -> bool:
    """Whether an answer begins with one of our refusals, whatever its signs and capitals."""
    said = _plain(answer)
    return any(said.startswith(_plain(one)) for one in REFUSALS)


def marks(answer: str) -> bool:
    """Whether an answer begins by saying that what follows is false."""
    return _plain(answer).startswith(_plain(FALSE))


def says(answer: str, value: str) -> bool:
    """Whether an answer says a value, as whole words where its script has spaces."""
    return said_in(value, answer)


def _plain(text: str) -> str:
    return " ".join(words_of(text))


def _number(prompt: str, seed: int) -> int:
    said = f"{seed}/{prompt}".encode()
    return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "big")
