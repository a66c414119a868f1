"""What the documentation says can be done, can be done."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from expunge import parse
from expunge.grammar import as_method, vocabulary
from expunge.method import Method
from expunge.methods import ARTICLE, PUBLISHED

ROOT = Path(__file__).parents[1]
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
    assert [name for name in vocabulary() if name not in unsaid and name not in page] == []


def test_the_readme_s_sentences_can_be_read() -> None:
    block = (ROOT / "README.md").read_text().partition("## A method is a sentence")[2]
    sentences = re.findall(r'^"(.*?)"', block, re.M)
    assert len(sentences) >= 4
    for sentence in sentences:
        read = parse(sentence)
        assert Method("said", read if isinstance(read, tuple) else (read,)).sentence


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.stem)
def test_an_example_runs(script: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "took" in done.stdout or "as retrained within noise" in done.stdout
