"""The page on language models: its words and numbers by hand, inert words, collapse as collapse."""

from __future__ import annotations

import base64
import copy
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from language_records import summary

from expunge.errors import StoreError
from expunge.report import prose
from expunge.report.generations import LONGEST, broken, dissected, pieces
from expunge.report.glossary import set_title, tone
from expunge.report.grids import chance, grids
from expunge.report.numbers import signed
from expunge.report.page import render
from expunge.report.page_tables import language_table
from expunge.report.prose import collapsed
from expunge.report.scatter import plane

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</title></style></svg><script>alert(1)</script>",
    "--><iframe src=javascript:alert(1)>",
    "{{ 7 * 7 }}{% raw %}{# x #}",
    "&lt;script&gt;&#60;b&#62;",
    "\u202egnp.exe\u2066",
    "a\x00b\x07c\x1b[31m\x7f\x9b",
    "\ud800 lone",
    "x" * 5000,
    "\u05e9\u05dc\u05d5\u05dd\u200f",
)


class Reader(HTMLParser):
    """Elements with the names of their attributes, and all words."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, tuple[str, ...]]] = []
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
        return " ".join(" ".join(self.words).split())


def spoiled(payload: str) -> dict[str, Any]:
    """A summary whose free words end in the payload, what models wrote before all."""
    made = summary()
    for one in made["rows"]:
        for key in ("sentence", "source", "unscored"):
            if key in one:
                one[key] += payload
        for quoted in one.get("samples", ()):
            for key in ("question", "answer", "oracle", "original"):
                quoted[key] += payload
            quoted["said"] = "said" + payload
        for told_side in one.get("collapse", {}).values():
            told_side["worst"] = [text + payload for text in told_side["worst"]]
        one["flags"] = ["flag" + payload]
        if one["name"] in ("ours", "fell", "lost"):
            one["name"] += payload
    made["experiment"]["name"] += payload
    made["problem"]["source"] += payload
    made["not_shown"] = ["n" + payload]
    made["hardware"]["processor"] += payload
    return made


def skeleton(page: str) -> list[tuple[str, tuple[str, ...]]]:
    """All elements but the remarks on blanks and labels of the picture, which hang on lengths."""
    return [one for one in Reader(page).tags if one[0] not in ("em", "text", "svg", "line")]


@pytest.mark.parametrize("payload", HOSTILE)
def test_hostile_words_add_no_element(payload: str) -> None:
    page = render(spoiled(payload))
    assert skeleton(page) == skeleton(render(spoiled("tame")))
    names = {name for tag, attrs in Reader(page).tags for name in attrs}
    assert not [name for name in names if name == "style" or name.startswith("on")]
    banned = {"script", "img", "iframe", "a", "link", "form", "object"}
    assert not {tag for tag, _ in Reader(page).tags} & banned
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066]", page)
    assert page.encode("utf-8").decode("utf-8") == page


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.text(min_size=1, max_size=30))
def test_any_generation_adds_no_element(payload: str) -> None:
    made = summary()
    made["rows"][1]["samples"][0]["said"] = "a" + payload
    assert skeleton(render(made)) == skeleton(render(summary()))


def test_hostile_words_are_still_told() -> None:
    text = Reader(render(spoiled("<script>alert(1)</script>"))).text
    assert "said<script>alert(1)</script>" in text
    assert "it diverged<script>alert(1)</script>" in text
    assert "gnp\\u{202e}" in render(spoiled("gnp\u202e"))


def test_the_policy_lets_in_the_style_alone() -> None:
    page = render(summary())
    style = page.split("<style>")[1].split("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policies = [value for name, value in Reader(page).values if name == "content"]
    assert policies[0].startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
    assert page.count("<style") == 1
    assert "url(" not in page


def test_same_summary_same_bytes_and_the_summary_is_left_as_it_was() -> None:
    made = summary()
    before = copy.deepcopy(made)
    assert render(made) == render(copy.deepcopy(made))
    assert made == before


def test_the_headline_says_who_is_nearest_how_far_and_who_collapsed() -> None:
    assert prose.language_headline(summary()) == (
        "Nearest to models that never saw the forget set is ours, at a distance of "
        "0.50\xa0[0.48,\xa00.52], where 0 is as retrained and 1 the untouched original. "
        "1 of 3 methods collapsed: fell."
    )


def test_a_collapsed_method_is_never_the_nearest() -> None:
    made = summary()
    for one in made["rows"]:
        if one["name"] in ("ours", "theirs"):
            one["collapse"]["forget"]["collapsed"] = True
    assert prose.language_nearest(made) is None
    assert prose.language_headline(made).startswith("All 3 methods have collapsed")
    made["rows"] = [one for one in made["rows"] if one["control"]]
    assert (
        prose.language_headline(made) == "No method could be scored; there are only the controls."
    )


def test_ties_the_verdict_and_few_models_stand_beside_the_headline() -> None:
    assert prose.caveats(summary()) == [
        "Other retrained models, evaluated like a method, are at 0.05\xa0[0.03,\xa00.07]; ours "
        "does not reach them.",
        "Its verdict: still remembers; costs.",
        "Not clearly farther, since intervals overlap: theirs.",
        "With 2 models a row the order is rough: 16 is the least for a ranking.",
    ]


def test_controls_that_fail_are_told() -> None:
    assert "The controls did what they must" in next(prose.language_controls(summary()))
    made = summary()
    made["rows"][0]["rank"] = 2
    made["rows"][3]["distance"]["low"] = 0.01
    made["rows"][6]["collapse"]["forget"]["collapsed"] = False
    said = next(prose.language_controls(made))
    assert "“retrain”, which must be nearest, is not" in said
    assert "“filter”, which forgets nothing, is as near" in said
    assert "“gibberish”, which must be called collapsed, is not" in said
    assert said.endswith("do not trust the order of the methods.")


def test_blanks_and_silence_can_be_seen() -> None:
    assert pieces("") == [("nothing is written", True)]
    assert pieces(" \n ") == [("3 blanks, nothing else", True)]
    assert pieces("a b") == [("a b", False)]
    assert pieces("a\n\nb   c\td") == [
        ("a", False), ("2 line breaks", True), ("b", False), ("3 blanks", True), ("c", False),
        ("1 blank", True), ("d", False),
    ]  # fmt: skip
    assert pieces("x" * (LONGEST + 7))[1] == ("and 7 more signs", True)


def test_the_page_shows_answers_side_by_side_and_says_what_is_word_for_word() -> None:
    text = Reader(render(summary())).text
    for words in (
        "What was to be forgotten", "The same, in wordings that were never taught",
        "What was to be kept", "The world around, to be kept",
        "original Ada lives in Rome. word for word the true answer",
        "retrained Ada lives in Oslo. ours Oslo.", "theirs nothing is written",
        "3 blanks, nothing else",
    ):  # fmt: skip
        assert words in text


def test_collapse_is_shown_as_collapse() -> None:
    made = dissected(summary())
    fell, rest = broken(made)
    assert [one.name for one in fell] == ["fell", "gibberish"]
    assert fell[0].sides[0].said == (
        "Answers to questions of what was to be forgotten: 90\u202f%\xa0[85,\xa095] of 20 are "
        "broken; of other retrained models' 2.0\u202f%."
    )
    assert fell[0].sides[0].reasons == (
        "one phrase again and again 90\u202f%, blank space 45\u202f%"
    )
    assert fell[0].sides[0].worst == [[("no no no no", False)]]
    # What retrained models write as often is no example of anything.
    assert rest == []
    made["rows"][1]["collapse"]["forget"].update(share=0.5, low=0.4, high=0.6)
    assert [one.name for one in broken(made)[1]] == ["ours"]
    made["rows"][0]["collapse"]["forget"]["share"] = 0.45
    assert broken(made)[1] == []
    assert collapsed(made["rows"][5])
    assert not collapsed(made["rows"][1])


def test_refusals_are_told_apart_from_what_is_broken() -> None:
    made = summary()
    made["rows"][5]["collapse"]["forget"]["refused"] = 0.5
    assert "50\u202f% are refusals; of the others, 90\u202f%" in render(made)


def test_the_plane_has_the_oracle_at_its_corner_and_names_what_is_beyond() -> None:
    found = plane(summary())
    places = {point.name: (point.x, point.y) for point in found.points}
    assert found.x0 < places["retrain"][0] < places["ours"][0] < places["nothing"][0]
    assert found.y0 == places["nothing"][1] > places["ours"][1]
    assert found.edge == ["fell (0.60, 0.80)", "gibberish (0.90, 4.00)"]
    assert "gibberish ↑" in places
    floor = next(ring for ring in found.rings if ring.kind == "floor")
    assert found.x0 + floor.across == pytest.approx(places["nothing"][0], abs=0.02)


def test_the_table_has_every_row_and_the_reason_of_one_without_numbers() -> None:
    found = language_table(summary())
    assert [line.name for line in found.controls] == ["retrain", "filter", "nothing", "gibberish"]
    assert [line.name for line in found.methods] == ["ours", "theirs", "fell", "lost"]
    assert found.methods[3].reason == "it diverged"
    cells = {cell.label: (cell.value, cell.note) for cell in found.methods[0].cells}
    assert cells["Likely"] == ("0.30", "+0.20")
    assert cells["Utility"] == ("0.50", "−0.10")
    assert cells["D"] == ("0.25", "")
    assert found.notes == [
        "Reaches beyond 1.5, where the plot ends: gibberish.", "Doubt about ours: a doubt"
    ]  # fmt: skip


def test_a_column_that_nobody_has_is_left_out_and_one_that_some_have_is_not() -> None:
    made = summary()
    for one in made["rows"]:
        one.pop("forget_quality", None)
    del made["rows"][1]["membership"]
    found = language_table(made)
    assert "D" not in found.heads
    assert found.methods[0].cells[found.heads.index("Attack")].value == "–"
    assert "Forget quality" not in re.findall("<h2>([^<]+)</h2>", render(made))


def test_every_gauge_stands_between_both_anchors() -> None:
    (found,) = grids(summary())
    assert found.title == "What was to be forgotten"
    assert [name for name, _ in found.heads] == ["Probability", "ROUGE-L recall"]
    assert found.heads[1][1].endswith("; not in the distance")
    assert [one.name for one in found.rows[:3]] == ["retrained", "original", "retrain"]
    assert found.rows[1].cells[0].value == "0.90\xa0[0.89,\xa00.91]"
    mine = found.rows[3].cells
    assert mine[0].note == "gap +0.20 [0.19,\xa00.21]"
    # The gap of the second gauge is 0: its interval holds it.
    assert mine[0].heed
    assert not mine[1].heed


def test_hardware_and_n_stand_below_every_table() -> None:
    text = Reader(render(summary())).text
    assert text.count("n = 2 models a row") >= 6
    assert "AMD EPYC, 2 cores" in text
    assert "146\u202f176 weights" in render(summary())


def test_words_and_numbers() -> None:
    assert [signed(value) for value in (0.1, -0.1, 0.0, 0.001)] == [
        "+0.10",
        "−0.10",
        "0.00",
        "0.00",
    ]
    assert [chance(p) for p in (1e-9, 0.04)] == ["<\u202f0.001", "0.040"]
    assert set_title("of my own") == "of my own"
    assert [tone(said) for said in ("collapsed: x", "still remembers", "?")] == [
        "bad", "part", "unknown",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda made: made.pop("problem"), "has no problem; an older version"),
        (lambda made: made.update(gauges={}), "has no list of gauges"),
        (lambda made: made["rows"][1].pop("cost"), "has no cost of a row"),
        (lambda made: made["rows"][1].pop("name"), "has no name of a row"),
        (lambda made: made["rows"][1]["distance"].pop("forget"), "has no distance: forget"),
        (lambda made: made["rows"][1]["samples"][0].pop("oracle"), "has no sample: oracle"),
        (lambda made: made["rows"][1]["collapse"]["forget"].pop("refused"), "collapse: refused"),
    ],
)
def test_a_summary_that_lacks_a_part_is_refused_in_a_sentence(spoil: Any, said: str) -> None:
    made = summary()
    spoil(made)
    with pytest.raises(StoreError, match=said):
        render(made)


def test_an_experiment_without_any_numbers_still_has_a_page() -> None:
    made = summary()
    made["rows"] = made["rows"][-1:]
    text = Reader(render(made)).text
    assert "No method could be scored" in text
    assert "Unscored: it diverged" in text
