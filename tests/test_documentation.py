"""What the documentation says can be done, can be done."""

from __future__ import annotations

import importlib.util
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from expunge.cli.main import app
from expunge.core.method import Method
from expunge.core.problem import Problem
from expunge.experiments.experiment import all_words, parse
from expunge.methods.published import PUBLISHED
from expunge.methods.published.article import ARTICLE
from expunge.methods.sentences import as_method
from expunge.unlearn import unlearn
from test_structure import imports

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TABLE = re.findall(
    r"^\| (\d) \|.*?\| `(.*?)` \| `(\w+)` \|$", (ROOT / "docs/article.md").read_text(), re.M
)


@pytest.mark.parametrize(("item", "sentence", "name"), TABLE, ids=[row[2] for row in TABLE])
def test_the_article_s_sentences_can_be_read(item: str, sentence: str, name: str) -> None:
    method = as_method(sentence)
    published = PUBLISHED[name]
    assert [type(s) for s in method.steps] == [type(s) for s in published.steps]
    assert f"item {item}" in published.source


def test_the_article_s_page_has_every_item() -> None:
    assert {name for _, _, name in TABLE} == {method.name for method in ARTICLE}
    assert {item for item, _, _ in TABLE} == set("123456789")


def test_the_grammar_s_page_names_every_word() -> None:
    page = (ROOT / "docs/grammar.md").read_text() + (ROOT / "docs/problems.md").read_text()
    unsaid = {"Sum", "Either", "Both", "Outside", "Method", "ForgetSet", "PixelPCA"}
    assert [
        name
        for name, word in all_words().items()
        if isinstance(word, type) and name not in unsaid and name not in page
    ] == []


def test_the_readme_s_sentences_can_be_read() -> None:
    block = (ROOT / "README.md").read_text().partition("## A method is a sentence")[2]
    sentences = re.findall(r'^"(.*?)"', block, re.M)
    assert len(sentences) >= 4
    for sentence in sentences:
        read = parse(sentence)
        assert Method("said", read if isinstance(read, tuple) else (read,)).sentence


def test_a_term_of_one_s_own_works_as_the_page_on_adding_says(tmp_path: Path) -> None:
    page = (ROOT / "docs/adding.md").read_text()
    code = page.partition("```python\n")[2].partition("```")[0]
    (tmp_path / "own_term.py").write_text(code)
    said: dict[str, Any] = runpy.run_path(str(tmp_path / "own_term.py"))
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    draw = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(20, 1, 2, 2, generator=draw), torch.arange(20) % 3
    done = unlearn(model, said["mine"], Problem.split((inputs, targets), range(5)), seed=0)
    assert done.receipt.method.startswith("Train(CE('retain') - 0.1 * Focal('forget')")


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_list_of_rooms_is_that_of_the_code() -> None:
    page = (ROOT / "docs/design.md").read_text()
    assert tool("design_page").with_table(page) == page, "run: python tools/design_page.py"


def test_the_list_of_rooms_says_what_a_room_may_import() -> None:
    listed = tool("design_page").table()
    assert "| `statistics/` |" in listed
    row = next(line for line in listed.split("\n") if line.startswith("| `core/`"))
    assert row.endswith("| `errors`, `statistics` |")
    pure = next(line for line in listed.split("\n") if line.startswith("| `statistics/`"))
    assert "| `errors`; never `torch`" in pure
    rooms = {path.parent.name for path in (ROOT / "src/expunge").glob("*/__init__.py")}
    assert {name for name in rooms if f"| `{name}/` |" not in listed} == set()


def test_the_reading_order_needs_no_file_that_comes_later() -> None:
    page = (ROOT / "docs/README.md").read_text().partition("## Reading the code")[2]
    files = [name.replace("/", ".") for name in re.findall(r"`src/(expunge/[\w/]+)\.py`", page)]
    assert len(files) >= 10
    found = imports(ROOT / "src")
    later = [(a, b) for i, a in enumerate(files) for b in files[i + 1 :] if b in found[a]]
    assert later == []


def missing(page: str) -> list[str]:
    """Files and modules that a page names and that are not there, those it adds left out."""
    page = re.sub(r"^# new file: .*$", "", page, flags=re.M)
    paths = re.findall(r"`((?:docs|examples|benchmarks)/[\w./-]*)", page)
    paths += re.findall(r"(?<![\w./])(src/expunge/[\w./-]*|(?:tests|tools)/[\w./-]*\w)", page)
    gone = [name for name in paths if not (ROOT / name).exists()]
    for name in re.findall(r"`(?:from )?(expunge(?:\.\w+)+)", page):
        if not named(name):
            gone.append(name)
    return gone


def named(dotted: str) -> bool:
    """Whether a dotted name is a module, or something in one; no module of ours is imported."""
    names = dotted.split(".")
    for cut in range(len(names), 0, -1):
        place = ROOT.joinpath("src", *names[:cut])
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if file.is_file():
            rest = names[cut:]
            return not rest or re.search(rf"\b{rest[0]}\b", file.read_text()) is not None
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_the_files_and_modules_that_a_page_names_exist(page: Path) -> None:
    assert missing(page.read_text()) == []


def test_a_page_that_names_what_is_not_there_is_found() -> None:
    assert missing("`src/expunge/core/run.py`, `tests/`, `expunge.core.run`, `expunge.parse`") == []
    assert missing("`src/expunge/terms.py` and `expunge.court.card`") == [
        "src/expunge/terms.py", "expunge.court.card",
    ]  # fmt: skip
    assert missing("`expunge.core.run.NoSuchProtocol`") == ["expunge.core.run.NoSuchProtocol"]


def anchor(heading: str) -> str:
    """The anchor that Markdown pages are given for a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_contents_of_the_findings_are_their_headings() -> None:
    head, _, rest = (ROOT / "docs/findings.md").read_text().partition("\n## Contents\n")
    assert head.startswith("# Findings")
    listed = re.findall(r"^( *)- \[(.+)\]\(#(.+)\)$", rest.partition("\n## ")[0], re.M)
    found = re.findall(r"^(###?) (.+)$", rest, re.M)
    depth = {"##": "", "###": "  "}
    assert listed == [(depth[signs], words, anchor(words)) for signs, words in found]
    dated = [words for signs, words in found if signs == "###"]
    assert len(dated) == len(set(dated)) >= 80
    assert [words for words in dated if not re.match(r"20\d\d-\d\d-\d\d: \S", words)] == []


def test_the_links_of_the_readme_and_the_docs_lead_somewhere() -> None:
    links = [
        (page.name, link)
        for page in PAGES
        for link in re.findall(r"\]\(([^)#]+?)(?:#.*?)?\)", page.read_text())
        if "://" not in link and not (page.parent / link).exists()
    ]
    assert links == []


def test_the_readme_s_commands_are_known() -> None:
    """Each option that the README gives to a command is one of the command's."""
    page = re.sub(r"\\\n", " ", (ROOT / "README.md").read_text())
    lines = re.findall(r"^expunge (\w+)(.*)$", page, re.M)
    assert len(lines) >= 5
    for command, rest in lines:
        shown = CliRunner().invoke(app, [command, "--help"], terminal_width=100).output
        assert "Usage:" in shown
        assert [o for o in re.findall(r" (--[a-z-]+)", rest) if f"{o} " not in shown] == []


# Without smollm2, which writes a model of a package: tests/text/test_real_models.py runs it.
EXAMPLES = [file for file in sorted((ROOT / "examples").glob("*.py")) if file.stem != "smollm2"]


@pytest.mark.slow
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda p: p.stem)
def test_an_example_runs(script: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "took" in done.stdout or "as retrained within noise" in done.stdout
