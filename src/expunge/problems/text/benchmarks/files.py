"""Items of a benchmark, and reading its files with care: each fault is said with its line."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from expunge.errors import BadData, did_you_mean

# Far above every benchmark here; a file that unpacks to more is a mistake or a trap.
MAX_BYTES = 2 * 2**30


MAX_LINE = 16 * 2**20


Row = Mapping[str, Any]


NONE: frozenset[str] = frozenset()


def folder_of(data: str | Path | None, name: str, download: str) -> Path:
    """Return the folder of a benchmark: below what was given, else below EXPUNGE_DATA.

    Args:
        data: a folder that holds the files, or a folder of benchmarks that holds one of this name.
        name: of the benchmark's folder.
        download: what to download, and from where, in a sentence.

    Raises:
        BadData: no such folder.
    """
    place = data if data is not None else os.environ.get("EXPUNGE_DATA")
    if not place:
        raise BadData(
            f"The benchmark {name} needs a folder of data. Give it with --data FOLDER, or set "
            f"EXPUNGE_DATA to the folder above it. {download}"
        )
    base = Path(place)
    if not base.is_dir():
        raise BadData(f"There is no folder {str(base)!r}. {download}")
    below = base / name
    return below if below.is_dir() else base


def file_of(folder: Path, names: Sequence[str], download: str) -> Path:
    """Return the first of some files that is there.

    Raises:
        BadData: none of them.
    """
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise BadData(f"There is no {' or '.join(names)} in {str(folder)!r}. {download}")


def read_lines(file: Path, fields: Mapping[str, type | tuple[type, ...]]) -> list[Row]:
    """Read a file of one JSON object a line; blank lines are passed over.

    Args:
        file: JSON Lines, UTF-8.
        fields: name -> type that every object must hold; `list` is one of strings.

    Raises:
        BadData: a file too large, not UTF-8 or empty, a line that is no JSON object, a field that
            is missing, of another type or an empty string.
    """
    rows: list[Row] = []
    for place, line in lines_of(file):
        row = _object(line, place)
        for name, kind in fields.items():
            _expect(row, name, kind, place)
        rows.append(row)
    if not rows:
        raise BadData(f"{file.name} holds no line; download it again.")
    return rows


def lines_of(file: Path) -> Iterator[tuple[str, str]]:
    """Read the lines of a text file that are not blank, each with the file's name and its number.

    Raises:
        BadData: no regular file (a pipe would be waited for without end), a file or a line too
            large, or not UTF-8.
    """
    if not file.is_file():
        raise BadData(f"{file} is no file that can be read; expected a file of lines of JSON.")
    if file.stat().st_size > MAX_BYTES:
        raise BadData(f"{file.name} has {file.stat().st_size} bytes; at most {MAX_BYTES} are read.")
    with file.open("rb") as stream:
        number = 0
        while raw := stream.readline(MAX_LINE + 1):
            number += 1
            place = f"{file.name}, line {number}"
            if len(raw) > MAX_LINE:
                raise BadData(
                    f"{place} is longer than {MAX_LINE} bytes; one object a line is read."
                )
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise BadData(f"{place} is not UTF-8 (byte {error.start}); convert it.") from None
            if text.strip():
                yield place, text


def _object(line: str, place: str) -> dict[str, Any]:
    """One JSON object."""
    try:
        found = json.loads(line, parse_constant=lambda name: _refuse(name, place))
    except (ValueError, RecursionError) as error:
        # Deep nesting raises RecursionError; both are a broken line to the reader.
        said = str(error) if isinstance(error, ValueError) else "nested too deep"
        raise BadData(f"{place} is not JSON: {said}. One object a line is expected.") from None
    if not isinstance(found, dict):
        raise BadData(f"{place} is a {type(found).__name__}; expected an object with fields.")
    return found


def _refuse(name: str, place: str) -> float:
    """NaN and Infinity are no JSON."""
    raise BadData(f"{place} holds {name}, which is no JSON number.")


def read_table(
    file: Path, fields: Mapping[str, type | tuple[type, ...]], blank: frozenset[str] = NONE
) -> list[Row]:
    """Read columns of a parquet file as rows; other columns are not even unpacked.

    Args:
        file: parquet.
        fields: name -> type of its values; `list` is one of strings.
        blank: fields that may be empty texts.

    Raises:
        BadData: no parquet, a column that is missing, a table too large to unpack, a value that is
            null, of another type or an empty string.
    """
    try:
        source = pq.ParquetFile(file)
        missing = [name for name in fields if name not in source.schema_arrow.names]
        if missing:
            raise BadData(
                f"{file.name} has no column {', '.join(missing)}; it has "
                f"{', '.join(source.schema_arrow.names)}."
            )
        groups = range(source.metadata.num_row_groups)
        size = sum(source.metadata.row_group(one).total_byte_size for one in groups)
        if size > MAX_BYTES:
            raise BadData(f"{file.name} unpacks to {size} bytes; at most {MAX_BYTES} are read.")
        rows = source.read(columns=list(fields)).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        said = str(error).splitlines()[0][:200]
        raise BadData(f"{file.name} is no parquet file that can be read: {said}") from None
    if not rows:
        raise BadData(f"{file.name} holds no row; download it again.")
    for number, row in enumerate(rows):
        for name, kind in fields.items():
            if not (name in blank and row[name] == ""):
                _expect(row, name, kind, f"{file.name}, row {number}")
    return rows


def _expect(row: Row, name: str, kind: type | tuple[type, ...], place: str) -> None:
    """Refuse a field that is missing, of another type, or empty where text is needed."""
    if name not in row:
        raise BadData(f"{place} has no field {name!r}; it has {', '.join(map(repr, row))[:200]}.")
    value = row[name]
    wanted = kind if isinstance(kind, tuple) else (kind,)
    # True is an int to Python, and never a number in these files.
    if not isinstance(value, wanted) or isinstance(value, bool):
        names = " or ".join(one.__name__ for one in wanted)
        raise BadData(f"{place}: {name!r} is a {type(value).__name__}; expected {names}.")
    texts = value if isinstance(value, list) else [value]
    for text in texts:
        if isinstance(value, list) and not isinstance(text, str):
            raise BadData(f"{place}: {name!r} holds a {type(text).__name__}; expected texts.")
        if isinstance(text, str):
            _readable(text, name, place)
    if isinstance(value, list) and not value:
        raise BadData(f"{place}: {name!r} is empty; expected one text or more.")


def _readable(text: str, name: str, place: str) -> None:
    """Refuse empty texts, and those that a terminal or a tokenizer chokes on."""
    if not text.strip():
        raise BadData(f"{place}: {name!r} is empty; remove the row.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadData(f"{place}: {name!r} holds half a surrogate pair; remove it.") from None
    if "\x00" in text:
        raise BadData(f"{place}: {name!r} holds a zero byte; remove it.")


# Benchmark -> data set on the hub and the files that are needed; data alone, no scripts.
HUB = MappingProxyType(
    {
        "tofu": ("locuslab/TOFU", ("*.json", "*.jsonl")),
        "mmlu": ("cais/mmlu", ("all/test-*.parquet", "all/dev-*.parquet")),
    }
)


def from_hub(name: str, folder: str | Path) -> Path:
    """Download a benchmark's data files, and return their folder for `--data`.

    Args:
        name: "tofu" or "mmlu"; the other benchmarks are not on the hub as files.
        folder: where to put them, in a folder of the benchmark's name.

    Raises:
        BadData: a name that is not on the hub, no network, or huggingface_hub is not installed.
    """
    if name not in HUB:
        hint = did_you_mean(name, HUB)
        raise BadData(f"No benchmark {name!r} on the hub; there are {', '.join(HUB)}.{hint}")
    repository, patterns = HUB[name]
    said = f"Download the data set {repository} from https://huggingface.co by hand"
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError:
        raise BadData(f"huggingface_hub is not installed: pip install 'expunge[lm]'. Or: {said}.") \
            from None  # fmt: skip
    target = Path(folder) / name
    try:
        hub.snapshot_download(
            repository, repo_type="dataset", allow_patterns=list(patterns), local_dir=target
        )
    # The hub's client raises its own errors, httpx's and the system's; all are subclasses of these.
    except (OSError, RuntimeError, ValueError) as error:
        raise BadData(f"The hub did not answer: {str(error)[:200]} {said}.") from None
    return target


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
