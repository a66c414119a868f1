"""Files of texts, read with care: an error names the file and the line or row."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
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
    if file.stat().st_size > MAX_BYTES:
        raise BadData(f"{file.name} has {file.stat().st_size} bytes; at most {MAX_BYTES} are read.")
    rows: list[Row] = []
    for place, line in _lines(file):
        row = _object(line, place)
        for name, kind in fields.items():
            _expect(row, name, kind, place)
        rows.append(row)
    if not rows:
        raise BadData(f"{file.name} holds no line; download it again.")
    return rows


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    """The lines that are not blank, with where each stands."""
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
