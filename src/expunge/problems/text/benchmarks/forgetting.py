"""TOFU, LUME, RWKU and MMLU: benchmarks of what a language model should forget."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from expunge.errors import BadData, did_you_mean
from expunge.problems.text.benchmarks.files import (
    Item,
    Row,
    TextBenchmark,
    file_of,
    folder_of,
    numbered,
    read_lines,
    read_table,
)

LUME_SOURCE = "Ramakrishna et al., LUME: LLM Unlearning with Multitask Evaluations (2502.15097)"


LUME_DOWNLOAD = (
    "Download forget.jsonl and retain.jsonl of https://github.com/amazon-science/"
    "lume-llm-unlearning."
)


# Of an id such as 92af3b40-...sc1 or "8f24c511-..."qa0: whom, completion or question, which one.
IDENTITY = re.compile(r'^"?(?P<subject>.+?)"?(?P<form>sc|qa)\d+$')


FORMS = {"sc": "completion", "qa": "question"}


TASKS = ("Task1", "Task2", "Task3")


RETAIN = 100_000


def lume(data: str | Path | None = None) -> TextBenchmark:
    """Load LUME: "forget" and "retain", and each by task and form, as "forget_task2_question".

    A completion is what follows a text's beginning (scored by ROUGE-L), a question asks for a fact.
    Task 3 is about real people: for evaluating unlearning only.

    Args:
        data: the folder of the files, or the folder above it; else EXPUNGE_DATA.

    Raises:
        BadData: files that are missing or broken, with line numbers.
    """
    folder = folder_of(data, "lume", LUME_DOWNLOAD)
    sets: dict[str, tuple[Item, ...]] = {}
    for name, start in (("forget", 0), ("retain", RETAIN)):
        sets[name] = _lume_items(file_of(folder, (f"{name}.jsonl",), LUME_DOWNLOAD), start)
        for task in TASKS:
            for form in FORMS.values():
                kind = f"{task} {form}"
                some = tuple(item for item in sets[name] if item.kind == kind)
                if some:
                    sets[f"{name}_{task.lower()}_{form}"] = some
    return TextBenchmark("LUME", sets, LUME_SOURCE)


def _lume_items(file: Path, start: int) -> tuple[Item, ...]:
    """The items of one file."""
    items = []
    for at, row in enumerate(
        read_lines(file, {"id": str, "input": str, "output": str, "task": str})
    ):
        found = IDENTITY.match(row["id"])
        if found is None or row["task"] not in TASKS:
            raise BadData(
                f"{file.name}, item {at + 1}: id {row['id'][:60]!r} with task {row['task'][:20]!r};"
                f" expected an id that ends in sc or qa with a number, and one of {TASKS}."
            )
        kind = f"{row['task']} {FORMS[found['form']]}"
        items.append(
            Item(start + at, row["input"], row["output"], subject=found["subject"], kind=kind)
        )
    return tuple(items)


RWKU_SOURCE = "Jin et al., RWKU: Benchmarking Real-World Knowledge Unlearning (2406.10890)"


RWKU_DOWNLOAD = (
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
    folder = folder_of(data, "rwku", RWKU_DOWNLOAD)
    file = file_of(folder, ("rwku_probes.parquet",), RWKU_DOWNLOAD)
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
    sets = {"forget": _rwku_items(asked, file), "retain": _rwku_items(near, file)}
    for name, some in (("forget", asked), ("retain", near)):
        for level, form in LEVELS.items():
            found = [(at, row) for at, row in some if row["level"] == level]
            if found:
                sets[f"{name}_{form}"] = _rwku_items(found, file)
    requests = [(at, row) for at, row in chosen if row["set"] == "intro"]
    if requests:
        sets["request"] = tuple(
            Item(at, "", row["query"], subject=row["target"], kind="request")
            for at, row in requests
        )
    return TextBenchmark(f"RWKU {', '.join(targets)}", sets, RWKU_SOURCE)


def _rwku_items(rows: Sequence[tuple[int, Row]], file: Path) -> tuple[Item, ...]:
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


TOFU_SOURCE = "Maini et al., TOFU: A Task of Fictitious Unlearning for LLMs (2401.06121)"


TOFU_DOWNLOAD = (
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
    folder = folder_of(data, "tofu", TOFU_DOWNLOAD)
    full = [_plain(row, at) for at, row in enumerate(_rows(folder, "full"))]
    if len(full) != AUTHORS * QUESTIONS:
        raise BadData(
            f"full has {len(full)} questions; expected {AUTHORS * QUESTIONS}, {QUESTIONS} an "
            f"author, since authors are known by their place. {TOFU_DOWNLOAD}"
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
        TOFU_SOURCE,
    )


def _rows(folder: Path, name: str) -> list[Row]:
    """Questions and answers of one file."""
    file = file_of(folder, (f"{name}.jsonl", f"{name}.json"), TOFU_DOWNLOAD)
    return read_lines(file, {"question": str, "answer": str})


def _perturbed(folder: Path, name: str) -> list[Row]:
    """Questions with paraphrases and wrong answers."""
    stem = f"{name}_perturbed"
    file = file_of(folder, (f"{stem}.jsonl", f"{stem}.json"), TOFU_DOWNLOAD)
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
            f"the files are of two versions. {TOFU_DOWNLOAD}"
        )
    return Item(
        index, row["question"], row["answer"], (row["paraphrased_question"],),
        (row["paraphrased_answer"],), tuple(row["perturbed_answer"]),
        subject=f"author {index // QUESTIONS}",
    )  # fmt: skip


def _outside(folder: Path, name: str, start: int) -> tuple[Item, ...]:
    """Questions on real authors or the world, with wrong answers and no paraphrase."""
    stem = f"{name}_perturbed"
    file = file_of(folder, (f"{stem}.jsonl", f"{stem}.json"), TOFU_DOWNLOAD)
    rows = read_lines(file, {"question": str, "answer": str, "perturbed_answer": list})
    return tuple(
        Item(start + at, row["question"], row["answer"], wrong=tuple(row["perturbed_answer"]))
        for at, row in enumerate(rows)
    )


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


MMLU_FIELDS = {"subject": str, "question": str, "choices": list, "answer": int}


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
        for at, row in enumerate(read_table(file, MMLU_FIELDS))
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
