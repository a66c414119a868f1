"""What a benchmark of texts is: named sets of items, plain and frozen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from expunge.errors import BadData, did_you_mean


@dataclass(frozen=True)
class Item:
    """One thing that a model is taught or asked: a question with its answer, or plain text.

    Args:
        index: the same number wherever the item appears in its benchmark.
        prompt: what the model reads; empty for plain text.
        answer: what it should write; never empty.
        questions: other ways to ask for the same answer.
        paraphrases: other ways to give the same answer.
        wrong: answers of the same form that are not true.
        choices: the options in the order in which they are asked, the answer among them; or none.
        subject: whom or what it is about: items of one subject stand or fall together.
        kind: which fact, task or probe it is.
        value: the words of the answer that carry the fact, as they stand in it; empty if unknown.
    """

    index: int
    prompt: str
    answer: str
    questions: tuple[str, ...] = ()
    paraphrases: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    subject: str = ""
    kind: str = ""
    value: str = ""

    def __post_init__(self) -> None:
        if not self.answer.strip():
            raise BadData(
                f"Item {self.index} ({self.prompt[:40]!r}) has an empty answer; a model cannot "
                "learn or forget it. Remove the row."
            )


@dataclass(frozen=True)
class TextBenchmark:
    """Named sets of items, and where they are from.

    Args:
        name: of the benchmark.
        sets: name -> items. "forget" and "retain" are always there and share no item; together
            they are what the original model was taught.
        source: paper or page.

    Raises:
        BadData: no forget or retain set, an empty set, or an item both to be forgotten and to be
            retained.
    """

    name: str
    sets: Mapping[str, tuple[Item, ...]]
    source: str

    def __post_init__(self) -> None:
        for name in ("forget", "retain"):
            if not self.sets.get(name):
                raise BadData(f"{self.name} has no {name} set; check what was asked for.")
        empty = [name for name, items in self.sets.items() if not items]
        if empty:
            raise BadData(f"{self.name} has no items in {', '.join(empty)}.")
        check_apart(self.name, self.sets["forget"], self.sets["retain"])
        object.__setattr__(self, "sets", MappingProxyType(dict(self.sets)))

    def __getitem__(self, name: str) -> tuple[Item, ...]:
        if name not in self.sets:
            hint = did_you_mean(name, self.sets)
            raise BadData(f"{self.name} has no set {name!r}.{hint}")
        return self.sets[name]


def check_apart(name: str, forget: Sequence[Item], retain: Sequence[Item]) -> None:
    """Refuse an item that is to be forgotten and kept at once, by index or by its very words.

    Raises:
        BadData: such an item.
    """
    kept = {(item.prompt, item.answer): item.index for item in retain}
    indices = {item.index for item in retain}
    for item in forget:
        twin = kept.get((item.prompt, item.answer))
        if twin is not None or item.index in indices:
            raise BadData(
                f"{name}: item {item.index} ({(item.prompt or item.answer)[:60]!r}) is in the "
                f"forget set and in the retain set{'' if twin is None else f' as {twin}'}; what is "
                "trained on cannot be forgotten. Remove it from one of them."
            )


def numbered(items: Iterable[Item]) -> dict[tuple[str, str], int]:
    """Return which index stands for a prompt with its answer; the first where it is there twice."""
    found: dict[tuple[str, str], int] = {}
    for item in items:
        found.setdefault((item.prompt, item.answer), item.index)
    return found
