"""RWKU: probes of what a model knows of famous people, for whom no forget corpus is given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from expunge.errors import BadData, did_you_mean
from expunge.text.benchmarks.files import Row, file_of, folder_of, read_table
from expunge.text.benchmarks.items import Item, TextBenchmark

SOURCE = "Jin et al., RWKU: Benchmarking Real-World Knowledge Unlearning (2406.10890)"
DOWNLOAD = (
    "Make rwku_probes.parquet of the probes in https://github.com/jinzhuoran/RWKU, with columns "
    "target, set, level, type, neighbor, query, answer."
)
FIELDS = {
    "target": str, "set": str, "level": int, "type": str, "neighbor": str, "query": str,
    "answer": str,
}  # fmt: skip
LEVELS = {1: "cloze", 2: "question", 3: "adversarial"}


def rwku(
    data: str | Path | None = None, targets: Sequence[str] = ("Stephen King",)
) -> TextBenchmark:
    """Load the probes of some people, and of their neighbours that must not change.

    Sets: "forget" (all probes of the targets), "forget_cloze", "forget_question",
    "forget_adversarial" (levels 1 to 3; `kind` says which of the nine attacks), "retain" (all
    probes of neighbours), "retain_cloze", "retain_question", and "request", the sentence that asks
    to forget. These are facts of real people: for evaluating unlearning only.

    Args:
        data: the folder of rwku_probes.parquet, or the folder above it; else EXPUNGE_DATA.
        targets: names as RWKU writes them.

    Raises:
        BadData: a file that is missing or broken, with row numbers; a name that is not in it.
    """
    folder = folder_of(data, "rwku", DOWNLOAD)
    file = file_of(folder, ("rwku_probes.parquet",), DOWNLOAD)
    rows = read_table(file, FIELDS, frozenset({"type", "neighbor", "answer"}))
    known = sorted({row["target"] for row in rows})
    unknown = [name for name in targets if name not in known]
    if unknown or not targets:
        hint = did_you_mean(unknown[0], known) if unknown else ""
        raise BadData(f"RWKU has no {unknown or 'targets'}; it has {len(known)} people.{hint}")
    chosen = [(at, row) for at, row in enumerate(rows) if row["target"] in targets]
    asked = [(at, row) for at, row in chosen if row["set"] == "forget"]
    # A neighbour's probe of one target may be another target's own: it is to be forgotten.
    own = {(row["query"], row["answer"]) for _, row in asked}
    near = [
        (at, row)
        for at, row in chosen
        if row["set"] == "neighbor" and (row["query"], row["answer"]) not in own
    ]
    sets = {"forget": _items(asked, file), "retain": _items(near, file)}
    for name, some in (("forget", asked), ("retain", near)):
        for level, form in LEVELS.items():
            found = [(at, row) for at, row in some if row["level"] == level]
            if found:
                sets[f"{name}_{form}"] = _items(found, file)
    requests = [(at, row) for at, row in chosen if row["set"] == "intro"]
    if requests:
        sets["request"] = tuple(
            Item(at, "", row["query"], subject=row["target"], kind="request")
            for at, row in requests
        )
    return TextBenchmark(f"RWKU {', '.join(targets)}", sets, SOURCE)


def _items(rows: Sequence[tuple[int, Row]], file: Path) -> tuple[Item, ...]:
    """Probes as items; the row's number is the index."""
    items = []
    for at, row in rows:
        if not row["answer"].strip():
            raise BadData(f"{file.name}, row {at}: a probe without an answer; remove the row.")
        # The file spells two kinds in two ways.
        kind = row["type"].replace("cross-lingual", "cross lingual")
        subject = row["neighbor"] or row["target"]
        items.append(Item(at, row["query"], row["answer"], subject=subject, kind=kind))
    return tuple(items)
