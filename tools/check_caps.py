"""Check the size caps: 500 lines a file, 100 columns a line, 60 body lines a function.

Usage: python tools/check_caps.py [FILE OR FOLDER ...]      (src tests benchmarks, unless told)
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_FILE_LINES = 500
MAX_COLUMNS = 100
MAX_BODY_LINES = 60

Function = ast.FunctionDef | ast.AsyncFunctionDef


def first_line(statement: ast.stmt) -> int:
    """Return the line where a statement starts, its decorators included."""
    decorators = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(decorator.lineno for decorator in decorators)])


def body_lines(function: Function) -> int:
    """Count the lines from a function's first statement to its last, its docstring left out."""
    has_docstring = ast.get_docstring(function, clean=False) is not None
    body = function.body[1:] if has_docstring else function.body
    return (body[-1].end_lineno or 0) - first_line(body[0]) + 1 if body else 0


def long_functions(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and complaint for each function with too long a body."""
    for node in ast.walk(tree):
        if isinstance(node, Function) and (count := body_lines(node)) > MAX_BODY_LINES:
            complaint = f"function {node.name} has {count} body lines, at most {MAX_BODY_LINES}"
            yield node.lineno, complaint


def complaints(text: str) -> list[tuple[int, str]]:
    """List line and complaint for every cap that a Python source text breaks, in line order."""
    # Only newlines count: splitlines would also break at form feeds and the like.
    lines = text.removesuffix("\n").split("\n")
    found = list(long_functions(ast.parse(text)))
    for number, line in enumerate(lines, start=1):
        if len(line) > MAX_COLUMNS:
            found.append((number, f"line has {len(line)} columns, at most {MAX_COLUMNS}"))
    if len(lines) > MAX_FILE_LINES:
        found.append((len(lines), f"file has {len(lines)} lines, at most {MAX_FILE_LINES}"))
    return sorted(found)


def python_files(places: list[Path]) -> list[Path]:
    """List the Python files named, and those below the folders named."""
    found: list[Path] = []
    for place in places:
        found += [place] if place.is_file() else place.rglob("*.py")
    return sorted(found)


def main(arguments: list[str]) -> int:
    """Print each broken cap as file:line: complaint, and return how the process should exit."""
    places = [Path(name) for name in arguments]
    places = places or [Path(name) for name in ("src", "tests", "benchmarks")]
    files = python_files(places)
    if not files:
        print(f"No Python file found in {', '.join(map(str, places))}; name files or folders.")
        return 2
    broken = [(file, *found) for file in files for found in complaints(file.read_text("utf-8"))]
    for file, line, complaint in broken:
        print(f"{file}:{line}: {complaint}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
