from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from expunge.core.batch import Indexed, Tensors, all_targets
from expunge.errors import BadData
from expunge.problems.images.folder import MEAN, STD, image_folder
from expunge.problems.images.pool import Pool


def add(folder: Path, name: str, value: int = 0, size: tuple[int, int] = (6, 5)) -> Path:
    """Write an image of one grey value, width by height; values come back bit for bit."""
    folder.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"lossless": True} if name.endswith("webp") else {}
    Image.new("RGB", size, (value, value, value)).save(folder / name, **options)
    return folder / name


def fill(root: Path, part: str = "train", count: int = 20, first: int = 0) -> None:
    """Write two classes: cats show even values, dogs odd ones."""
    for i in range(count):
        add(root / part / "cat", f"{i:02}.png", first + 2 * i)
        add(root / part / "dog", f"{i:02}.webp", first + 2 * i + 1)


def values(part: Any) -> list[int]:
    inputs = part.batch(torch.arange(len(part))).inputs[:, 0, 0, 0]
    return ((inputs * STD[0] + MEAN[0]) * 255).round().int().tolist()


def everything(pool: Pool) -> list[int]:
    return [*values(pool.train), *values(pool.val), *values(pool.test)]


def test_every_picture_has_its_own_target(tmp_path: Path) -> None:
    fill(tmp_path)
    fill(tmp_path, "val", 3, first=100)
    fill(tmp_path, "test", 2, first=200)
    pool = image_folder(tmp_path)
    assert (pool.name, pool.classes, pool.shape) == (tmp_path.name, ("cat", "dog"), (3, 5, 6))
    assert sorted(values(pool.train)) == list(range(40))
    assert sorted(values(pool.val)) == list(range(100, 106))
    assert sorted(values(pool.test)) == list(range(200, 204))
    for part in (pool.train, pool.val, pool.test):
        assert all_targets(part).tolist() == [value % 2 for value in values(part)]


def test_val_and_test_are_carved_out_evenly_and_always_alike(tmp_path: Path) -> None:
    fill(tmp_path)
    pool, again = image_folder(tmp_path), image_folder(tmp_path)
    parts = [values(part) for part in (pool.train, pool.val, pool.test)]
    assert sorted([*parts[0], *parts[1], *parts[2]]) == list(range(40))
    assert [sum(value % 2 for value in part) for part in parts[1:]] == [2, 2]
    assert [len(part) for part in parts[1:]] == [4, 4]
    assert parts == [values(part) for part in (again.train, again.val, again.test)]


def test_a_class_with_one_picture_stays_in_train(tmp_path: Path) -> None:
    fill(tmp_path)
    add(tmp_path / "train" / "axolotl", "only.png", 99)
    pool = image_folder(tmp_path)
    assert pool.classes == ("axolotl", "cat", "dog")
    assert 99 in values(pool.train)


def test_too_few_pictures_to_carve_from_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, count=3)
    with pytest.raises(BadData, match="carve out 'test' from 'train'"):
        image_folder(tmp_path)


def test_large_folders_are_read_when_asked_for_and_give_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)
    eager = image_folder(tmp_path, size=4)
    monkeypatch.setattr("expunge.problems.images.folder.IN_MEMORY", 40 * 3 * 4 * 4 - 1)
    lazy = image_folder(tmp_path, size=4)
    assert isinstance(eager.train, Tensors)
    assert isinstance(lazy.train, Indexed)
    rows = torch.tensor([3, 0, 17])
    for name in ("train", "val", "test"):
        one, two = (getattr(pool, name).batch(rows % 4) for pool in (eager, lazy))
        assert torch.allclose(one.inputs, two.inputs, atol=1e-6)
        assert torch.equal(one.targets, two.targets)
    # Targets are known although an image has since become unreadable; the image is not.
    for file in (tmp_path / "train" / "cat").iterdir():
        file.write_bytes(b"")
    assert torch.equal(all_targets(lazy.train), all_targets(eager.train))
    with pytest.raises(BadData, match="is not an image"):
        lazy.train.batch(torch.arange(len(lazy.train)))


def test_mixed_sizes_need_a_size(tmp_path: Path) -> None:
    fill(tmp_path)
    add(tmp_path / "train" / "dog", "odd.png", 77, size=(9, 7))
    with pytest.raises(BadData, match=r"odd.png' is 9x7 pixels; expected 6x5.*Give a size"):
        image_folder(tmp_path)
    pool = image_folder(tmp_path, size=8)
    assert pool.shape == (3, 8, 8)
    assert 77 in everything(pool)
    with pytest.raises(BadData, match="size=0"):
        image_folder(tmp_path, size=0)


def test_what_systems_leave_behind_is_left_out(tmp_path: Path) -> None:
    fill(tmp_path)
    for name in (".DS_Store", "._00.png", "Thumbs.db", "notes.txt"):
        (tmp_path / "train" / "cat" / name).write_text("no image")
    (tmp_path / "train" / ".cache").mkdir()
    (tmp_path / "train" / "README.txt").write_text("about")
    add(tmp_path / "train" / "dog", "LOUD.PNG", 200)
    pool = image_folder(tmp_path)
    assert pool.classes == ("cat", "dog")
    assert len(everything(pool)) == 41


@pytest.mark.parametrize("size", [None, 4])
def test_a_damaged_picture_is_named(tmp_path: Path, size: int | None) -> None:
    fill(tmp_path)
    file = tmp_path / "train" / "dog" / "13.webp"
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(BadData, match=r"dog/13.webp"):
        image_folder(tmp_path, size)


def test_hostile_file_names_are_shown_on_one_line(tmp_path: Path) -> None:
    fill(tmp_path)
    name = "x\\..\nrm -rf \x1b[31m.png"
    add(tmp_path / "train" / "cat", name, 111)
    assert 111 in everything(image_folder(tmp_path))
    (tmp_path / "train" / "cat" / name).write_bytes(b"broken")
    with pytest.raises(BadData) as raised:
        image_folder(tmp_path)
    assert str(raised.value).isprintable()
    assert "rm -rf" in str(raised.value)


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "x\u202ey", os.fsdecode(b"\xff")])
def test_class_names_that_cannot_be_printed_are_refused(tmp_path: Path, name: str) -> None:
    fill(tmp_path)
    add(tmp_path / "train" / name, "0.png")
    with pytest.raises(BadData, match="cannot be printed") as raised:
        image_folder(tmp_path)
    assert str(raised.value).isprintable()


def test_class_names_in_other_scripts_are_kept(tmp_path: Path) -> None:
    fill(tmp_path)
    add(tmp_path / "train" / "猫 & <b>", "0.png")
    assert image_folder(tmp_path).classes == ("cat", "dog", "猫 & <b>")


def test_links_may_stay_inside_but_not_lead_out(tmp_path: Path) -> None:
    root, outside = tmp_path / "data", add(tmp_path / "private", "secret.png", 5)
    fill(root)
    link = root / "train" / "cat" / "link.png"
    link.symlink_to(root / "train" / "cat" / "00.png")
    assert sorted(everything(image_folder(root))) == sorted([*range(40), 0])
    link.unlink()
    for target in (outside, "../../../private/secret.png"):
        link.symlink_to(target)
        with pytest.raises(BadData, match=r"link.png' is a link out of the folder"):
            image_folder(root)
        link.unlink()
    (root / "train" / "emu").symlink_to(outside.parent)
    with pytest.raises(BadData, match=r"emu/secret.png' is a link out of the folder"):
        image_folder(root)


def test_broken_and_circular_links_and_pipes_are_refused(tmp_path: Path) -> None:
    fill(tmp_path)
    odd = tmp_path / "train" / "cat" / "odd.png"
    odd.symlink_to("nowhere.png")
    with pytest.raises(BadData, match="not a regular file"):
        image_folder(tmp_path)
    odd.unlink()
    odd.symlink_to("odd.png")
    with pytest.raises(BadData, match=r"link in a circle|not a regular file"):
        image_folder(tmp_path)
    odd.unlink()
    os.mkfifo(odd)
    with pytest.raises(BadData, match="not a regular file"):
        image_folder(tmp_path)


def test_folders_that_are_laid_out_otherwise_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"no folder '.*train'"):
        image_folder(tmp_path)
    add(tmp_path / "train" / "cat", "0.png")
    with pytest.raises(BadData, match="holds 1 class folders; expected 2 or more"):
        image_folder(tmp_path)
    fill(tmp_path)
    (tmp_path / "train" / "empty").mkdir()
    with pytest.raises(BadData, match="empty' holds no image"):
        image_folder(tmp_path)
    add(tmp_path / "train" / "empty" / "deeper", "0.png")
    with pytest.raises(BadData, match="deeper' is a folder in a class folder"):
        image_folder(tmp_path)


def test_val_and_test_must_fit_train(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "val").write_text("")
    with pytest.raises(BadData, match="val' is a file"):
        image_folder(tmp_path)
    (tmp_path / "val").unlink()
    (tmp_path / "val").mkdir()
    with pytest.raises(BadData, match="val' holds no image"):
        image_folder(tmp_path)
    add(tmp_path / "val" / "emu", "0.png")
    with pytest.raises(BadData, match="class 'emu' is in 'val' but not in 'train'"):
        image_folder(tmp_path)


@pytest.mark.skipif(
    os.geteuid() == 0, reason="root reads every file: run the tests as another user"
)
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "train" / "cat" / "00.png").chmod(0)
    with pytest.raises(BadData, match=r"00.png' cannot be read: Permission denied"):
        image_folder(tmp_path)


def test_inputs_are_normalised_pixels(tmp_path: Path) -> None:
    fill(tmp_path)
    red = np.zeros((5, 6, 3), dtype=np.uint8)
    red[..., 0] = 255
    add(tmp_path / "val" / "cat", "red.png")
    Image.fromarray(red).save(tmp_path / "val" / "cat" / "red.png")
    found = image_folder(tmp_path).val.batch(torch.tensor([0])).inputs[0, :, 2, 3]
    expected = [(1 - MEAN[0]) / STD[0], -MEAN[1] / STD[1], -MEAN[2] / STD[2]]
    assert found.tolist() == pytest.approx(expected, abs=1e-5)
