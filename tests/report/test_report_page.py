"""The page: self-contained, deaf to hostile words, the same bytes each time, whole on disk."""

from __future__ import annotations

import base64
import copy
import hashlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import records
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from expunge.errors import StoreError
from expunge.report.numbers import visible
from expunge.report.page import render, write

Tag = tuple[str, tuple[str, ...]]

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title></style></svg><script>alert(1)</script>",
    "--><iframe src=javascript:alert(1)>",
    "<svg/onload=alert(1)>",
    "<a href=javascript:alert(1)>x</a>",
    "&lt;script&gt;&#60;b&#62;",
    "{{ 7 * 7 }}{% raw %}{# x #}",
    "${7*7}`<b>`",
    "]]><b>",
    "<!--<script>",
    "\u202egnp.exe\u2066",
    "a\x00b\x07c\x1b[31m\x7f\x9b",
    "\ud800 lone",
    "line\u2028break\u2029\n\r\t<b>",
    "x" * 5000,
    "<" * 500,
    "\u05e9\u05dc\u05d5\u05dd\u200f",
    "+/v8-<script>",
    "\ufeff\ufffe\u00ad\u200b<b>",
)


class Reader(HTMLParser):
    """Elements with the names of their attributes, values of attributes, and all words."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[Tag] = []
        self.values: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        self.values += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


def spoiled(thing: Any, spoil: Callable[[str], str], key: str = "") -> Any:
    """A record with every word spoiled, but for those that the report reads the meaning of."""
    if isinstance(thing, str):
        return thing if key in ("verdict", "rule", "protocol", "aim") else spoil(thing)
    if isinstance(thing, dict):
        keep = key in KEPT
        return {
            name if keep else spoil(name): spoiled(value, spoil, CHILDREN.get(name, name))
            for name, value in thing.items()
        }
    if isinstance(thing, list):
        return [spoiled(each, spoil, key) for each in thing]
    return thing


# Records whose keys have a meaning; those of others are words of a file.
KEPT = (
    "", "experiment", "row", "problem", "scores", "cost", "example", "score", "attacks", "tried",
    "effect", "exposed", "worst", "low", "worse", "margins", "value", "floor", "retrain_free",
    "zrf", "rf_jsd", "false_alarms", "rate", "blind", "verdict", "forget",
)  # fmt: skip
CHILDREN = {
    "rows": "row", "gallery": "example", "quality": "score", "score": "score", "tow": "score",
    "accuracy_retain": "score", "accuracy_forget": "score", "accuracy_test": "score",
    "divergence_forget": "score", "divergence_test": "score", "weak_attack": "score",
    "ceiling": "score", "floor": "score",
}  # fmt: skip


def hostile(payload: str) -> dict[str, Any]:
    """A summary in which every free word ends in the payload; the names of controls stay."""
    made = records.summary()
    records.unscored(made, "prune", "it diverged")
    found: dict[str, Any] = spoiled(
        made, lambda word: word if word in records.CONTROLS or word[:1] == "/" else word + payload
    )
    return found


def tame(payload: str) -> str:
    """A word that is as long on the page: labels of the scatter find their place by length."""
    return "x" * (len(visible("a" + payload)) - 1)


@pytest.mark.parametrize("payload", HOSTILE)
def test_hostile_words_add_no_element_and_no_attribute(payload: str) -> None:
    page = render(hostile(payload))
    assert Reader(page).tags == Reader(render(hostile(tame(payload)))).tags
    assert page.encode("utf-8").decode("utf-8") == page


def test_the_check_for_new_elements_would_find_one() -> None:
    page = render(records.summary())
    broken = page.replace("<bdi>ours</bdi>", "<bdi><b>ours</b></bdi>", 1)
    assert broken != page
    assert Reader(broken).tags != Reader(page).tags


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.text(min_size=1, max_size=30))
def test_any_words_add_no_element(payload: str) -> None:
    made = records.summary()
    made["problem"]["name"] = made["not_shown"][0] = made["gallery"][0]["class"] = "a" + payload
    assert Reader(render(made)).tags == Reader(render(records.summary())).tags


def test_hostile_words_are_still_told() -> None:
    text = Reader(render(hostile("<script>alert(1)</script>"))).text
    assert "ours<script>alert(1)</script>" in text
    assert "it diverged<script>alert(1)</script>" in text


def test_signs_that_cannot_be_seen_are_written_out() -> None:
    made = records.summary()
    made["rows"][-1]["sentence"] = "a\u202eb\x00c\nd"
    page = render(made)
    assert "a\\u{202e}b\\u{0}c d" in page
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e]", page)


def test_visible_goes_into_keys_and_lists() -> None:
    assert visible({"a\x00": ["b\u202e", 1, 2.5, None, True]}) == {
        "a\\u{0}": ["b\\u{202e}", 1, 2.5, None, True]
    }


def test_a_name_from_right_to_left_is_isolated_in_sentences() -> None:
    made = records.summary()
    made["rows"][-1]["name"] = "שלום"
    for example in made["gallery"]:
        example["unlearned"]["שלום"] = example["unlearned"].pop("ours")
    assert "the nearest is \u2068שלום\u2069: it closes 50" in render(made)


def test_the_policy_lets_in_the_style_alone() -> None:
    page = render(records.summary())
    style = page.split("<style>")[1].split("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policies = [value for name, value in Reader(page).values if name == "content"]
    assert f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:" in policies[0]
    assert page.count("<style") == 1
    assert page.index("Content-Security-Policy") < page.index("<style>")


def test_no_script_no_request_no_style_attribute() -> None:
    reader = Reader(render(records.summary()))
    assert not {tag for tag, _ in reader.tags} & {"script", "link", "iframe", "object", "form", "a"}
    names = {name for name, _ in reader.values}
    assert not [name for name in names if name == "style" or name.startswith("on")]
    sources = [value for name, value in reader.values if name in ("src", "href", "xlink:href")]
    assert len(sources) == 2
    assert all(value.startswith("data:image/png;base64,") for value in sources)
    assert "url(" not in render(records.summary())
    assert "@import" not in render(records.summary())


def test_every_picture_is_told_in_words() -> None:
    page = render(records.summary())
    plots = re.findall(r'<svg class="plot[^>]*role="img"[^>]*>\s*<title>([^<]+)</title>', page)
    assert len(plots) == page.count('role="img"') > 20
    assert "ours: F 0.100\xa0[0.090,\xa00.110]" in plots
    assert all("alt" in attrs for tag, attrs in Reader(page).tags if tag == "img")


def test_the_pixels_of_the_gallery_are_those_of_the_summary() -> None:
    value = dict(Reader(render(records.summary())).values)["src"]
    image = Image.open(io.BytesIO(base64.b64decode(value.partition(",")[2])))
    assert np.asarray(image).tolist() == [[0, 255], [128, 3]]


def test_colours_keep_their_channels() -> None:
    made = records.summary()
    for example in made["gallery"]:
        example["picture"] = [[[255]], [[10]], [[0]]]
    value = dict(Reader(render(made)).values)["src"]
    image = Image.open(io.BytesIO(base64.b64decode(value.partition(",")[2])))
    assert image.getpixel((0, 0)) == (255, 10, 0)


def test_same_summary_same_bytes_and_the_summary_is_left_as_it_was() -> None:
    made = records.summary()
    before = copy.deepcopy(made)
    assert render(made) == render(copy.deepcopy(made))
    assert made == before


@pytest.mark.slow
def test_same_bytes_in_another_process() -> None:
    """Hashes of words differ by process: an order that hangs on them would show."""
    script = (
        "import records, hashlib; from expunge.report.page import render; "
        "print(hashlib.sha256(render(records.summary()).encode()).hexdigest())"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "7"},
    )  # fmt: skip
    here = hashlib.sha256(render(records.summary()).encode()).hexdigest()
    assert done.stdout.strip() == here


def test_a_summary_that_lacks_a_part_is_refused_in_a_sentence() -> None:
    made = records.summary()
    del made["gallery"], made["floor"]
    with pytest.raises(StoreError, match="has no floor, gallery; an older version"):
        render(made)


def test_write_replaces_the_file_at_once(tmp_path: Path) -> None:
    place = tmp_path / "report.html"
    place.write_text("old")
    assert write(records.summary(), str(place)) == place
    assert place.read_text("utf-8") == render(records.summary())
    assert list(tmp_path.iterdir()) == [place]


def test_write_tells_of_a_disk_that_refuses(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for place in (tmp_path / "no" / "r.html", tmp_path / "file" / "r.html", tmp_path / "folder"):
        with pytest.raises(StoreError, match=r"could not be written to .* Give a file in a folder"):
            write(records.summary(), place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "report.html"
    place.write_text("old")

    def full(path: Path, data: bytes) -> int:
        with open(path, "wb") as handle:
            handle.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StoreError, match="No space left on device"):
        write(records.summary(), place)
    assert place.read_text() == "old"
    assert list(tmp_path.iterdir()) == [place]
