"""Write the list of rooms in docs/design.md: what each room holds and what it may import.

Usage: python tools/design_page.py      (after a room or its contract in pyproject.toml changed)

The order and the permissions come from the `layers` contract of import-linter in pyproject.toml,
the descriptions from the first line of each room's docstring.
"""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "design.md"
PACKAGE = ROOT / "src" / "expunge"
START, END = "<!-- rooms: start -->", "<!-- rooms: end -->"


def layers() -> list[list[str]]:
    """Return the rooms of each layer, the lowest layer first; rooms of one layer are apart."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    found = next(one["layers"] for one in contracts if one["type"] == "layers")
    named = [[name.strip() for name in line.split("|")] for line in found]
    return [[name.removeprefix("expunge.") for name in names] for names in reversed(named)]


def forbidden(name: str) -> list[str]:
    """Return the packages that a room must never reach, not even through others."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    found = [one for one in contracts if one["type"] == "forbidden"]
    return [
        package
        for one in found
        if f"expunge.{name}" in one["source_modules"]
        for package in one["forbidden_modules"]
    ]


def first_line(file: Path) -> str:
    """Return the first line of a module's docstring, fit for a cell of a table."""
    line = (ast.get_docstring(ast.parse(file.read_text("utf-8"))) or "").partition("\n")[0]
    return line.replace("|", "\\|")


def rows(name: str, below: list[str]) -> list[str]:
    """Return the table rows of one room: its own, and one for each folder in it."""
    room = PACKAGE / name
    allowed = ", ".join(f"`{one}`" for one in below) or "nothing"
    if never := forbidden(name):
        allowed += f"; never {', '.join(f'`{one}`' for one in never)}"
    if not room.is_dir():
        file = room.with_suffix(".py")
        return [f"| `{name}.py` | {first_line(file)} | {allowed} |"]
    lines = [f"| `{name}/` | {first_line(room / '__init__.py')} | {allowed} |"]
    for folder in sorted(room.glob("*/__init__.py")):
        lines.append(f"| `{name}/{folder.parent.name}/` | {first_line(folder)} | |")
    return lines


def table() -> str:
    """Return the whole list of rooms as a Markdown table, the lowest layer first."""
    lines = ["| room | what it holds | may import |", "|---|---|---|"]
    below: list[str] = []
    for names in layers():
        for name in names:
            lines += rows(name, below)
        below += names
    return "\n".join(lines)


def with_table(page: str) -> str:
    """Return the page with the list of rooms between its two markers written again."""
    before, rest = page.split(START)
    return f"{before}{START}\n{table()}\n{END}{rest.split(END)[1]}"


def main() -> None:
    """Write the list of rooms into the page."""
    PAGE.write_text(with_table(PAGE.read_text("utf-8")), "utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
