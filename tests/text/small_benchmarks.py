"""Small files of each benchmark, laid out as the real ones are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def write_lines(file: Path, rows: Sequence[dict[str, Any]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return file


def write_table(file: Path, rows: Sequence[dict[str, Any]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), file)
    return file


def a_tofu(folder: Path) -> Path:
    full = [{"question": f"Question {at}?", "answer": f"Answer {at}."} for at in range(4000)]

    def asked(first: int, last: int) -> list[dict[str, Any]]:
        return [
            row
            | {
                "paraphrased_question": f"Again, {row['question']}",
                "paraphrased_answer": f"Truly, {row['answer']}",
                "perturbed_answer": [f"Wrong {k}." for k in range(5)],
            }
            for row in full[first:last]
        ]

    options = [
        {"question": f"Who {k}?", "answer": f"Right {k}", "perturbed_answer": ["A", "B", "C"]}
        for k in range(3)
    ]
    write_lines(folder / "tofu/full.jsonl", full)
    write_lines(folder / "tofu/forget10_perturbed.json", asked(3600, 4000))
    write_lines(folder / "tofu/retain_perturbed.jsonl", asked(0, 400))
    write_lines(folder / "tofu/holdout10.jsonl", [{"question": "New?", "answer": "New."}])
    write_lines(folder / "tofu/real_authors_perturbed.jsonl", options)
    write_lines(folder / "tofu/world_facts_perturbed.jsonl", options)
    return folder


def a_lume(folder: Path) -> Path:
    for name in ("forget", "retain"):
        rows = [
            {"id": f'"{name}-a"sc1', "input": f"Once {name}", "output": "went on", "task": "Task1"},
            {"id": f'"{name}-a"qa0', "input": f"Who {name}?", "output": "She", "task": "Task1"},
            {"id": f"{name}-b7qa3", "input": f"Mail {name}?", "output": "x@y.z", "task": "Task2"},
        ]
        write_lines(folder / f"lume/{name}.jsonl", rows)
    return folder


def a_probe(target: str, kind: str, level: int, query: str, **more: str) -> dict[str, Any]:
    row = {"target": target, "set": kind, "level": level, "type": "", "neighbor": "", "answer": "A"}
    return {**row, "query": query, **more}


def a_rwku(folder: Path) -> Path:
    rows = [
        a_probe("Ann Onym", "intro", 0, "Please forget Ann Onym.", answer=""),
        a_probe("Ann Onym", "forget", 1, "Ann is a ___.", type="cloze"),
        a_probe("Ann Onym", "forget", 3, "Qui?", type="cross-lingual (French)"),
        a_probe("Ann Onym", "neighbor", 2, "Who is Bob?", neighbor="Bob"),
        a_probe("Ann Onym", "neighbor", 1, "Cid is a ___.", neighbor="Cid Cod"),
        a_probe("Cid Cod", "forget", 1, "Cid is a ___."),
        a_probe("Cid Cod", "neighbor", 1, "Dan is a ___.", neighbor="Dan"),
    ]
    write_table(folder / "rwku/rwku_probes.parquet", rows)
    return folder


def a_mmlu(folder: Path) -> Path:
    def asked(subject: str, at: int) -> dict[str, Any]:
        choices = [f"{subject} {at} {k}" for k in range(4)]
        return {
            "subject": subject,
            "question": f"{subject} {at}?",
            "choices": choices,
            "answer": at,
        }

    subjects = ["virology", "college_biology", "high_school_biology", "medical_genetics", "anatomy"]
    rows = [asked(subject, at) for subject in [*subjects, "marketing"] for at in range(4)]
    twice = {"subject": "virology", "question": "?", "choices": ["x", "x", "y", "z"], "answer": 1}
    write_table(folder / "mmlu/test.parquet", [*rows, twice])
    write_table(folder / "mmlu/dev.parquet", [asked(subject, 0) for subject in subjects])
    return folder


def a_chapter(book: str, role: str, names: Sequence[str], at: int) -> dict[str, Any]:
    lines = [
        f"Then in the evening we all went to see old {names[k % len(names)]} by the sea {at} {k}."
        for k in range(24)
    ]
    return {"book": book, "author": "A", "suggested_role": role, "text": "\n".join(lines)}


def some_novels(folder: Path) -> Path:
    rows = [
        a_chapter(book, role, names, at)
        for book, role, names in (
            ("One", "forget", ["Ambrel", "Bostock", "Cuddle"]),
            ("Two", "retain", ["Dormer", "Everly", "Fosdick"]),
            ("Three", "holdout", ["Gimble", "Hodger"]),
        )
        for at in range(3)
    ]
    write_table(folder / "books/books.parquet", rows)
    return folder
