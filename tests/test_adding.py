"""The walk of docs/adding.md, applied to a copy of the package and run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(
    r"```python\n# (new file|add to|row of TERMS in|try it)(?:: (\S+))?\n(.*?)```",
    (ROOT / "docs" / "adding.md").read_text("utf-8"),
    re.S,
)
CHECKS = """
from contracts import IMAGE_CONTRACTS, ON_IMAGES, images

method = ON_IMAGES["ClassMargin('forget')"]
for contract in IMAGE_CONTRACTS:
    contract(method, images)
print(len(IMAGE_CONTRACTS), "contracts hold")
"""


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package and of the contracts with the page's blocks applied."""
    home = tmp_path_factory.mktemp("contributor")
    shutil.copytree(ROOT / "src", home / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (home / "tests").mkdir()
    for name in ("contracts.py", "tiny.py", "brief.py"):
        shutil.copy(ROOT / "tests" / name, home / "tests")
    for kind, place, code in BLOCKS:
        file = home / place
        if kind == "new file":
            assert not file.exists(), f"{place} is there already"
            file.write_text(code, "utf-8")
        elif kind == "add to":
            file.write_text(f"{file.read_text('utf-8')}\n{code}", "utf-8")
        elif kind.startswith("row"):
            row = f"    {code.strip()}\n"
            opened = file.read_text("utf-8").replace("(\n    CE(", f"(\n{row}    CE(", 1)
            name = code.partition("(")[0]
            file.write_text(
                opened.replace(
                    "from expunge.methods.losses.noise",
                    f"from expunge.methods.losses import {name}\nfrom expunge.methods.losses.noise",
                    1,
                ),
                "utf-8",
            )
    return home


def run(home: Path, script: str) -> subprocess.CompletedProcess[str]:
    (home / "script.py").write_text(script, "utf-8")
    places = [str(home / "src"), str(home / "tests"), *sys.path]
    return subprocess.run(
        [sys.executable, "script.py"], cwd=home, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip


def test_a_new_word_touches_three_files_at_most() -> None:
    kinds = [kind for kind, _, _ in BLOCKS]
    assert kinds.count("new file") == kinds.count("add to") == kinds.count("try it") == 3
    assert kinds.count("row of TERMS in") == 1


def test_the_walk_can_be_followed(applied: Path) -> None:
    tried = "\n".join(code for kind, _, code in BLOCKS if kind == "try it")
    origin = "import expunge\nassert __file__.rpartition('/')[0] in expunge.__file__\n"
    done = run(applied, f"{tried}\n{origin}print('followed')")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "followed\n"


def test_the_contracts_hold_for_the_new_term(applied: Path) -> None:
    done = run(applied, CHECKS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("contracts hold\n")


def test_without_its_line_in_the_face_the_parser_does_not_know_the_word(applied: Path) -> None:
    done = run(
        applied,
        "import expunge.methods.losses as room\ndel room.ClassMargin\n"
        "from expunge import parse\nparse(\"Train(ClassMargin('forget'))\")",
    )
    assert "BadSentence" in done.stderr
