"""TOFU: 200 fictitious authors with 20 questions each, of whom some are to be forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from expunge.errors import BadData, did_you_mean
from expunge.text.benchmarks.files import Row, file_of, folder_of, read_lines
from expunge.text.benchmarks.items import Item, TextBenchmark, numbered

SOURCE = "Maini et al., TOFU: A Task of Fictitious Unlearning for LLMs (2401.06121)"
DOWNLOAD = (
    "Download full, forget10_perturbed, retain_perturbed, holdout10, real_authors_perturbed and "
    "world_facts_perturbed (.json or .jsonl) from https://huggingface.co/datasets/locuslab/TOFU."
)
AUTHORS, QUESTIONS = 200, 20
# How many authors at the end of the file each split forgets.
SPLITS: Mapping[str, int] = MappingProxyType({"forget01": 2, "forget05": 10, "forget10": 20})
# Where the numbers of each file start, so that no two items of the benchmark share one.
HOLDOUT, REAL, WORLD = 10_000, 20_000, 30_000


def tofu(data: str | Path | None = None, forget: str = "forget10") -> TextBenchmark:
    """Load TOFU: forget, retain, holdout, and what is asked about them in other words.

    Sets: "forget" and "retain" (all questions), "holdout" (like them, never taught), "forget_eval"
    and "retain_eval" (with paraphrases and wrong answers, same index as in forget and retain),
    "real_authors" and "world_facts" (with wrong answers). An item's subject is its author.

    Args:
        data: the folder of the files, or the folder above it; else EXPUNGE_DATA.
        forget: "forget01", "forget05" or "forget10": the last 40, 200 or 400 questions.

    Raises:
        BadData: files that are missing or broken, with line numbers; a split that is not known.
    """
    if forget not in SPLITS:
        hint = did_you_mean(forget, SPLITS)
        raise BadData(f"No split {forget!r}; there are {', '.join(SPLITS)}.{hint}")
    folder = folder_of(data, "tofu", DOWNLOAD)
    full = [_plain(row, at) for at, row in enumerate(_rows(folder, "full"))]
    if len(full) != AUTHORS * QUESTIONS:
        raise BadData(
            f"full has {len(full)} questions; expected {AUTHORS * QUESTIONS}, {QUESTIONS} an "
            f"author, since authors are told by their place. {DOWNLOAD}"
        )
    first = len(full) - SPLITS[forget] * QUESTIONS
    known = numbered(full)
    forgotten = [_asked(row, known, "forget10_perturbed") for row in _perturbed(folder, "forget10")]
    holdout = _rows(folder, "holdout10")
    return TextBenchmark(
        f"TOFU {forget}",
        {
            "forget": tuple(full[first:]),
            "retain": tuple(full[:first]),
            "holdout": tuple(_plain(row, HOLDOUT + at) for at, row in enumerate(holdout)),
            "forget_eval": tuple(item for item in forgotten if item.index >= first),
            "retain_eval": tuple(
                _asked(row, known, "retain_perturbed") for row in _perturbed(folder, "retain")
            ),
            "real_authors": _outside(folder, "real_authors", REAL),
            "world_facts": _outside(folder, "world_facts", WORLD),
        },
        SOURCE,
    )


def _rows(folder: Path, name: str) -> list[Row]:
    """Questions and answers of one file."""
    file = file_of(folder, (f"{name}.jsonl", f"{name}.json"), DOWNLOAD)
    return read_lines(file, {"question": str, "answer": str})


def _perturbed(folder: Path, name: str) -> list[Row]:
    """Questions with paraphrases and wrong answers."""
    stem = f"{name}_perturbed"
    file = file_of(folder, (f"{stem}.jsonl", f"{stem}.json"), DOWNLOAD)
    fields = {"question": str, "answer": str, "paraphrased_question": str}
    return read_lines(file, {**fields, "paraphrased_answer": str, "perturbed_answer": list})


def _plain(row: Row, index: int) -> Item:
    """A question with its answer."""
    subject = f"author {index // QUESTIONS}"
    return Item(index, row["question"], row["answer"], subject=subject)


def _asked(row: Row, known: Mapping[tuple[str, str], int], name: str) -> Item:
    """A question of the full file with all that is asked about it, under its number there."""
    index = known.get((row["question"], row["answer"]))
    if index is None:
        raise BadData(
            f"{name} holds {row['question'][:60]!r}, which full does not hold with this answer; "
            f"the files are of two versions. {DOWNLOAD}"
        )
    return Item(
        index, row["question"], row["answer"], (row["paraphrased_question"],),
        (row["paraphrased_answer"],), tuple(row["perturbed_answer"]),
        subject=f"author {index // QUESTIONS}",
    )  # fmt: skip


def _outside(folder: Path, name: str, start: int) -> tuple[Item, ...]:
    """Questions on real authors or the world, with wrong answers and no paraphrase."""
    stem = f"{name}_perturbed"
    file = file_of(folder, (f"{stem}.jsonl", f"{stem}.json"), DOWNLOAD)
    rows = read_lines(file, {"question": str, "answer": str, "perturbed_answer": list})
    return tuple(
        Item(start + at, row["question"], row["answer"], wrong=tuple(row["perturbed_answer"]))
        for at, row in enumerate(rows)
    )
