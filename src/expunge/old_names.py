"""Import paths of the first edition: they work for one release, and say the new one.

`old_names.json` holds, for each module whose names moved, the modules in which they are now, and
the names that changed or that several of these hold. This file, the table and the call in
`__init__` go with the next release.
"""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from collections.abc import Sequence
from functools import cache, partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any


@cache
def _table() -> tuple[dict[str, list[str]], dict[str, str]]:
    """Old module -> the modules to look in; "old.module:name" -> "new.module:name"."""
    found = json.loads((files("expunge") / "old_names.json").read_text("utf-8"))
    return found["modules"], found["names"]


def _loaded(place: str) -> ModuleType | None:
    """A module of the package, or a study of `benchmarks/` or `examples/` in a checkout."""
    folder, _, name = place.rpartition("/")
    if not folder:
        return importlib.import_module(name)
    beside = str(Path(__file__).parents[2] / folder)
    if beside not in sys.path and Path(beside).is_dir():
        sys.path.append(beside)
    return importlib.import_module(name) if Path(beside).is_dir() else None


def attribute(module: str, name: str) -> Any:
    """Find what a module of the first edition offered, and warn of its new place.

    Args:
        module: the old module, such as "expunge.terms".
        name: what was imported from it.

    Raises:
        AttributeError: the module offered no such name, or the name is gone.
    """
    modules, names = _table()
    exact, _, new = names.get(f"{module}:{name}", f":{name}").rpartition(":")
    places = [exact] if exact else [] if _is_module(module, name) else modules[module]
    for place in places:
        there = _loaded(place)
        if there is not None and new in vars(there):
            warnings.warn(
                f"{module}.{name} is now {place}.{new}; the old path goes with the next release.",
                DeprecationWarning,
                stacklevel=2,
            )
            return vars(there)[new]
    raise AttributeError(f"module {module!r} has no attribute {name!r}")


def _is_module(package: str, name: str) -> bool:
    """Whether a name is of the interpreter's own, or a module below, which the import finds."""
    if name.startswith("__") or f"{package}.{name}" in _table()[0]:
        return True
    below = getattr(sys.modules.get(package), "__path__", [])
    return any((Path(folder) / f"{name}.py").exists() for folder in below) or any(
        (Path(folder) / name / "__init__.py").exists() for folder in below
    )


class OldPaths(MetaPathFinder, Loader):
    """Finds modules of the first edition: those that are gone, and those that lost a name."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith("expunge.") or fullname not in _table()[0]:
            return None
        there = PathFinder.find_spec(fullname, path) if path is not None else None
        if there is None or there.loader is None:
            return ModuleSpec(fullname, self, is_package=True)
        there.loader = _WithOldNames(there.loader)
        return there

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__getattr__"] = partial(attribute, module.__name__)


class _WithOldNames(Loader):
    """Loads a module as its own loader does, and then lets it answer to old names."""

    def __init__(self, own: Loader) -> None:
        self.own = own

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.own.exec_module(module)
        vars(module).setdefault("__getattr__", partial(attribute, module.__name__))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own, name)


def install() -> None:
    """Let the old import paths work; done once, when `expunge` is imported."""
    if any(isinstance(finder, OldPaths) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, OldPaths())
    for name in _table()[0].keys() & sys.modules.keys():
        vars(sys.modules[name]).setdefault("__getattr__", partial(attribute, name))
