"""A benchmark like MUSE on novels that anyone may share: verbatim, knowledge, privacy, requests."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from expunge.errors import BadData, did_you_mean
from expunge.problems.text.benchmarks.files import (
    Item,
    TextBenchmark,
    file_of,
    folder_of,
    read_table,
)

SOURCE = "set up like Shi et al., MUSE: Machine Unlearning Six-Way Evaluation (2407.06460)"


DOWNLOAD = (
    "Make books.parquet of public-domain novels (github.com/standardebooks has many), one chapter "
    "a row, with columns book, author, suggested_role, text."
)


FIELDS = {"book": str, "author": str, "suggested_role": str, "text": str}


ROLES = ("forget", "retain", "holdout")


# A quarter more at each size, a quarter at each request, as MUSE's four sizes and four folds.
FOLDS = 4


# A name in the middle of a sentence, so that a capital letter is no sign of a beginning.
NAME = re.compile(r"(?<=[a-z,;] )[A-Z][a-z]{2,}\b")


SENTENCE = re.compile(r"[^.!?\n“”\"]+[.!?]")


CLOZE = 1_000_000


@dataclass(frozen=True)
class Sizes:
    """How the novels are cut.

    Args:
        passage: words of a passage.
        probes: verbatim, knowledge and privacy items a set, at most.
        seen: how often a name must appear in its novel to be asked for.
        wrong: wrong names an item.
        taught: passages to forget and to keep together, at even distances in their novels, a
            quarter of them to forget, and as many never read; 0 for all.
    """

    passage: int = 128
    probes: int = 100
    seen: int = 5
    wrong: int = 3
    taught: int = 0

    def __post_init__(self) -> None:
        if min(self.passage, self.probes, self.seen, self.wrong) < 1 or self.passage < 4:
            raise BadData(f"Got {self!r}; expected 4 words a passage and 1 of the others or more.")
        if self.taught and self.taught < FOLDS**2:
            raise BadData(
                f"Got {self!r}; expected {FOLDS**2} passages taught or more, or 0 for all."
            )


def novels(
    data: str | Path | None = None, roles: Mapping[str, Sequence[str]] | None = None,
    sizes: Sizes | None = None,
) -> TextBenchmark:  # fmt: skip
    """Load novels to forget, novels to keep and one that was never read, and probe them six ways.

    Sets: "forget", "retain", "holdout": all passages, plain text. "verbatim" and
    "retain_verbatim": half a passage with the other half as its answer. "knowledge" and
    "retain_knowledge": a sentence whose only name is missing; names that no other novel knows.
    "privacy_forget" and "privacy_holdout": as many passages of each; they are of different books,
    so an attack means nothing without the retrained model. "size_1" to "size_4": a quarter, half,
    three quarters and all of forget. "request_1" to "request_4": its quarters, one after the other.
    Utility is what is left on "retain", "retain_verbatim" and "retain_knowledge".

    Args:
        data: the folder of books.parquet, or the folder above it; else EXPUNGE_DATA.
        roles: "forget", "retain", "holdout" -> titles; else the file's own column.
        sizes: how the novels are cut.

    Raises:
        BadData: a file that is missing or broken, with row numbers; titles that are not there.
    """
    cut = sizes or Sizes()
    folder = folder_of(data, "books", DOWNLOAD)
    rows = read_table(file_of(folder, ("books.parquet",), DOWNLOAD), FIELDS)
    titles = tuple(dict.fromkeys(row["book"] for row in rows))
    chosen = roles or {
        role: tuple(dict.fromkeys(row["book"] for row in rows if row["suggested_role"] == role))
        for role in ROLES
    }
    _check_roles(chosen, titles)
    passages: dict[str, list[Item]] = {title: [] for title in titles}
    index = 0
    for row in rows:
        for text in split(row["text"], cut.passage):
            passages[row["book"]].append(Item(index, "", text, subject=row["book"], kind="passage"))
            index += 1
    parts = {
        role: tuple(item for title in chosen[role] for item in passages[title]) for role in ROLES
    }
    names = own_names(passages, cut.seen)
    if cut.taught:
        few = {**dict.fromkeys(ROLES, cut.taught // FOLDS), "retain": -(-cut.taught * 3 // FOLDS)}
        parts = {role: spread(parts[role], few[role]) for role in ROLES}
    sets = dict(parts)
    for prefix, role in (("", "forget"), ("retain_", "retain")):
        sets[f"{prefix}verbatim"] = tuple(map(continued, spread(parts[role], cut.probes)))
        clozes = [found for item in parts[role] if (found := cloze(item, names, cut.wrong))]
        if clozes:
            sets[f"{prefix}knowledge"] = tuple(spread(clozes, cut.probes))
    sets |= _privacy(parts, cut.probes) | _requests(parts["forget"])
    return TextBenchmark("novels", sets, SOURCE)


def split(text: str, count: int) -> list[str]:
    """Return the passages of a text, each of so many words, with its white space as it was.

    A last piece of less than a quarter of a passage goes to the one before it.
    """
    starts = [found.start() for found in re.finditer(r"\S+", text)]
    if not starts:
        return []
    edges = starts[::count]
    if len(edges) > 1 and len(starts) % count and len(starts) % count < count / 4:
        edges = edges[:-1]
    return [text[a:b].strip() for a, b in zip(edges, [*edges[1:], len(text)], strict=True)]


def continued(item: Item) -> Item:
    """Return a passage as its first half with the second half as the answer."""
    starts = [found.start() for found in re.finditer(r"\S+", item.answer)]
    middle = starts[len(starts) // 2]
    first, second = item.answer[:middle].rstrip(), item.answer[middle:]
    return replace(item, prompt=first, answer=second, kind="verbatim")


def own_names(passages: Mapping[str, Sequence[Item]], seen: int) -> dict[str, tuple[str, ...]]:
    """Return the names of each novel that no other novel holds, the commonest first."""
    words = {
        title: Counter(word for item in items for word in re.findall(r"\b\w+\b", item.answer))
        for title, items in passages.items()
    }
    found = {}
    for title, items in passages.items():
        counts = Counter(name for item in items for name in NAME.findall(item.answer))
        elsewhere = [words[other] for other in words if other != title]
        found[title] = tuple(
            name
            for name, count in sorted(counts.items(), key=lambda one: (-one[1], one[0]))
            if count >= seen
            and name.lower() not in words[title]
            and not any(name in other or name.lower() in other for other in elsewhere)
        )
    return found


def cloze(item: Item, names: Mapping[str, tuple[str, ...]], wrong: int) -> Item | None:
    """Return a question for the only name in a sentence of a passage; None if there is none."""
    mine = names[item.subject]
    for sentence in SENTENCE.findall(item.answer):
        inside = [name for name in mine if re.search(rf"\b{name}\b", sentence)]
        if len(inside) != 1 or sentence.count(inside[0]) != 1 or len(sentence.split()) < 8:
            continue
        others = tuple(name for name in mine if name != inside[0])[:wrong]
        if not others:
            return None
        gap = sentence.strip().replace(inside[0], "___")
        prompt = f"In {item.subject} it says: {gap} The missing name is"
        return Item(
            CLOZE + item.index, prompt, inside[0], wrong=others, subject=item.subject,
            kind="knowledge",
        )  # fmt: skip
    return None


def spread(items: Sequence[Item], count: int) -> tuple[Item, ...]:
    """Return at most so many items, at even distances from first to last."""
    few = min(count, len(items))
    return tuple(items[place * len(items) // few] for place in range(few))


def _privacy(parts: Mapping[str, Sequence[Item]], count: int) -> dict[str, tuple[Item, ...]]:
    """As many passages of the forgotten novels as of the one that was never read."""
    few = min(count, len(parts["forget"]), len(parts["holdout"]))
    return {f"privacy_{role}": spread(parts[role], few) for role in ("forget", "holdout")}


def _requests(forget: tuple[Item, ...]) -> dict[str, tuple[Item, ...]]:
    """Four growing sizes, and four requests that come one after the other."""
    if len(forget) < FOLDS:
        raise BadData(f"The forget novels have {len(forget)} passages; expected {FOLDS} or more.")
    edges = [len(forget) * fold // FOLDS for fold in range(FOLDS + 1)]
    sizes = {f"size_{fold}": forget[: edges[fold]] for fold in range(1, FOLDS + 1)}
    folds = {
        f"request_{fold}": forget[edges[fold - 1] : edges[fold]] for fold in range(1, FOLDS + 1)
    }
    return sizes | folds


def _check_roles(roles: Mapping[str, Sequence[str]], titles: Sequence[str]) -> None:
    """Refuse roles without a novel, unknown titles, and a novel with two roles."""
    missing = [role for role in ROLES if not roles.get(role)]
    if missing or set(roles) - set(ROLES):
        raise BadData(f"Got roles for {sorted(roles)}; expected titles for each of {ROLES}.")
    named = [title for role in ROLES for title in roles[role]]
    for title in named:
        if title not in titles:
            raise BadData(f"There is no novel {title!r}.{did_you_mean(title, titles)}")
        if named.count(title) > 1:
            raise BadData(f"{title!r} has two roles; a novel is forgotten, kept or never read.")
