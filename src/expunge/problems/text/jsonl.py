"""Reads texts from JSON Lines, one object a line: pairs and plain texts, or items with probes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expunge.core.texts import Texts
from expunge.errors import BadData
from expunge.problems.text.benchmarks.files import Item, lines_of, read_lines
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
        other = self.instead
        # only Rome and Memit need a subject; they refuse a prompt that does not name its own
        about = tuple(
            subject if subject in prompt else ""
            for (prompt, _), subject in zip(self.pairs, self.subjects, strict=bool(self.subjects))
        )
        return of_pairs(
            self.pairs, tokenizer, chat=chat, context=context, instead=other, subjects=about
        )


def read(path: str | Path, prompt: str = "prompt", answer: str = "answer") -> Lines:
    """Read a file of {"prompt", "answer"} or of {"text"} objects, one a line.

    An object with a prompt may have another answer under "instead", and what the prompt is about
    under "subject"; if one has another answer, each must. A subject that is missing, or that its
    prompt does not name, matters to `Rome` and `Memit` alone. Further keys are passed over.

    Args:
        path: of the file, UTF-8, with or without a byte order mark.
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
    instead: tuple[str, ...] = ()
    if any("instead" in one for _, one in found):
        instead = tuple(_text(path, number, one, "instead") for number, one in found)
    return Lines(pairs, instead, subjects=_subjects(path, found))


def _subjects(path: str | Path, found: list[tuple[int, dict[str, Any]]]) -> tuple[str, ...]:
    """What each prompt is about, empty where a line does not say; nothing if no line says it."""
    for number, one in found:
        if not isinstance(one.get("subject", ""), str):
            raise BadData(
                f"{path}, line {number}: 'subject' is {one['subject']!r}; expected words."
            )
    subjects = tuple(one.get("subject", "") for _, one in found)
    return subjects if any(subjects) else ()


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if not path.exists():
        raise BadData(f"There is no file {path}.")
    try:
        lines = [(int(place.rpartition(" ")[2]), line) for place, line in lines_of(path)]
    except OSError as fault:
        raise BadData(f"Cannot read {path}: {fault.strerror}.") from None
    first = next((line.strip() for _, line in lines), "{")
    if first.startswith("["):
        raise BadData(
            f"{path} holds a JSON array; expected JSON Lines. Write one object a line, without "
            "brackets around them and commas between them."
        )
    if path.suffix.lower() in (".csv", ".tsv") or first[0] not in '{["0123456789-tfn':
        raise BadData(
            f"{path} begins with {first[:40]!r}, which is no JSON; expected JSON Lines. Write one "
            'object a line, as in {"prompt": "Who?", "answer": "A dog."}.'
        )
    for number, line in lines:
        yield number, _object(path, number, line)


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise BadData(f"{path}, line {number} holds half a surrogate pair; remove it.") from None
    except (ValueError, RecursionError) as fault:
        raise BadData(f"{path}, line {number}: no JSON ({str(fault)[:200]}).") from None
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


def read_items(file: Path, first: int = 0) -> tuple[Item, ...]:
    """Items of one file: {"prompt", "answer"} or {"text"}, all lines alike.

    Further keys: "questions", "paraphrases" and "wrong" are lists of texts, "subject" and
    "value" (the words of the answer that carry the fact) texts.
    """
    if not file.is_file():
        raise BadData(f"There is no file {file}; expected one JSON object a line.")
    rows = read_lines(file, {})
    plain = "prompt" not in rows[0]
    rows = read_lines(file, {"text": str} if plain else {"prompt": str, "answer": str})
    return tuple(_item(row, first + place, file, place) for place, row in enumerate(rows))


def _item(row: Any, index: int, file: Path, place: int) -> Item:
    lists = {name: row.get(name, []) for name in ("questions", "paraphrases", "wrong")}
    for name, value in lists.items():
        if not isinstance(value, list) or not all(isinstance(v, str) and v.strip() for v in value):
            raise BadData(f"{file.name}, object {place + 1}: {name!r} must be a list of texts.")
    subject, carried = row.get("subject", ""), row.get("value", "")
    if not isinstance(subject, str) or not isinstance(carried, str):
        raise BadData(f"{file.name}, object {place + 1}: 'subject' and 'value' must be texts.")
    questions, paraphrases, wrong = (tuple(value) for value in lists.values())
    answer = row["answer"] if "prompt" in row else row["text"]
    prompt = row.get("prompt", "")
    if carried not in answer:
        raise BadData(
            f"{file.name}, object {place + 1}: the value {carried[:40]!r} does not stand in the "
            "answer; write the words of the answer that carry the fact, or leave it out."
        )
    return Item(
        index, prompt, answer, questions, paraphrases, wrong, subject=subject, value=carried
    )
