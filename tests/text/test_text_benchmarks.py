from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from small_benchmarks import (
    a_chapter,
    a_lume,
    a_mmlu,
    a_rwku,
    a_tofu,
    some_novels,
    write_lines,
    write_table,
)

from expunge.errors import BadData
from expunge.problems.text.benchmarks.files import Item, TextBenchmark, from_hub
from expunge.problems.text.benchmarks.forgetting import lettered, lume, mmlu, rwku, tofu
from expunge.problems.text.benchmarks.novels import Sizes, novels, split

REAL = pytest.mark.skipif(
    "EXPUNGE_DATA" not in os.environ, reason="set EXPUNGE_DATA to the folder of the benchmarks"
)
Loader = Callable[[Path], TextBenchmark]


SMALL = Sizes(passage=32, probes=5, seen=2, wrong=2)
ALL = [
    pytest.param(a_tofu, tofu, id="tofu"),
    pytest.param(a_lume, lume, id="lume"),
    pytest.param(a_rwku, lambda folder: rwku(folder, ("Ann Onym",)), id="rwku"),
    pytest.param(a_mmlu, mmlu, id="mmlu"),
    pytest.param(some_novels, lambda folder: novels(folder, sizes=SMALL), id="novels"),
]


@pytest.mark.parametrize(("make", "load"), ALL)
def test_every_benchmark_is_sound(
    make: Callable[[Path], Path], load: Loader, tmp_path: Path
) -> None:
    found = load(make(tmp_path))
    sound(found)
    with pytest.raises(TypeError):
        found.sets["forget"] = ()  # type: ignore[index]
    with pytest.raises(BadData, match="Did you mean forget"):
        found["forgot"]


def sound(found: TextBenchmark) -> None:
    """No item is in both, an index says one thing, and no text is its file's raw line."""
    forget = {item.index for item in found["forget"]}
    assert not forget & {item.index for item in found["retain"]}
    if "holdout" in found.sets:
        assert not forget & {item.index for item in found["holdout"]}
    for items in found.sets.values():
        assert len({item.index for item in items}) == len(items)
        for item in items:
            assert item.answer.strip()
            assert item.answer not in item.wrong
            # Fault 11 of open-unlearning: WMDP's lines entered as raw JSON.
            assert not item.answer.startswith('{"')
    assert found.source


@pytest.mark.parametrize(("make", "load"), ALL)
def test_the_folder_is_given_or_told_by_the_environment(
    make: Callable[[Path], Path], load: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(tmp_path)
    below = next(folder.iterdir())
    monkeypatch.setenv("EXPUNGE_DATA", str(folder))
    assert load(below).sets == load(folder).sets == load(None).sets  # type: ignore[arg-type]
    monkeypatch.delenv("EXPUNGE_DATA")
    with pytest.raises(BadData, match=r"--data FOLDER, or set EXPUNGE_DATA.*(Download|Make)"):
        load(None)  # type: ignore[arg-type]
    with pytest.raises(BadData, match="There is no folder"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize(("make", "load"), ALL)
def test_a_missing_or_broken_file_is_told_with_its_name(
    make: Callable[[Path], Path], load: Loader, tmp_path: Path
) -> None:
    files = sorted(one for one in make(tmp_path).rglob("*") if one.is_file())
    for file in files:
        kept = file.read_bytes()
        file.write_bytes(b"\xff\xfe\x00broken")
        with pytest.raises(BadData, match=file.name):
            load(tmp_path)
        file.write_bytes(b"")
        with pytest.raises(BadData, match=file.name):
            load(tmp_path)
        file.unlink()
        with pytest.raises(BadData, match=r"There is no .*(https://|github)"):
            load(tmp_path)
        file.write_bytes(kept)
    sound(load(tmp_path))


BROKEN = {
    "not json": ('{"question": ', "line 7 is not JSON"),
    "no object": ('["a", "b"]', "line 7 is a list"),
    "missing": ('{"question": "q"}', "line 7 has no field 'answer'"),
    "type": ('{"question": "q", "answer": 3}', "line 7: 'answer' is a int"),
    "truth": ('{"question": "q", "answer": true}', "line 7: 'answer' is a bool"),
    "empty": ('{"question": "q", "answer": "  "}', "line 7: 'answer' is empty"),
    "nan": ('{"question": "q", "answer": "a", "x": NaN}', "line 7 holds NaN"),
    "deep": ("[" * 100_000, "line 7 is not JSON"),
    "zero": ('{"question": "q", "answer": "a\\u0000b"}', "line 7: 'answer' holds a zero byte"),
    "surrogate": ('{"question": "q", "answer": "\\ud800"}', "line 7: 'answer' holds half"),
    "digits": ('{"question": "q", "answer": ' + "9" * 5000 + "}", "line 7"),
}


@pytest.mark.parametrize(("line", "said"), BROKEN.values(), ids=BROKEN)
def test_a_hostile_line_is_refused_by_its_number(line: str, said: str, tmp_path: Path) -> None:
    file = a_tofu(tmp_path) / "tofu/full.jsonl"
    lines = file.read_text("utf-8").splitlines()
    lines[6] = line
    file.write_text("\n".join(lines) + "\n", "utf-8")
    with pytest.raises(BadData, match=rf"full\.jsonl, {said}"):
        tofu(tmp_path)


def test_a_byte_order_mark_and_blank_lines_do_no_harm(tmp_path: Path) -> None:
    file = a_tofu(tmp_path) / "tofu/full.jsonl"
    plain = tofu(tmp_path)
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\n\n"))
    assert tofu(tmp_path).sets == plain.sets


def test_a_row_of_a_table_is_refused_by_its_number(tmp_path: Path) -> None:
    rows = pq.read_table(a_mmlu(tmp_path) / "mmlu/test.parquet").to_pylist()
    for change, said in (
        ({"answer": 4}, "answer 4 of 4 options"),
        ({"answer": None}, "'answer' is a NoneType"),
        ({"choices": []}, "'choices' is empty"),
        ({"choices": ["a", None]}, "'choices' holds a NoneType"),
        ({"question": ""}, "'question' is empty"),
    ):
        broken = [dict(row) for row in rows]
        broken[3] |= change
        write_table(tmp_path / "mmlu/test.parquet", broken)
        with pytest.raises(BadData, match=f"test.parquet, row 3: {said}"):
            mmlu(tmp_path)
    truths = [row | {"answer": True} for row in rows]
    write_table(tmp_path / "mmlu/test.parquet", truths)
    with pytest.raises(BadData, match="row 0: 'answer' is a bool"):
        mmlu(tmp_path)
    write_table(tmp_path / "mmlu/test.parquet", [{"subject": "s", "question": "q"}])
    with pytest.raises(BadData, match="no column choices, answer; it has subject, question"):
        mmlu(tmp_path)


def test_tofu_s_splits_are_its_last_authors(tmp_path: Path) -> None:
    a_tofu(tmp_path)
    for split_name, count in (("forget01", 40), ("forget05", 200), ("forget10", 400)):
        found = tofu(tmp_path, split_name)
        assert [len(found[name]) for name in ("forget", "retain", "forget_eval")] == [
            count, 4000 - count, count,
        ]  # fmt: skip
        assert found["forget"][0].index == 4000 - count
        assert found["forget"][0].subject == f"author {200 - count // 20}"
        asked = {item.index: item.answer for item in found["forget_eval"]}
        assert asked == {item.index: item.answer for item in found["forget"]}
    assert found["retain_eval"][0].wrong == tuple(f"Wrong {k}." for k in range(5))
    assert found["real_authors"][1].paraphrases == ()
    with pytest.raises(BadData, match="Did you mean forget10"):
        tofu(tmp_path, "forget100")


def test_tofu_files_of_two_versions_are_refused(tmp_path: Path) -> None:
    file = a_tofu(tmp_path) / "tofu/retain_perturbed.jsonl"
    file.write_text(file.read_text("utf-8").replace("Answer 5.", "Reply 5."), "utf-8")
    with pytest.raises(BadData, match="two versions"):
        tofu(tmp_path)
    full = tmp_path / "tofu/full.jsonl"
    full.write_text("".join(full.read_text("utf-8").splitlines(keepends=True)[:-1]), "utf-8")
    with pytest.raises(BadData, match="3999 questions"):
        tofu(tmp_path)


def test_lume_reads_ids_with_and_without_quotes(tmp_path: Path) -> None:
    found = lume(a_lume(tmp_path))
    assert [item.kind for item in found["forget"]] == [
        "Task1 completion", "Task1 question", "Task2 question",
    ]  # fmt: skip
    assert [item.subject for item in found["forget"]] == ["forget-a", "forget-a", "forget-b7"]
    assert len(found["retain_task2_question"]) == 1
    row = {"id": "abc", "input": "i", "output": "o", "task": "Task1"}
    write_lines(tmp_path / "lume/forget.jsonl", [row])
    with pytest.raises(BadData, match="ends in sc or qa"):
        lume(tmp_path)


def test_forget_and_retain_that_share_a_row_are_refused(tmp_path: Path) -> None:
    a_lume(tmp_path)
    rows = (tmp_path / "lume/forget.jsonl").read_text("utf-8")
    (tmp_path / "lume/retain.jsonl").write_text(rows, "utf-8")
    with pytest.raises(BadData, match="in the forget set and in the retain set"):
        lume(tmp_path)


def test_rwku_gives_probes_by_level_and_keeps_targets_out_of_retain(tmp_path: Path) -> None:
    a_rwku(tmp_path)
    found = rwku(tmp_path, ("Ann Onym",))
    assert [item.prompt for item in found["request"]] == [""]
    assert [item.kind for item in found["forget_adversarial"]] == ["cross lingual (French)"]
    assert {item.subject for item in found["retain"]} == {"Bob", "Cid Cod"}
    both = rwku(tmp_path, ("Ann Onym", "Cid Cod"))
    assert {item.subject for item in both["retain"]} == {"Bob", "Dan"}
    with pytest.raises(BadData, match="Did you mean Ann Onym"):
        rwku(tmp_path, ("Ann Onyma",))


def test_mmlu_keeps_siblings_and_leaves_out_questions_without_one_right_option(
    tmp_path: Path,
) -> None:
    found = mmlu(a_mmlu(tmp_path))
    assert {item.subject for item in found["forget"]} == {"virology"}
    assert len(found["forget"]) == 4
    assert {item.subject for item in found["other"]} == {"marketing"}
    assert len({item.subject for item in found["retain"]}) == 4
    third = found["forget"][2]
    prompt, letter = lettered(third)
    assert letter == "C"
    assert prompt.splitlines()[0] == "virology 2?"
    assert prompt.splitlines()[3:] == ["C. virology 2 2", "D. virology 2 3", "Answer:"]
    with pytest.raises(BadData, match="Name the subjects to retain"):
        mmlu(tmp_path, ("marketing",))
    with pytest.raises(BadData, match="forgotten and kept"):
        mmlu(tmp_path, ("marketing",), ("marketing",))
    with pytest.raises(BadData, match="Did you mean anatomy"):
        mmlu(tmp_path, ("virology",), ("anatomie",))
    with pytest.raises(BadData, match="no options"):
        lettered(Item(0, "q", "a"))


def test_a_novel_s_passages_put_together_are_the_novel(tmp_path: Path) -> None:
    text = a_chapter("One", "forget", ["Ambrel"], 0)["text"]
    for count in (4, 7, 50, 1000):
        parts = split(text, count)
        assert " ".join(" ".join(parts).split()) == " ".join(text.split())
        assert all(len(part.split()) <= count * 5 / 4 for part in parts)
    assert split("  \n ", 5) == []
    assert len(split("a b c d e", 4)) == 2
    assert len(split("a b c d e f g h i", 8)) == 1


def test_novels_are_probed_six_ways(tmp_path: Path) -> None:
    found = novels(some_novels(tmp_path), sizes=SMALL)
    by_index = {item.index: item.answer for item in found["forget"]}
    for item in found["verbatim"]:
        whole = " ".join(f"{item.prompt} {item.answer}".split())
        assert whole == " ".join(by_index[item.index].split())
    names = {"Ambrel", "Bostock", "Cuddle"}
    for item in found["knowledge"]:
        assert item.answer in names
        assert set(item.wrong) <= names - {item.answer}
        assert item.answer not in item.prompt
        assert "___" in item.prompt
    assert len(found["privacy_forget"]) == len(found["privacy_holdout"])
    requests = [item for fold in range(1, 5) for item in found[f"request_{fold}"]]
    assert tuple(requests) == found["forget"] == found["size_4"]
    for fold in range(1, 4):
        assert found[f"size_{fold}"] == found[f"size_{fold + 1}"][: len(found[f"size_{fold}"])]


def test_a_name_that_another_novel_knows_is_not_asked_for(tmp_path: Path) -> None:
    rows = [
        a_chapter(book, role, names, at)
        for book, role, names in (
            ("One", "forget", ["Ambrel", "Bostock", "Dormer"]),
            ("Two", "retain", ["Dormer", "Everly", "Fosdick"]),
            ("Three", "holdout", ["Gimble", "Hodger"]),
        )
        for at in range(3)
    ]
    write_table(tmp_path / "books/books.parquet", rows)
    found = novels(tmp_path, sizes=SMALL)
    for name in ("knowledge", "retain_knowledge"):
        assert found[name]
        for item in found[name]:
            assert "Dormer" not in (item.answer, *item.wrong)


def test_a_passage_keeps_its_index_whatever_its_novel_s_role(tmp_path: Path) -> None:
    folder = some_novels(tmp_path)
    first = novels(folder, sizes=SMALL)
    roles = {"forget": ["Two"], "retain": ["One"], "holdout": ["Three"]}
    other = novels(folder, roles, SMALL)
    assert other["forget"] == first["retain"]
    assert other["retain"] == first["forget"]
    for wrong in ({"forget": ["One"]}, roles | {"retain": ["Two"]}, roles | {"retain": ["Twoo"]}):
        with pytest.raises(BadData, match=r"roles|Did you mean"):
            novels(folder, wrong, SMALL)
    with pytest.raises(BadData, match="4 words"):
        Sizes(passage=1)


def test_the_hub_is_asked_for_data_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def snapshot_download(repository: str, **more: Any) -> None:
        asked.append({"repository": repository, **more})
        if repository == "cais/mmlu":
            raise OSError("no route to host")

    fake = types.SimpleNamespace(snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)  # type: ignore[arg-type]
    assert from_hub("tofu", tmp_path) == tmp_path / "tofu"
    assert asked[0]["repository"] == "locuslab/TOFU"
    assert asked[0]["repo_type"] == "dataset"
    assert all(one.endswith(("json", "jsonl")) for one in asked[0]["allow_patterns"])
    with pytest.raises(BadData, match=r"no route to host.*by hand"):
        from_hub("mmlu", tmp_path)
    with pytest.raises(BadData, match="Did you mean tofu"):
        from_hub("tofoo", tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(BadData, match=r"pip install 'expunge\[lm\]'"):
        from_hub("tofu", tmp_path)


@REAL
@pytest.mark.parametrize(
    ("load", "counts"),
    [
        (tofu, {"forget": 400, "retain": 3600, "holdout": 400, "real_authors": 100}),
        (lume, {"forget": 2732, "retain": 2734, "forget_task2_question": 1250}),
        (rwku, {"forget": 47, "forget_adversarial": 29}),
        (mmlu, {"forget": 166, "shots": 25}),
        (novels, {"forget": 653, "retain": 2887, "verbatim": 100, "knowledge": 100}),
    ],
    ids=["tofu", "lume", "rwku", "mmlu", "novels"],
)
def test_the_real_files(load: Callable[[], TextBenchmark], counts: dict[str, int]) -> None:
    found = load()
    sound(found)
    assert {name: len(found[name]) for name in counts} == counts
