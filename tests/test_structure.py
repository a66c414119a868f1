"""The structure of the package: no circle of files, unique names, few files at the root."""

from __future__ import annotations

import ast
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
AT_THE_ROOT = 8
ROOMS_OF_A_STEM = 2


def modules(source: Path) -> dict[str, Path]:
    files = sorted(source.rglob("*.py"))
    names = (".".join(file.relative_to(source).with_suffix("").parts) for file in files)
    return {name.removesuffix(".__init__"): file for name, file in zip(names, files, strict=True)}


def imports(source: Path) -> dict[str, set[str]]:
    """Which module imports which, those for types and those inside functions too."""
    there = modules(source)
    found: dict[str, set[str]] = {name: set() for name in there}
    for name, file in there.items():
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names if alias.name in there}
            elif isinstance(node, ast.ImportFrom) and node.module:
                whole = {f"{node.module}.{alias.name}" for alias in node.names}
                found[name] |= (whole | {node.module}) & there.keys() - (
                    {node.module} if whole <= there.keys() else set()
                )
        found[name].discard(name)
    return found


def circle(source: Path) -> list[str]:
    """One circle of files that import each other; empty when there is none."""
    try:
        TopologicalSorter(imports(source)).prepare()
    except CycleError as fault:
        return list(fault.args[1])
    return []


def twice(source: Path) -> dict[str, list[str]]:
    """Classes that two files define under one name."""
    found = defaultdict(list)
    for name, file in modules(source).items():
        for node in ast.parse(file.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef):
                found[node.name].append(name)
    return {name: places for name, places in found.items() if len(places) > 1}


def stems(source: Path) -> dict[str, list[str]]:
    """Names of files that stand in more rooms than two."""
    found = defaultdict(list)
    for name, file in modules(source).items():
        if file.name != "__init__.py":
            found[file.stem].append(name)
    return {stem: places for stem, places in found.items() if len(places) > ROOMS_OF_A_STEM}


def test_no_files_import_each_other_in_a_circle() -> None:
    assert circle(SOURCE) == []


def test_class_names_are_unique() -> None:
    assert twice(SOURCE) == {}


def test_no_stem_stands_in_more_than_two_rooms() -> None:
    assert stems(SOURCE) == {}


def test_few_files_lie_loose_at_the_root() -> None:
    assert len(list((SOURCE / "expunge").glob("*.py"))) <= AT_THE_ROOT


@pytest.mark.parametrize(
    "second",
    [
        "from expunge.a import A\nB = 1\n",
        "def f():\n    from expunge.a import A\n    return A\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from expunge.a import A\n",
        "from expunge import a\n",
        "import expunge.a\n",
    ],
)
def test_a_planted_circle_is_found(tmp_path: Path, second: str) -> None:
    package = tmp_path / "expunge"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text("from expunge.b import B\nclass A: ...\n")
    (package / "b.py").write_text("B = 1\n")
    assert circle(tmp_path) == []
    (package / "b.py").write_text(second)
    assert set(circle(tmp_path)) == {"expunge.a", "expunge.b"}


def test_planted_twins_are_found(tmp_path: Path) -> None:
    for room in ("a", "b", "c"):
        (tmp_path / "expunge" / room).mkdir(parents=True)
        (tmp_path / "expunge" / room / "table.py").write_text("class Row: ...\n")
    assert list(twice(tmp_path)) == ["Row"]
    assert list(stems(tmp_path)) == ["table"]
