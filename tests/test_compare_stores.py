"""The script that proves a move to be bit for bit finds what differs, and forgives the clock."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TOOL = Path(__file__).parents[1] / "tools" / "compare_stores.py"


def product(store: Path, key: str, about: dict[str, Any], weights: bytes = b"weights") -> Path:
    folder = store / "oracle" / key[:2] / key
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps({"kind": "oracle", "about": about}))
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def compared(before: Path, after: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, str(TOOL), str(before), str(after)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.fixture
def stores(tmp_path: Path) -> tuple[Path, Path]:
    for name, seconds in (("before", 1.0), ("after", 2.0)):
        product(tmp_path / name, "ab12", {"moved": 0.5, "seconds": seconds})
    return tmp_path / "before", tmp_path / "after"


def test_equal_stores_are_equal_whatever_the_clock_says(stores: tuple[Path, Path]) -> None:
    assert compared(*stores) == (0, "equal: 1 oracle\n")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model.safetensors", "Weights"),
        ("job.json", '{"kind": "oracle", "about": {"moved": 0.6, "seconds": 1.0}}'),
        ("more.safetensors", ""),
    ],
)
def test_one_bit_of_difference_is_found(stores: tuple[Path, Path], file: str, content: str) -> None:
    (stores[1] / "oracle" / "ab" / "ab12" / file).write_text(content)
    code, said = compared(*stores)
    assert code == 1
    assert f"oracle/ab12: {file}" in said


def test_a_product_of_one_store_alone_is_found(stores: tuple[Path, Path]) -> None:
    product(stores[0], "cd34", {})
    code, said = compared(*stores)
    assert code == 1
    assert "oracle/cd34: is in one store alone" in said


def test_an_empty_store_is_no_proof(tmp_path: Path) -> None:
    code, said = compared(tmp_path / "a", tmp_path / "b")
    assert code == 2
    assert "holds no product" in said
