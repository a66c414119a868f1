"""What models wrote, word for word: answers side by side, and generations that are broken."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from expunge.report import prose
from expunge.report.glossary import REASONS, SETS, set_title
from expunge.report.numbers import percent, percent_interval
from expunge.report.prose import collapsed

Record = Mapping[str, Any]


# Words as written (False), and what the page says of signs that cannot be seen (True).
Piece = tuple[str, bool]


# Signs of one generation that the page holds; the rest is counted.
LONGEST = 600


# White space that would look like one blank, or like none.
GAPS = re.compile(r"\s{2,}|[^\S ]")


# Methods whose answers are shown without unfolding.
FEATURED = 4


SIDES = {"forget": "of what was to be forgotten", "retain": "of what was to be kept"}


QUOTED = ("question", "answer", "said", "oracle", "original")


@dataclass(frozen=True)
class Reply:
    """What one model wrote; `control` marks rows that are not methods."""

    name: str
    control: bool
    text: Sequence[Piece]
    note: str


@dataclass(frozen=True)
class AnswerBlock:
    """One question with its true answer and what everyone wrote."""

    text: Sequence[Piece]
    answer: Sequence[Piece]
    featured: list[Reply]
    others: list[Reply]


@dataclass(frozen=True)
class AnsweredQuestions:
    """The questions of one set."""

    name: str
    title: str
    questions: list[AnswerBlock]


@dataclass(frozen=True)
class BrokenSide:
    """How much of one side is broken, in words, with examples."""

    said: str
    reasons: str
    worst: Sequence[Sequence[Piece]]


@dataclass(frozen=True)
class BrokenRow:
    """The broken generations of one row."""

    name: str
    control: bool
    collapsed: bool
    verdict: str
    tone: str
    sides: list[BrokenSide]


def pieces(text: str) -> list[Piece]:
    """Cut a generation into words and remarks, so that blanks and silence can be seen.

    Args:
        text: as a model wrote it; of a very long one the start is kept.
    """
    if not text:
        return [("nothing is written", True)]
    if text.isspace():
        return [(prose.counted(len(text), "blank") + ", nothing else", True)]
    found: list[Piece] = []
    kept, at = text[:LONGEST], 0
    for gap in GAPS.finditer(kept):
        found += [(kept[at : gap.start()], False), (_remark(gap[0]), True)]
        at = gap.end()
    found.append((kept[at:], False))
    if len(text) > LONGEST:
        found.append((f"and {prose.counted(len(text) - LONGEST, 'more sign')}", True))
    return [piece for piece in found if piece[0].strip()]


def _remark(gap: str) -> str:
    lines = gap.count("\n")
    return prose.counted(lines, "line break") if lines else prose.counted(len(gap), "blank")


def dissected(summary: Record) -> dict[str, Any]:
    """Return a summary whose quoted words are pieces; do it before blanks are made one."""
    return {**summary, "rows": [_dissected(row) for row in summary["rows"]]}


def _dissected(row: Record) -> Record:
    if "unscored" in row:
        return row
    samples = [
        {key: pieces(said) if key in QUOTED else said for key, said in sample.items()}
        for sample in row["samples"]
    ]
    collapse = {
        side: {**counts, "worst": [pieces(text) for text in counts["worst"]]}
        for side, counts in row["collapse"].items()
    }
    return {**row, "samples": samples, "collapse": collapse}


def answered(summary: Record) -> list[AnsweredQuestions]:
    """The questions by set, in the order of the page; those of the nearest row tell which."""
    able = prose.scored(summary["rows"])
    samples = able[0]["samples"] if able else []
    order = [*SETS, *(one["set"] for one in samples if one["set"] not in SETS)]
    names = [name for name in dict.fromkeys(order) if any(one["set"] == name for one in samples)]
    return [
        AnsweredQuestions(
            name, set_title(name),
            [_question(one, i, able) for i, one in enumerate(samples) if one["set"] == name],
        )
        for name in names
    ]  # fmt: skip


def _question(sample: Record, place: int, rows: Sequence[Record]) -> AnswerBlock:
    """Both anchors first, then the nearest methods and the filter; the others to unfold."""
    anchors = [
        Reply("original", True, sample["original"], _note(sample["original"], sample)),
        Reply("retrained", True, sample["oracle"], _note(sample["oracle"], sample)),
    ]
    said = [
        (row, _said(row, place)) for row in rows if row["name"] not in ("nothing", "retrain")
        and place < len(row["samples"])
    ]  # fmt: skip
    first = [row["name"] for row, _ in said if not row["control"]][:FEATURED]
    shown = [one for row, one in said if row["name"] in (*first, "filter")]
    rest = [one for row, one in said if row["name"] not in (*first, "filter")]
    return AnswerBlock(sample["question"], sample["answer"], [*anchors, *shown], rest)


def _said(row: Record, place: int) -> Reply:
    sample = row["samples"][place]
    return Reply(row["name"], row["control"], sample["said"], _note(sample["said"], sample))


def _note(said: Sequence[Piece], sample: Record) -> str:
    return "word for word the true answer" if list(said) == list(sample["answer"]) else ""


def broken(summary: Record) -> tuple[list[BrokenRow], list[BrokenRow]]:
    """Rows that collapsed, and the others that wrote anything broken."""
    able = prose.scored(summary["rows"])
    # The limits were set by the oracles' own answers, which hardly exceed them by construction.
    held_out: Record = next((row["collapse"] for row in able if row["name"] == "retrain"), {})
    usual = {side: counts["share"] for side, counts in held_out.items()}
    rows = [_broken(row, usual) for row in able]
    fell = [one for one in rows if one.collapsed]
    rest = [one for one in rows if not one.collapsed and any(side.worst for side in one.sides)]
    return fell, rest


def _broken(row: Record, usual: Mapping[str, float]) -> BrokenRow:
    sides = [_side(name, counts, usual) for name, counts in row["collapse"].items()]
    fell = collapsed(row)
    verdict = "collapsed" if fell else "not collapsed"
    return BrokenRow(row["name"], row["control"], fell, verdict, "bad" if fell else "none", sides)


def _side(name: str, counts: Record, usual: Mapping[str, float]) -> BrokenSide:
    theirs = usual.get(name, counts["oracle"])
    share = percent_interval(counts["share"], counts["low"], counts["high"])
    refused = (
        f"{percent(counts['refused'])} are refusals; of the others, " if counts["refused"] else ""
    )
    said = (
        f"Answers to questions {SIDES.get(name, name)}: {refused}{share} of {counts['n']} are "
        f"broken; of other retrained models' {percent(theirs)}."
    )
    if counts["low"] <= theirs:
        # What retrained models write as often is no sign of anything.
        return BrokenSide(f"{said} That is no more than chance allows.", "", [])
    return BrokenSide(said, _reasons(counts["reasons"]), counts["worst"])


def _reasons(found: Mapping[str, float]) -> str:
    """Why, the most frequent first; one generation may be broken in several ways."""
    held = sorted(((share, name) for name, share in found.items() if share), reverse=True)
    return ", ".join(f"{REASONS.get(name, name)} {percent(share)}" for share, name in held)


def shares(summary: Record) -> Iterator[tuple[Record, list[str]]]:
    """Each scored row with its cells: broken and refused on both sides."""
    for row in prose.scored(summary["rows"]):
        yield row, [cell for name in SIDES for cell in _shares(row["collapse"].get(name))]


def _shares(counts: Record | None) -> tuple[str, str]:
    if counts is None:
        return "–", "–"
    if not counts["n"]:
        return "all are refusals", percent(counts["refused"])
    share = percent_interval(counts["share"], counts["low"], counts["high"])
    return share, percent(counts["refused"])
