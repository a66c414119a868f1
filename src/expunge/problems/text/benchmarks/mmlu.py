"""MMLU by subjects: one like a hazard to forget, its siblings to keep, as WMDP sets it.

WMDP's own questions are not here: its authors ask that they stay out of plain text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from expunge.errors import BadData, did_you_mean
from expunge.problems.text.benchmarks.files import Row, file_of, folder_of, read_table
from expunge.problems.text.benchmarks.items import Item, TextBenchmark

SOURCE = (
    "Hendrycks et al., Measuring Massive Multitask Language Understanding (2009.03300); set up "
    "like Li et al., The WMDP Benchmark (2403.03218)"
)


DOWNLOAD = (
    "Download test.parquet and dev.parquet (all subjects) from "
    "https://huggingface.co/datasets/cais/mmlu."
)


# A subject that stands in for a hazard -> what a good method leaves alone.
SIBLINGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "virology": ("college_biology", "high_school_biology", "medical_genetics", "anatomy"),
        "computer_security": (
            "college_computer_science", "high_school_computer_science", "machine_learning",
        ),
        "college_chemistry": ("college_physics", "high_school_physics", "conceptual_physics"),
    }
)  # fmt: skip


FIELDS = {"subject": str, "question": str, "choices": list, "answer": int}


FILES = {
    "test": ("test.parquet", "all/test-00000-of-00001.parquet"),
    "dev": ("dev.parquet", "all/dev-00000-of-00001.parquet"),
}


SHOTS = 100_000


LETTERS = "ABCDEFGHIJ"


def mmlu(
    data: str | Path | None = None, forget: Sequence[str] = ("virology",),
    retain: Sequence[str] | None = None,
) -> TextBenchmark:  # fmt: skip
    """Load MMLU with some subjects to forget and others to keep.

    Sets: "forget", "retain", "other" (all other subjects: general knowledge), and "shots" (the
    five examples of each chosen subject, from the dev file). Questions whose right option is there
    twice are left out: no answer to them is right.

    Args:
        data: the folder of the files, or the folder above it; else EXPUNGE_DATA.
        forget: subjects to forget.
        retain: subjects to keep; else the siblings of those to forget.

    Raises:
        BadData: files that are missing or broken, with row numbers; a subject that is not known,
            without siblings, or both to be forgotten and to be kept.
    """
    folder = folder_of(data, "mmlu", DOWNLOAD)
    items = _items(file_of(folder, FILES["test"], DOWNLOAD), 0)
    shots = _items(file_of(folder, FILES["dev"], DOWNLOAD), SHOTS)
    known = sorted({item.subject for item in items})
    kept = tuple(retain) if retain is not None else _siblings(forget)
    for name in (*forget, *kept):
        if name not in known:
            raise BadData(f"MMLU has no subject {name!r}.{did_you_mean(name, known)}")
    both = sorted(set(forget) & set(kept))
    if both:
        raise BadData(f"{', '.join(both)} cannot be forgotten and kept; choose one.")
    chosen = {*forget, *kept}
    sets = {
        "forget": [item for item in items if item.subject in forget],
        "retain": [item for item in items if item.subject in kept],
        "other": [item for item in items if item.subject not in chosen],
        "shots": [item for item in shots if item.subject in chosen],
    }
    named = {name: tuple(some) for name, some in sets.items() if some}
    return TextBenchmark(f"MMLU without {', '.join(forget)}", named, SOURCE)


def lettered(item: Item) -> tuple[str, str]:
    """Return the question with lettered options, as lm-evaluation-harness asks it, and the letter.

    Source: EleutherAI/lm-evaluation-harness, tasks/mmlu/default.
    """
    if not item.choices:
        raise BadData(f"Item {item.index} has no options to choose from.")
    options = "".join(
        f"\n{letter}. {text}" for letter, text in zip(LETTERS, item.choices, strict=False)
    )
    return f"{item.prompt.strip()}{options}\nAnswer:", LETTERS[item.choices.index(item.answer)]


def _siblings(forget: Sequence[str]) -> tuple[str, ...]:
    """What stands next to the subjects to forget."""
    alone = [name for name in forget if name not in SIBLINGS]
    if alone or not forget:
        raise BadData(
            f"Got forget={list(forget)!r}; siblings are known of {', '.join(SIBLINGS)}. Name the "
            "subjects to retain as well."
        )
    near = [one for name in forget for one in SIBLINGS[name] if one not in forget]
    return tuple(dict.fromkeys(near))


def _items(file: Path, start: int) -> tuple[Item, ...]:
    """Questions of one file; the row's number is the index."""
    found = [
        _item(row, start + at, f"{file.name}, row {at}")
        for at, row in enumerate(read_table(file, FIELDS))
    ]
    return tuple(item for item in found if item.answer not in item.wrong)


def _item(row: Row, index: int, place: str) -> Item:
    """One question."""
    choices = tuple(row["choices"])
    if not 2 <= len(choices) <= len(LETTERS) or not 0 <= row["answer"] < len(choices):
        raise BadData(
            f"{place}: answer {row['answer']} of {len(choices)} options; expected 2 to "
            f"{len(LETTERS)} options, and one of them counted from 0."
        )
    right = choices[row["answer"]]
    wrong = tuple(text for at, text in enumerate(choices) if at != row["answer"])
    return Item(
        index, row["question"], right, wrong=wrong, choices=choices, subject=row["subject"],
        kind="multiple choice",
    )  # fmt: skip
