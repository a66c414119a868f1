from __future__ import annotations

import io
import os
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from expunge.core.batch import Tensors
from expunge.errors import BadData
from expunge.problems.images.loaders import CLASSES, MEAN, STD, cifar10, official_rows

# A CIFAR-10 of 50 + 20 images: five files of ten, and a test file.
TRAIN, TEST, VAL = 50, 20, 10


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, rows in (("TRAIN_ROWS", TRAIN), ("TEST_ROWS", TEST), ("VAL_ROWS", VAL)):
        monkeypatch.setattr(import_module("expunge.problems.images.loaders"), name, rows)


def image(value: int, side: int = 32) -> bytes:
    """An image whose channels are value, 2 value and 3 value."""
    out = io.BytesIO()
    colour = (value, 2 * value, 3 * value)
    Image.new("RGB", (side, side), colour).save(out, "WEBP", lossless=True)
    return out.getvalue()


def rows(start: int, stop: int) -> dict[str, list[Any]]:
    """Columns whose image i shows the value i and has class i modulo 10."""
    numbers = list(range(start, stop))
    return {
        "image": [{"bytes": image(i), "path": f"{i}.png"} for i in numbers],
        "label": [i % 10 for i in numbers],
        "index": numbers,
    }


def write(file: Path, columns: dict[str, list[Any]]) -> None:
    pq.write_table(pa.table(columns), file)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for k in range(5):
        write(tmp_path / f"data_batch_{k + 1}.parquet", rows(10 * k, 10 * k + 10))
    write(tmp_path / "test_batch.parquet", rows(0, TEST))
    return tmp_path


def values(part: Any) -> list[int]:
    """The value that each image shows."""
    assert isinstance(part, Tensors)
    assert part.inputs.dtype == torch.uint8
    flat = part.inputs.flatten(2)
    assert (flat == flat[:, :1, :1] * torch.tensor([1, 2, 3])[:, None]).all()
    return flat[:, 0, 0].tolist()


def test_every_picture_has_its_own_target_and_the_parts_are_the_whole(folder: Path) -> None:
    pool = cifar10(folder)
    assert pool.classes == CLASSES
    assert pool.shape == (3, 32, 32)
    train, val, test = values(pool.train), values(pool.val), values(pool.test)
    assert sorted(train + val) == list(range(TRAIN))
    assert test == list(range(TEST))
    for part, shown in ((pool.train, train), (pool.val, val), (pool.test, test)):
        targets = part.batch(torch.arange(len(part))).targets
        assert targets.tolist() == [value % 10 for value in shown]
    assert sorted(value % 10 for value in val) == list(range(10))


def test_a_batch_is_normalised(folder: Path) -> None:
    pool = cifar10(folder)
    found = pool.test.batch(torch.tensor([9])).inputs[0, :, 5, 7]
    expected = [(9 * (c + 1) / 255 - MEAN[c]) / STD[c] for c in range(3)]
    assert found.tolist() == pytest.approx(expected, abs=1e-6)


def test_every_pixel_keeps_its_place(folder: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    out, columns = io.BytesIO(), rows(0, TEST)
    Image.fromarray(pixels).save(out, "PNG")
    columns["image"][6]["bytes"] = out.getvalue()
    write(folder / "test_batch.parquet", columns)
    test = cifar10(folder).test
    assert isinstance(test, Tensors)
    assert test.inputs[6, 1, 20, 3] == pixels[20, 3, 1]
    assert np.array_equal(test.inputs[6].numpy().transpose(1, 2, 0), pixels)


def test_train_size_is_balanced_nested_and_leaves_val_and_test_alone(folder: Path) -> None:
    large, small = cifar10(folder, train_size=30), cifar10(folder, train_size=20)
    assert torch.bincount(small.train.batch(torch.arange(20)).targets).tolist() == [2] * 10
    assert set(values(small.train)) < set(values(large.train))
    other = cifar10(folder, train_size=20, seed=1)
    assert values(other.train) != values(small.train)
    assert values(other.val) == values(small.val) == values(cifar10(folder).val)


def test_official_rows_are_those_that_are_loaded(folder: Path) -> None:
    train, val = official_rows(torch.arange(TRAIN) % 10, 20, seed=4)
    pool = cifar10(folder, 20, seed=4)
    assert values(pool.train) == train.tolist()
    assert values(pool.val) == val.tolist()


def test_the_hub_layout_is_read_too(tmp_path: Path, folder: Path) -> None:
    hub = tmp_path / "hub"
    hub.mkdir()
    for name, stop in (("train-00000-of-00001", TRAIN), ("test-00000-of-00001", TEST)):
        columns = rows(0, stop)
        columns["img"] = columns.pop("image")
        del columns["index"]
        write(hub / f"{name}.parquet", columns)
    assert values(cifar10(hub).train) == values(cifar10(folder).train)


def test_only_what_is_needed_is_decoded(folder: Path) -> None:
    train, val = official_rows(torch.arange(TRAIN) % 10, 20, seed=0)
    unused = sorted(set(range(TRAIN)) - set(train.tolist()) - set(val.tolist()))[0]
    columns = rows(unused // 10 * 10, unused // 10 * 10 + 10)
    columns["image"][unused % 10]["bytes"] = b"damaged"
    write(folder / f"data_batch_{unused // 10 + 1}.parquet", columns)
    assert len(cifar10(folder, train_size=20).train) == 20
    with pytest.raises(BadData, match=rf"in row {unused % 10} of '.*data_batch_.*' is not an imag"):
        cifar10(folder)


@pytest.mark.parametrize("size", [0, -3, 41])
def test_a_train_size_that_is_not_there_is_refused(folder: Path, size: int) -> None:
    with pytest.raises(BadData, match=f"train_size={size}; CIFAR-10 leaves 1 to 40"):
        cifar10(folder, train_size=size)


def spoil(column: str, row: int, value: Any) -> dict[str, list[Any]]:
    columns = rows(0, TEST)
    columns[column][row] = value
    return columns


def cast(column: str, to: Iterable[Any]) -> dict[str, list[Any]]:
    return rows(0, TEST) | {column: list(to)}


def without(column: str) -> dict[str, list[Any]]:
    return {name: values for name, values in rows(0, TEST).items() if name != column}


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        (without("label"), "no column 'label'"),
        (without("image"), "no column 'image'"),
        (rows(0, TEST - 1), "have 19 rows; expected CIFAR-10's 20"),
        (spoil("label", 3, 10), "labels 0 to 10; expected 0 to 9"),
        (spoil("label", 3, -1), "labels -1 to 9"),
        (spoil("label", 3, None), "holds int64 with 1 missing"),
        (cast("label", ["cat"] * TEST), "holds string with 0 missing"),
        (cast("label", [0.5] * TEST), "holds double with 0 missing"),
        (cast("index", reversed(range(TEST))), "official order"),
        (cast("image", ["a.png"] * TEST), "no column 'image' of images"),
        (cast("image", [{"path": "a.png"}] * TEST), "no column 'image' of images"),
        (cast("image", [{"bytes": "text"}] * TEST), "no column 'image' of images"),
        (spoil("image", 4, {"bytes": None}), "no image in row 4 of '.*test_batch"),
        (spoil("image", 4, None), "no image in row 4 of '.*test_batch"),
        (spoil("image", 4, {"bytes": b"x"}), "in row 4 of '.*test_batch.parquet' is not an imag"),
        (spoil("image", 4, {"bytes": image(1, 31)}), "is 31x31 pixels; expected 32x32"),
    ],
)
def test_a_file_that_is_not_cifar10_is_refused(
    folder: Path, columns: dict[str, list[Any]], complaint: str
) -> None:
    write(folder / "test_batch.parquet", columns)
    with pytest.raises(BadData, match=complaint):
        cifar10(folder)


def test_a_missing_training_file_is_noticed(folder: Path) -> None:
    (folder / "data_batch_3.parquet").unlink()
    with pytest.raises(BadData, match="have 40 rows; expected CIFAR-10's 50"):
        cifar10(folder)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_refused(folder: Path, share: float) -> None:
    file = folder / "data_batch_2.parquet"
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(BadData, match=r"data_batch_2.parquet' cannot be read as Parquet"):
        cifar10(folder)


def test_damaged_bytes_inside_a_file_give_bad_data_or_data(folder: Path) -> None:
    file, draw, refused = folder / "test_batch.parquet", np.random.default_rng(0), 0
    whole = np.frombuffer(file.read_bytes(), dtype=np.uint8)
    for _ in range(60):
        raw = whole.copy()
        raw[draw.integers(0, len(raw), 20)] = draw.integers(0, 256, 20)
        file.write_bytes(raw.tobytes())
        try:
            assert len(cifar10(folder, train_size=1).test) == TEST
        except BadData:
            refused += 1
    assert refused > 10


@pytest.mark.parametrize("name", ["nowhere", "a\nline", "."])
def test_another_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadData, match="No CIFAR-10 in") as raised:
        cifar10(tmp_path / name)
    assert "\n" not in str(raised.value)


@pytest.mark.slow
@pytest.mark.skipif(
    "EXPUNGE_DATA" not in os.environ, reason="set EXPUNGE_DATA to a folder that holds cifar10"
)
def test_the_real_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    pool = cifar10(Path(os.environ["EXPUNGE_DATA"]) / "cifar10")
    assert (len(pool.train), len(pool.val), len(pool.test)) == (45_000, 5_000, 10_000)
    assert isinstance(pool.train, Tensors)
    assert isinstance(pool.test, Tensors)
    assert pool.train.targets.bincount().tolist() == [4500] * 10
    # The first test images, as everybody knows them: cat, ship, ship, airplane, frog.
    assert pool.test.targets[:5].tolist() == [3, 8, 8, 0, 6]
    pixels = pool.train.inputs[::5].float() / 255
    assert pixels.mean((0, 2, 3)).tolist() == pytest.approx(MEAN, abs=5e-3)
    assert pixels.std((0, 2, 3)).tolist() == pytest.approx(STD, abs=5e-3)
