"""No module of ours can run code that a file brings along: an AST check, and faults planted for it.

It reads names through import aliases, but it is a guard against slips and not against malice.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "expunge"

# Whole modules that load by running code, and single functions that do or that start a shell.
BANNED_MODULES = {
    "cloudpickle", "cPickle", "_pickle", "dill", "joblib", "marshal", "pickle", "shelve",
}  # fmt: skip
BANNED_NAMES = {
    "builtins.compile", "builtins.eval", "builtins.exec", "numpy.lib.format.open_memmap",
    "os.popen", "os.system", "pandas.read_pickle", "subprocess.getoutput",
    "subprocess.getstatusoutput", "torch.hub.load", "torch.jit.load", "torch.load",
    "torch.serialization.load", "yaml.full_load", "yaml.load", "yaml.load_all",
    "yaml.unsafe_load", "yaml.unsafe_load_all",
}  # fmt: skip
# Words that may stand only beside a literal False, and functions that take only a literal module.
BANNED_SWITCHES = {"allow_pickle", "shell", "trust_remote_code"}
IMPORTERS = {"builtins.__import__", "importlib.__import__", "importlib.import_module"}
BUILTINS = {"__import__", "compile", "eval", "exec", "getattr"}

Fault = tuple[int, str]


def aliases(tree: ast.Module) -> dict[str, str]:
    """Map each name that an import binds, anywhere in the module, to what it stands for."""
    bound = {name: f"builtins.{name}" for name in BUILTINS}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                top = name.name.split(".")[0]
                bound[name.asname or top] = name.name if name.asname else top
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for name in node.names:
                bound[name.asname or name.name] = f"{node.module}.{name.name}"
    return bound


def dotted(node: ast.AST, bound: dict[str, str]) -> str:
    """Spell what an expression names, as in "torch.load"; "" for what is no plain name."""
    if isinstance(node, ast.Name):
        return bound.get(node.id, "")
    if isinstance(node, ast.Attribute) and (owner := dotted(node.value, bound)):
        return f"{owner}.{node.attr}"
    if isinstance(node, ast.Call) and dotted(node.func, bound) == "builtins.getattr":
        names = [name.value for name in node.args[1:2] if isinstance(name, ast.Constant)]
        return f"{dotted(node.args[0], bound)}.{names[0]!s}" if names else ""
    return ""


def name_faults(node: ast.AST, bound: dict[str, str]) -> Iterator[Fault]:
    """Yield banned modules and functions, called or only mentioned."""
    if isinstance(node, ast.Import):
        named = [name.name for name in node.names]
    elif isinstance(node, ast.ImportFrom) and not node.level:
        named = [f"{node.module}.{name.name}" for name in node.names]
    else:
        named = [dotted(node, bound)]
    for name in named:
        if name in BANNED_NAMES or name.split(".")[0] in BANNED_MODULES:
            yield getattr(node, "lineno", 0), name


def switches(node: ast.AST, bound: dict[str, str]) -> Iterator[tuple[object, ast.expr]]:
    """Yield options and their values, given by keyword, as key of a dict, or by position."""
    if isinstance(node, ast.keyword):
        yield node.arg, node.value
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant):
                yield key.value, value
    elif isinstance(node, ast.Call) and dotted(node.func, bound) == "numpy.load":
        for value in node.args[2:3]:
            yield "allow_pickle", value


def switch_faults(node: ast.AST, bound: dict[str, str]) -> Iterator[Fault]:
    """Yield dangerous options that are not plainly off."""
    for name, value in switches(node, bound):
        off = isinstance(value, ast.Constant) and value.value is False
        if name in BANNED_SWITCHES and not off:
            yield value.lineno, str(name)


def importer_faults(node: ast.AST, bound: dict[str, str]) -> Iterator[Fault]:
    """Yield imports whose module is only known at run time."""
    if isinstance(node, ast.Call) and (name := dotted(node.func, bound)) in IMPORTERS:
        literals = [value for value in node.args[:1] if isinstance(value, ast.Constant)]
        if not literals:
            yield node.lineno, name


def faults(source: str) -> list[Fault]:
    """List line and name of all in a source text that could run foreign code."""
    tree = ast.parse(source)
    bound = aliases(tree)
    return [
        fault
        for node in ast.walk(tree)
        for find in (name_faults, switch_faults, importer_faults)
        for fault in find(node, bound)
    ]


def lazy_loader(file: Path, name: str) -> bool:
    """Say whether a file of the package imports from its own table: lazy names, and old paths."""
    tables = ("__init__.py", "old_names.py")
    return file.name in tables and name == "importlib.import_module"


def faults_below(folder: Path) -> list[str]:
    files = sorted(folder.rglob("*.py"))
    assert files, f"no Python file below {folder}"
    return [
        f"{file}:{line}: {name}"
        for file in files
        for line, name in faults(file.read_text("utf-8"))
        if not lazy_loader(file, name)
    ]


def test_the_package_runs_no_foreign_code() -> None:
    assert faults_below(PACKAGE) == []


PLANTS = {
    "torch.load(path)": ("import torch\ntorch.load('x')", 2, "torch.load"),
    "torch.load, safe by its option": (
        "import torch\ntorch.load('x', weights_only=True)", 2, "torch.load",
    ),
    "torch under another name": ("import torch as t\nt.load('x')", 2, "torch.load"),
    "torch.load under another name": ("from torch import load as get", 1, "torch.load"),
    "torch.load by getattr": ("import torch\ngetattr(torch, 'load')('x')", 2, "torch.load"),
    "torch.load handed on": ("import torch\nf = torch.load", 2, "torch.load"),
    "torch.jit.load": ("import torch.jit\ntorch.jit.load('x')", 2, "torch.jit.load"),
    "torch.jit under another name": ("import torch.jit as j\nj.load('x')", 2, "torch.jit.load"),
    "torch.hub.load": ("from torch import hub\nhub.load('x')", 2, "torch.hub.load"),
    "pickle": ("import pickle", 1, "pickle"),
    "pickle inside a function": ("def f():\n    import pickle", 2, "pickle"),
    "pickle.loads": ("from pickle import loads", 1, "pickle.loads"),
    "joblib": ("from joblib import load", 1, "joblib.load"),
    "marshal": ("import marshal", 1, "marshal"),
    "shelve": ("import shelve as s", 1, "shelve"),
    "yaml.load": ("import yaml\nyaml.load('x')", 2, "yaml.load"),
    "yaml.unsafe_load": ("from yaml import unsafe_load", 1, "yaml.unsafe_load"),
    "eval": ("eval('1')", 1, "builtins.eval"),
    "eval handed on": ("f = eval", 1, "builtins.eval"),
    "eval of builtins": ("import builtins\nbuiltins.eval('1')", 2, "builtins.eval"),
    "exec": ("exec('1')", 1, "builtins.exec"),
    "compile": ("compile('1', 'x', 'eval')", 1, "builtins.compile"),
    "__import__ of a variable": ("__import__(name)", 1, "builtins.__import__"),
    "import_module of a variable": (
        "from importlib import import_module\nimport_module(f'expunge.{name}')", 2,
        "importlib.import_module",
    ),
    "shell=True": ("import subprocess\nsubprocess.run('x', shell=True)", 2, "shell"),
    "shell=variable": ("import subprocess\nsubprocess.run('x', shell=s)", 2, "shell"),
    "os.system": ("import os\nos.system('x')", 2, "os.system"),
    "os.popen": ("from os import popen", 1, "os.popen"),
    "trust_remote_code": ("f(trust_remote_code=True)", 1, "trust_remote_code"),
    "trust_remote_code in a dict": (
        "f(**{'trust_remote_code': True})", 1, "trust_remote_code",
    ),
    "allow_pickle": ("import numpy as np\nnp.load('x', allow_pickle=True)", 2, "allow_pickle"),
    "allow_pickle by position": (
        "import numpy as np\nnp.load('x', None, True)", 2, "allow_pickle",
    ),
}  # fmt: skip

# What looks like a fault and is none.
LOOKALIKES = {
    "eval mode": "model.eval()",
    "a regular expression": "import re\nre.compile('x')",
    "a compiled model": "import torch\ntorch.compile(model)",
    "compile from re": "from re import compile\ncompile('x')",
    "json": "import json\njson.loads('1')",
    "literals only": "import ast\nast.literal_eval('1')",
    "parsing only": "import ast\nast.parse('1', mode='eval')",
    "safetensors": "from safetensors.torch import load_file\nload_file('x')",
    "an array": "import numpy as np\nnp.load('x', allow_pickle=False)",
    "an array by position": "import numpy as np\nnp.load('x', None, False)",
    "no remote code": "f(trust_remote_code=False)",
    "a plain command": "import subprocess\nsubprocess.run(['x'], shell=False)",
    "a literal import": "import importlib\nimportlib.import_module('matplotlib.pyplot')",
    "our own module of that name": "from .pickle import f",
    "told in words": "'never torch.load, pickle or eval; trust_remote_code is off'",
}


@pytest.mark.parametrize(("source", "line", "name"), PLANTS.values(), ids=PLANTS)
def test_a_planted_fault_is_found(tmp_path: Path, source: str, line: int, name: str) -> None:
    file = tmp_path / "deep" / "planted.py"
    file.parent.mkdir()
    file.write_text(source, "utf-8")
    assert f"{file}:{line}: {name}" in faults_below(tmp_path)


@pytest.mark.parametrize("source", LOOKALIKES.values(), ids=LOOKALIKES)
def test_a_lookalike_is_no_fault(source: str) -> None:
    assert faults(source) == []


def test_only_the_lazy_init_may_import_by_variable(tmp_path: Path) -> None:
    source = "import importlib\nimportlib.import_module(name)\n"
    for name in ("__init__.py", "other.py"):
        (tmp_path / name).write_text(source, "utf-8")
    assert faults_below(tmp_path) == [f"{tmp_path / 'other.py'}:2: importlib.import_module"]
