"""CIFAR-10 from a folder of Parquet files; nothing is downloaded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from expunge.core.batch import Tensors
from expunge.core.seeds import stream
from expunge.errors import BadData
from expunge.problems.images.folder import decode
from expunge.problems.images.pool import Pool, stratified_rank

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip


TRAIN_ROWS, TEST_ROWS, VAL_ROWS, SIDE = 50_000, 10_000, 5_000, 32


# Of the training pixels, a channel; the values that most published recipes use.
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


# The validation part belongs to the data set, not to an experiment: it never moves.
SPLIT_SEED = 0


# The first column name is that of most image data sets on the Hugging Face hub, the second that
# of the hub's own CIFAR-10.
IMAGE_COLUMNS = ("image", "img")


def cifar10(folder: str | Path, train_size: int | None = None, seed: int = 0) -> Pool:
    """Load CIFAR-10: 45,000 train or fewer, 5,000 val (of the official train), 10,000 test.

    Inputs are uint8 [n, 3, 32, 32], normalised on the way out. Only the rows that are needed are
    decoded.

    Args:
        folder: holds ``data_batch_1.parquet`` to ``data_batch_5.parquet`` and
            ``test_batch.parquet``, or ``train-*.parquet`` and ``test-*.parquet``.
        train_size: training examples, balanced over the classes; with one seed, a smaller training
            set lies within a larger one. None takes all 45,000.
        seed: which of them; val and test do not depend on it.

    Raises:
        BadData: the folder, a file in it, ``train_size`` or an image is not what it should be.

    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
    """
    train_files, test_files = _files(Path(folder))
    train_labels = _labels(train_files, TRAIN_ROWS)
    test_labels = _labels(test_files, TEST_ROWS)
    train, val = official_rows(train_labels, train_size, seed)
    everything = torch.arange(TEST_ROWS)
    return Pool(
        "cifar10",
        Tensors(_images(train_files, train), train_labels[train], MEAN, STD),
        Tensors(_images(train_files, val), train_labels[val], MEAN, STD),
        Tensors(_images(test_files, everything), test_labels, MEAN, STD),
        CLASSES,
        (3, SIDE, SIDE),
    )


def official_rows(labels: Tensor, train_size: int | None, seed: int) -> tuple[Tensor, Tensor]:
    """The rows of the official training set (torchvision's order) that train and val are made of.

    Args:
        labels: int64 [n], of the official training set.
        train_size: as for ``cifar10``.
        seed: as for ``cifar10``.

    Raises:
        BadData: ``train_size`` is below 1 or above what val leaves.
    """
    order = stratified_rank(labels, stream("cifar10 val", SPLIT_SEED)).argsort(stable=True)
    val, rest = order[:VAL_ROWS].sort()[0], order[VAL_ROWS:].sort()[0]
    wanted = len(rest) if train_size is None else train_size
    if not 1 <= wanted <= len(rest):
        raise BadData(f"Got train_size={train_size}; CIFAR-10 leaves 1 to {len(rest)} to train on.")
    chosen = stratified_rank(labels[rest], stream("cifar10 train", seed)).argsort(stable=True)
    return rest[chosen[:wanted]].sort()[0], val


def _files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Find the training and test files under either of their usual names."""
    for train, test in (("data_batch_*", "test_batch"), ("train-*", "test-*")):
        found = sorted(folder.glob(f"{train}.parquet")), sorted(folder.glob(f"{test}.parquet"))
        if all(found):
            return found
    raise BadData(
        f"No CIFAR-10 in {str(folder)!r}; expected data_batch_1.parquet to data_batch_5.parquet "
        "and test_batch.parquet, or train-*.parquet and test-*.parquet."
    )


def _column(file: Path, *names: str) -> Any:
    """Read the first of these columns that a Parquet file has, as an Arrow array; else None."""
    import pyarrow  # here, since it takes a while to import
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as parquet:
            present = [name for name in names if name in parquet.schema_arrow.names]
            if not present:
                return None
            return parquet.read(columns=present[:1]).column(0).combine_chunks()
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise BadData(f"{str(file)!r} cannot be read as Parquet: {reason}") from None


def _whole_numbers(file: Path, name: str) -> np.ndarray | None:
    """Read a column of integers, int64 [n]; None where the file has no such column."""
    column = _column(file, name)
    if column is None:
        return None
    if column.null_count or np.dtype(column.type.to_pandas_dtype()).kind not in "iu":
        raise BadData(
            f"Column {name!r} of {str(file)!r} holds {column.type} with {column.null_count} "
            "missing; expected a whole number in every row."
        )
    return np.asarray(column).astype(np.int64)


def _labels(files: Sequence[Path], rows: int) -> Tensor:
    """Read every label, without the images; check their number, range and order."""
    columns = [_whole_numbers(file, "label") for file in files]
    parts = [column for column in columns if column is not None]
    where = f"The files {files[0].name!r} to {files[-1].name!r} in {str(files[0].parent)!r}"
    if len(parts) < len(files):
        raise BadData(f"{where} have no column 'label'; expected columns image and label.")
    labels = np.concatenate(parts)
    if len(labels) != rows:
        raise BadData(f"{where} have {len(labels):,} rows; expected CIFAR-10's {rows:,}.")
    if labels.min() < 0 or labels.max() >= len(CLASSES):
        raise BadData(f"{where} have labels {labels.min()} to {labels.max()}; expected 0 to 9.")
    # Where rows are numbered, a file that is missing, doubled or shuffled shows.
    numbers = [column for file in files if (column := _whole_numbers(file, "index")) is not None]
    if numbers and not np.array_equal(np.concatenate(numbers), np.arange(rows)):
        raise BadData(f"{where} are not in the official order: 'index' must count from 0.")
    return torch.as_tensor(labels)


def _images(files: Sequence[Path], rows: Tensor) -> Tensor:
    """Decode the images at sorted ``rows`` (int64 [n]) to uint8 [n, 3, 32, 32].

    One thread: on images this small, threads wait for each other and take twice as long.
    """
    out = np.empty((len(rows), SIDE, SIDE, 3), dtype=np.uint8)
    done = start = 0
    for file in files:
        encoded = _encoded(file)
        inside = rows[(rows >= start) & (rows < start + len(encoded))] - start
        for row in inside.tolist():
            raw = encoded[row].as_py()
            name = f"in row {row} of {str(file)!r}"
            if raw is None:
                raise BadData(f"There is no image {name}; download the file again.")
            out[done] = decode(raw, name, expected=(SIDE, SIDE))
            done += 1
        start += len(encoded)
    return torch.as_tensor(out).permute(0, 3, 1, 2).contiguous()


def _encoded(file: Path) -> Any:
    """Read the images' bytes as an Arrow array."""
    column = _column(file, *IMAGE_COLUMNS)
    # Compared as text: Arrow's types have no common way to ask whether they hold named fields.
    if column is None or not re.search(r"struct<.*\bbytes: (large_)?binary\b", str(column.type)):
        raise BadData(f"{str(file)!r} has no column 'image' of images; expected image{{bytes}}.")
    return column.field("bytes")


TEST, VAL = 300, 200


# The split is part of the data set, not of an experiment: it never moves.
DIGITS_SPLIT_SEED = 0


BRIGHTEST = 16.0


def digits() -> Pool:
    """Load the 1,797 handwritten digits: 1,297 train, 200 val, 300 test, stratified by class.

    Inputs are float32 [n, 1, 8, 8] in [0, 1].

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine
    Learning Repository, 1998 (its test part), as ``sklearn.datasets.load_digits``.
    """
    from sklearn.datasets import load_digits  # here, since it takes a second to import

    pixels, labels = load_digits(return_X_y=True)
    targets = torch.as_tensor(labels, dtype=torch.int64)
    inputs = torch.as_tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / BRIGHTEST
    order = stratified_rank(targets, stream("digits", DIGITS_SPLIT_SEED)).argsort(stable=True)
    parts = (order[TEST + VAL :], order[TEST : TEST + VAL], order[:TEST])
    train, val, test = (
        Tensors(inputs[rows], targets[rows]) for rows in (p.sort()[0] for p in parts)
    )
    return Pool("digits", train, val, test, tuple("0123456789"), (1, 8, 8))
