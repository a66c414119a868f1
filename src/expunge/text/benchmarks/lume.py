"""LUME, of SemEval 2025 task 4: invented stories, invented people's data, real biographies."""

from __future__ import annotations

import re
from pathlib import Path

from expunge.errors import BadData
from expunge.text.benchmarks.files import file_of, folder_of, read_lines
from expunge.text.benchmarks.items import Item, TextBenchmark

SOURCE = "Ramakrishna et al., LUME: LLM Unlearning with Multitask Evaluations (2502.15097)"
DOWNLOAD = (
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

    A completion is what follows a text's beginning (judged by ROUGE-L), a question asks for a fact.
    Task 3 is about real people: for evaluating unlearning only.

    Args:
        data: the folder of the files, or the folder above it; else EXPUNGE_DATA.

    Raises:
        BadData: files that are missing or broken, with line numbers.
    """
    folder = folder_of(data, "lume", DOWNLOAD)
    sets: dict[str, tuple[Item, ...]] = {}
    for name, start in (("forget", 0), ("retain", RETAIN)):
        sets[name] = _items(file_of(folder, (f"{name}.jsonl",), DOWNLOAD), start)
        for task in TASKS:
            for form in FORMS.values():
                kind = f"{task} {form}"
                some = tuple(item for item in sets[name] if item.kind == kind)
                if some:
                    sets[f"{name}_{task.lower()}_{form}"] = some
    return TextBenchmark("LUME", sets, SOURCE)


def _items(file: Path, start: int) -> tuple[Item, ...]:
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
