"""From text to rows: where answers begin, what is refused, and files with one object a line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import tiny_text
import torch

from expunge.core.batch import Subset
from expunge.core.problem import Problem
from expunge.core.texts import Texts
from expunge.errors import BadData
from expunge.problems.networks.language import word_tokenizer
from expunge.problems.text.encode import of_pairs, of_plain
from expunge.problems.text.jsonl import read

TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def said(data: Texts, tokenizer: Any, row: int = 0) -> tuple[str, str]:
    """Prompt and scored part of a row, decoded."""
    ids = data.made[row].ids
    start = data.made[row].start
    return tokenizer.decode(ids[:start]), tokenizer.decode(ids[start:])


def test_the_answer_alone_and_its_end_are_scored() -> None:
    told = said(tiny_text.pairs(slice(0, 2)), tiny_text.tokenizer())
    assert told == ("<s>Where does Ada live?", " Ada lives in Rome.</s>")
    assert tiny_text.pairs(slice(0, 2)).prompts[1] == "Where does Bo live?"
    assert tiny_text.pairs(slice(0, 2)).answers[1] == "Bo lives in Oslo."


def test_a_tokenizer_without_padding_pads_with_its_end_and_hides_nothing() -> None:
    tokenizer = tiny_text.tokenizer()
    assert tokenizer.pad_token_id is None
    longer = [("Where does Ada live?", "Ada lives in Rome. Ada lives in Rome."), tiny_text.PAIRS[1]]
    batch = of_pairs(longer, tokenizer).batch(torch.arange(2))
    end = tokenizer.eos_token_id
    assert batch.inputs[1, -1] == end
    # the real end is seen and scored, those that pad are neither
    assert int((batch.inputs[1] == end).sum()) == 1 + int((~batch.mask[1]).sum())
    assert int((batch.targets[1] == end).sum()) == 1
    assert bool(batch.mask[0].all())


def test_a_slow_tokenizer_encodes_both_parts_alone() -> None:
    class Slow:
        is_fast, eos_token_id, pad_token_id, model_max_length = False, 0, None, 99

        def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
            return {"input_ids": [1] * add_special_tokens + [len(w) for w in text.split()]}

    row = of_pairs([("who is it", "nobody")], Slow()).made[0]
    assert row.ids.tolist() == [1, 3, 2, 2, 6, 0]
    assert row.start == 4


def test_a_chat_is_split_where_the_template_lets_the_model_speak() -> None:
    tokenizer = word_tokenizer(["user: assistant:\nWhere does Ada live? Rome."])
    tokenizer.chat_template = TEMPLATE
    told = said(of_pairs([("Where does Ada live?", "Rome.")], tokenizer, chat=True), tokenizer)
    # the space before the answer is part of its first token
    assert told == ("user: Where does Ada live?\nassistant:", " Rome.\n")
    with pytest.raises(BadData, match="template"):
        of_pairs([("a", "b")], tiny_text.tokenizer(), chat=True)
    tokenizer.chat_template = "{{ messages | length }} " + TEMPLATE
    with pytest.raises(BadData, match="differently"):
        of_pairs([("Where?", "Rome.")], tokenizer, chat=True)


CHATML = (
    "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)
THINKING = CHATML.replace(
    "\n{{ m['content']", "\n{% if m['role'] == 'assistant' %}think: \n{% endif %}{{ m['content']"
)
DATED = "{{ strftime_now('%d %b %Y') }}\n" + CHATML


def chatting(template: str) -> Any:
    made = word_tokenizer(["user assistant think Where? Rome. lives 26 Jul 2024 </s> <s> \n:"])
    made.chat_template = template
    return made


def test_nothing_of_a_template_is_scored_but_the_end_of_the_turn() -> None:
    for template in (CHATML, THINKING):
        tokenizer = chatting(template)
        row = of_pairs([("Where?", "Rome.")], tokenizer, chat=True).made[0]
        assert tokenizer.decode(row.ids[row.start :]).replace(" ", "") == "Rome.</s>"
    assert "think" in tokenizer.decode(row.ids[: row.start])


def test_a_template_with_today_s_date_gives_the_same_rows_every_day() -> None:
    tokenizer = chatting(DATED)
    row = of_pairs([("Where?", "Rome.")], tokenizer, chat=True).made[0]
    assert "26 Jul 2024" in " ".join(tokenizer.decode(row.ids[: row.start]).split())


@pytest.mark.parametrize(
    "template",
    ["{{ raise_exception('no users here') }}", "{{ messages[7]['role'] }}", "{{ 1 / 0 }}", "{% if"],
)
def test_a_template_that_fails_is_one_sentence(template: str) -> None:
    with pytest.raises(BadData, match="chat template fails: "):
        of_pairs([("Where?", "Rome.")], chatting(template), chat=True)


def test_plain_text_is_scored_but_for_its_first_token() -> None:
    batch = of_plain(["Ada lives in Rome."], tiny_text.tokenizer()).batch(torch.arange(1))
    assert batch.targets.tolist() == [batch.inputs[0, 1:].tolist()]


def test_chunks_hold_every_token_once() -> None:
    tokenizer = tiny_text.tokenizer()
    texts = [answer for _, answer in tiny_text.PAIRS]
    whole = [tokenizer(text)["input_ids"] + [tokenizer.eos_token_id] for text in texts]
    data = of_plain(texts, tokenizer, chunk=7)
    found = [token for row in data.made for token in row.ids.tolist()]
    assert found == [token for row in whole for token in row][: len(found)]
    assert len(found) >= sum(map(len, whole)) - 1
    assert {len(row.ids) for row in data.made[:-1]} == {7}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda t: of_pairs([("a", " ")], t), "empty answer"),
        (lambda t: of_pairs([("a",)], t), "two texts"),
        (lambda t: of_pairs([("a", 3)], t), "two texts"),
        (lambda t: of_pairs([("a", "Ada")], t, instead=["x", "y"]), "one each"),
        (lambda t: of_pairs([("a", "Ada")], t, instead=[""]), "empty answer"),
        (lambda t: of_pairs([("a", "Ada " * 40)], t), "context holds 32"),
        (lambda t: of_pairs([tiny_text.PAIRS[0]], t, context=11), "12 tokens.*context holds 11"),
        (lambda t: of_plain(["Ada", " \n"], t), "Text 1 is empty"),
        (lambda t: of_plain(["Ada " * 40], t), "chunks"),
        (lambda t: of_plain([], t), "no text"),
    ],
)
def test_what_is_refused(make: Any, words: str) -> None:
    with pytest.raises(BadData, match=words):
        make(tiny_text.tokenizer())


def test_a_text_cannot_be_forgotten_and_retained() -> None:
    tokenizer = tiny_text.tokenizer()
    one, other = of_pairs(tiny_text.PAIRS[:3], tokenizer), of_pairs(tiny_text.PAIRS[2:], tokenizer)
    with pytest.raises(BadData, match="1 texts"):
        Problem.of(forget=one, retain=other)
    whole = of_pairs([*tiny_text.PAIRS, tiny_text.PAIRS[0]], tokenizer)
    with pytest.raises(BadData, match="1 texts"):
        Problem.split(whole, torch.tensor([0]))
    kept = Problem.split(whole, torch.tensor([0, 8]))
    assert isinstance(kept.data("forget"), Subset)
    assert len(kept.data("retain")) == 7


def written(folder: Path, *lines: Any) -> Path:
    path = folder / "file.jsonl"
    said = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(said) + "\n", "utf-8")
    return path


def test_files_of_pairs_and_of_texts(tmp_path: Path) -> None:
    rows = [{"question": q, "answer": a, "more": 1} for q, a in tiny_text.PAIRS]
    lines = read(written(tmp_path, *rows, ""), prompt="question")
    assert list(lines.pairs) == tiny_text.PAIRS
    assert len(lines.encoded(tiny_text.tokenizer())) == 8
    other = [{"prompt": "p", "answer": "Ada", "instead": "Bo\u2028\x0b"}]
    assert read(written(tmp_path, *other)).instead == ("Bo\u2028\x0b",)
    plain = read(written(tmp_path, {"text": "Ada"}, {"text": "Bo lives"}))
    assert plain.plain == ("Ada", "Bo lives")
    assert len(plain.encoded(tiny_text.tokenizer(), chunk=3)) == 2


PAIR = {"prompt": "p", "answer": "a"}


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ((), "no line"),
        ((PAIR, "{"), "line 2: no JSON"),
        ((PAIR, "", "[1]"), "line 3: expected an object, got list"),
        ((PAIR, {"prompt": "p"}), "line 2: 'answer' is missing"),
        ((PAIR, {"prompt": "p", "answer": " "}), "line 2: 'answer' is ' '"),
        (({"prompt": "p", "answer": None},), "line 1: 'answer' is None"),
        ((PAIR, {"text": "t"}), "line 2: 'prompt' is missing"),
        (({"text": "t"}, PAIR), "line 2: 'text' is missing"),
        (({**PAIR, "instead": "i"}, PAIR), "line 2: 'instead' is missing"),
        ("[" * 100_000, "holds a JSON array"),
        ('{"a":' * 100_000, "line 1: no JSON|nested"),
    ],
    ids=range(11),
)
def test_a_bad_line_is_named(tmp_path: Path, lines: Any, words: str) -> None:
    given = (lines,) if isinstance(lines, str) else lines
    with pytest.raises(BadData, match=words):
        read(written(tmp_path, *given))


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="no file"):
        read(tmp_path / "none.jsonl")
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadData, match=r"bytes.jsonl, line 1 is not UTF-8"):
        read(tmp_path / "bytes.jsonl")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"prompt": "p", "answer": "a", "n": ' + b"9" * 5000 + b"}", "line 1: no JSON"),
        (b'{"prompt": "p\\ud800", "answer": "a"}', "half a surrogate pair"),
        (b'{"prompt": "p", "answer": "' + b"a" * 17_000_000 + b'"}', "line 1 is longer than"),
    ],
    ids=["digits", "surrogate", "length"],
)
def test_a_hostile_line_is_a_sentence(line: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "file.jsonl").write_bytes(line)
    with pytest.raises(BadData, match=words):
        read(tmp_path / "file.jsonl")


def test_a_pipe_or_a_folder_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    for path in (tmp_path / "pipe.jsonl", tmp_path):
        with pytest.raises(BadData, match="no file that can be read"):
            read(path)
