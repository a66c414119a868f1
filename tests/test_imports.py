"""Every module imports on its own, and `import expunge` stays light."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"

# What only a report, a plot or a language model needs, and a user should not wait for.
HEAVY = ("jinja2", "matplotlib", "peft", "ray", "rich", "sklearn", "transformers")

# Each module is imported as the first of the package, so that a circle of imports that one order
# hides does not pass; torch and the other packages are read once and kept.
IMPORT_EACH_FIRST = """
import importlib, json, sys, traceback
failed = {}
for name in json.loads(sys.argv[1]):
    for seen in [m for m in sys.modules if m.split(".")[0] == "expunge"]:
        del sys.modules[seen]
    try:
        importlib.import_module(name)
    except Exception:
        failed[name] = traceback.format_exc()
print(json.dumps(failed))
"""

IMPORT_PACKAGE = """
import json, sys
import expunge
print(json.dumps(sorted(set(json.loads(sys.argv[1])) & set(sys.modules))))
"""

# Rooms that unlearning does not need: they are loaded by whoever measures, audits or reports.
LATER_ROOMS = ("audits", "cli", "experiments", "metrics", "problems", "report", "statistics")

ROOMS_LOADED = """
import json, sys
import expunge
rooms = {name.split(".")[1] for name in sys.modules if name.startswith("expunge.")}
print(json.dumps(sorted(rooms & set(json.loads(sys.argv[1])))))
"""


def in_child(script: str, argument: object, source: Path = SOURCE) -> object:
    """Run a script in a fresh interpreter that sees only this source, and read its JSON answer."""
    start = f"import sys; sys.path.insert(0, {str(source)!r})\n"
    command = [sys.executable, "-c", start + script, json.dumps(argument)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def modules(source: Path) -> list[str]:
    """Name every module of the package; __main__ is left out, since importing it runs it."""
    files = sorted((source / "expunge").rglob("*.py"))
    names = [file.relative_to(source).with_suffix("").parts for file in files]
    names = [parts[:-1] if parts[-1] == "__init__" else parts for parts in names]
    return [".".join(parts) for parts in names if parts[-1] != "__main__"]


def plant(folder: Path, **files: str) -> list[str]:
    (folder / "expunge").mkdir()
    for name, text in files.items():
        (folder / "expunge" / f"{name}.py").write_text(text, "utf-8")
    return modules(folder)


def test_every_module_imports_first() -> None:
    names = modules(SOURCE)
    assert "expunge.errors" in names
    assert in_child(IMPORT_EACH_FIRST, names) == {}


def test_import_expunge_is_light() -> None:
    # A package without __init__.py imports too, and would make this test say nothing.
    assert (SOURCE / "expunge" / "__init__.py").is_file()
    assert in_child(IMPORT_PACKAGE, HEAVY) == []


def test_import_expunge_reaches_no_room_that_measures() -> None:
    assert all((SOURCE / "expunge" / room).is_dir() for room in LATER_ROOMS)
    assert in_child(ROOMS_LOADED, LATER_ROOMS) == []


def test_a_planted_room_that_measures_is_found(tmp_path: Path) -> None:
    plant(tmp_path, __init__="from . import a", a="from . import audits", audits="")
    assert in_child(ROOMS_LOADED, LATER_ROOMS, tmp_path) == ["audits"]


def test_a_planted_heavy_import_is_found(tmp_path: Path) -> None:
    plant(tmp_path, __init__="from . import a", a="import jinja2")
    assert in_child(IMPORT_PACKAGE, HEAVY, tmp_path) == ["jinja2"]


def test_a_planted_circle_is_found_whatever_the_order(tmp_path: Path) -> None:
    # Imported as b, c the circle closes well, and hides that c cannot be imported first.
    names = plant(tmp_path, __init__="", b="B = 1\nfrom .c import C", c="from .b import B\nC = 1")
    assert names == ["expunge", "expunge.b", "expunge.c"]
    failed = in_child(IMPORT_EACH_FIRST, names, tmp_path)
    assert isinstance(failed, dict)
    assert list(failed) == ["expunge.c"]
    assert "circular import" in failed["expunge.c"]


def test_a_planted_missing_name_is_found(tmp_path: Path) -> None:
    names = plant(tmp_path, __init__="", a="from json import nothing_of_that_name")
    failed = in_child(IMPORT_EACH_FIRST, names, tmp_path)
    assert isinstance(failed, dict)
    assert list(failed) == ["expunge.a"]
