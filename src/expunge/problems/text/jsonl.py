"""Reading JSON Lines: question-answer pairs or plain texts, one object a line."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expunge.core.texts import Texts
from expunge.errors import BadData
from expunge.problems.text.encode import of_pairs, of_plain


@dataclass(frozen=True)
class Lines:
    """What a file holds: pairs (with other answers, where there are any) or plain texts."""

    pairs: tuple[tuple[str, str], ...] = ()
    instead: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()

    def encoded(
        self, tokenizer: Any, *, chat: bool = False, context: int = 0, chunk: int = 0
    ) -> Texts:
        """As token sequences; the options are those of `of_pairs` and `of_plain`."""
        if self.plain:
            return of_plain(self.plain, tokenizer, context=context, chunk=chunk)
        other, about = self.instead, self.subjects
        return of_pairs(
            self.pairs, tokenizer, chat=chat, context=context, instead=other, subjects=about
        )


def read(path: str | Path, prompt: str = "prompt", answer: str = "answer") -> Lines:
    """Read a file of {"prompt", "answer"} or of {"text"} objects, one a line.

    An object with a prompt may have another answer under "instead", and what the prompt is about
    under "subject"; if the first has it, each must. Further keys are passed over.

    Args:
        path: of the file, UTF-8.
        prompt, answer: the keys, where they have other names, such as "question".

    Raises:
        BadData: a file that is missing, empty or not UTF-8, or a line that is not as it should be;
            the message names the line.
    """
    found = list(_objects(Path(path)))
    if not found:
        raise BadData(f"{path} holds no line; expected one JSON object a line.")
    if "text" in found[0][1] and prompt not in found[0][1]:
        return Lines(plain=tuple(_text(path, number, one, "text") for number, one in found))
    pairs = tuple(
        (_text(path, number, one, prompt), _text(path, number, one, answer))
        for number, one in found
    )
    instead, subjects = (
        tuple(_text(path, number, one, key) for number, one in found if key in found[0][1])
        for key in ("instead", "subject")
    )
    return Lines(pairs, instead, subjects=subjects)


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        lines = path.read_text("utf-8").split("\n")
    except FileNotFoundError:
        raise BadData(f"There is no file {path}.") from None
    except (OSError, UnicodeDecodeError) as fault:
        raise BadData(f"Cannot read {path}: {fault}.") from None
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, _object(path, number, line)


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as fault:
        raise BadData(f"{path}, line {number}: no JSON ({fault}).") from None
    if not isinstance(found, dict):
        raise BadData(f"{path}, line {number}: expected an object, got {type(found).__name__}.")
    return found


def _text(path: str | Path, number: int, one: dict[str, Any], key: str) -> str:
    value = one.get(key)
    if not isinstance(value, str) or not value.strip():
        said = "is missing" if key not in one else f"is {value!r}"
        there = ", ".join(map(repr, one)) or "none"
        raise BadData(
            f"{path}, line {number}: {key!r} {said}; expected words. Its keys are {there}; all "
            "lines must be alike."
        )
    return value


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
    """Whether a value stands in an answer, as whole words."""
    return bool(re.search(rf"(?<!\w){re.escape(value)}(?!\w)", answer, re.IGNORECASE))


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def _number(prompt: str, seed: int) -> int:
    said = f"{seed}/{prompt}".encode()
    return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "big")
