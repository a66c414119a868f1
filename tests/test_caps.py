"""The cap checker finds what it should: a planted fault per cap, and its twin at the cap."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECKER = Path(__file__).parents[1] / "tools" / "check_caps.py"


def check(place: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, str(CHECKER), str(place)], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout


def function(statements: int, docstring: bool = True, keyword: str = "def") -> str:
    head = (
        f'{keyword} f():\n    """One.\n\n    Two.\n    """\n' if docstring else f"{keyword} f():\n"
    )
    return head + "    x = 1\n" * statements


def nested(statements: int) -> str:
    inner = "    @staticmethod\n    def g():\n" + "        x = 1\n" * statements
    return "def f():\n" + inner


# What is at the cap, and what is one over it, with the line and words of the complaint.
AT_CAP = {
    "file": "x = 1\n" * 500,
    "file-without-last-newline": "x = 1\n" * 499 + "x = 1",
    "columns": "# " + "x" * 98 + "\n",
    "wide-characters": "# " + "é" * 98 + "\n",
    "form-feed-is-no-newline": "x = 1\n" * 499 + "# \f \f\n",
    "function": function(60),
    "function-without-docstring": function(60, docstring=False),
    "async-function": function(60, keyword="async def"),
    "nested-function": nested(38),
    "long-signature": "def f(\n" + "".join(f"    a{i},\n" for i in range(60)) + "):\n    x = 1\n",
    "docstring-only": "def f():\n    " + '"""' + "\n" * 60 + '    """\n',
    "empty-file": "",
}
OVER_CAP = {
    "file": ("x = 1\n" * 501, ":501: file has 501 lines, at most 500"),
    "columns": ("x = 1\n# " + "x" * 99 + "\n", ":2: line has 101 columns, at most 100"),
    "function": (function(61), ":1: function f has 61 body lines, at most 60"),
    "function-without-docstring": (
        function(61, docstring=False),
        ":1: function f has 61 body lines, at most 60",
    ),
    "async-function": (function(61, keyword="async def"), ":1: function f has 61 body lines"),
    "nested-function": (nested(59), ":1: function f has 61 body lines, at most 60"),
    "method": (
        "class A:\n" + "".join(f"    {line}\n" for line in function(61).splitlines() if line),
        ":2: function f has 61 body lines, at most 60",
    ),
}


@pytest.mark.parametrize("source", AT_CAP.values(), ids=AT_CAP)
def test_what_is_at_the_cap_passes(tmp_path: Path, source: str) -> None:
    (tmp_path / "module.py").write_text(source, "utf-8")
    assert check(tmp_path) == (0, "")


@pytest.mark.parametrize(("source", "complaint"), OVER_CAP.values(), ids=OVER_CAP)
def test_what_is_one_over_the_cap_fails(tmp_path: Path, source: str, complaint: str) -> None:
    file = tmp_path / "deep" / "module.py"
    file.parent.mkdir()
    file.write_text(source, "utf-8")
    code, said = check(tmp_path)
    assert code == 1
    assert said.splitlines()[0].startswith(f"{file}{complaint}")
    assert len(said.splitlines()) == 1


def test_every_fault_of_every_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("#" * 101 + "\n" + function(61), "utf-8")
    (tmp_path / "b.py").write_text("#" * 102 + "\n", "utf-8")
    code, said = check(tmp_path)
    assert code == 1
    places = [line.removeprefix(f"{tmp_path}/").split(": ")[0] for line in said.splitlines()]
    assert places == ["a.py:1", "a.py:2", "b.py:1"]


def test_a_place_without_python_is_an_error_and_not_a_pass(tmp_path: Path) -> None:
    code, said = check(tmp_path)
    assert code == 2
    assert "No Python file found" in said
