"""Problems of texts by name, files of the user's own, a model of the user's own, and refusals."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_benchmarks
import text_tools
import torch
from typer.testing import CliRunner

from expunge.cli.main import app
from expunge.cli.options import adjusted
from expunge.core.store import Store
from expunge.engine.stacking import Looped, Timing
from expunge.errors import BadData, BadSentence
from expunge.experiments.experiment import Experiment, load, parse, read, shipped, to_toml
from expunge.experiments.graph import make
from expunge.experiments.make import STACK, blocks, make_block, runs_of
from expunge.experiments.plan import Plan
from expunge.experiments.planning import plan_for
from expunge.experiments.progress import cost_lines
from expunge.methods.sentences import as_method
from expunge.problems.forget_sets import Marked, Subjects
from expunge.problems.text.benchmarks.files import Item
from expunge.problems.text.by_name import REFUSAL
from expunge.problems.text.evaluation_sets import MOST, front
from expunge.problems.text.models import save
from expunge.problems.text.people import people

ROOT = Path(__file__).parents[2]


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def pairs(items: list[Item], **more: Any) -> list[dict[str, Any]]:
    return [{"prompt": i.prompt, "answer": i.answer, "subject": i.subject, **more} for i in items]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    every = text_tools.items()
    for name, some in (("forget", every[:6]), ("retain", every[6:18]), ("holdout", every[18:])):
        lines(tmp_path / f"{name}.jsonl", pairs(some))
    yield tmp_path


def mine(folder: Path, **changes: Any) -> Experiment:
    recipe = as_method(text_tools.RECIPE, "recipe")
    fields = {
        "problem": "texts", "architecture": "tiny_llama", "forget": "Marked()", "members": 2,
        "data": str(folder), "protocol": "paired", **changes,
    }  # fmt: skip
    return Experiment("mine", recipe, (), **fields)


def test_the_shipped_experiment_asks_what_it_says() -> None:
    plan = plan_for(load("people"))
    asked = {one.name: one for one in plan.task.setting.asked}
    assert {name: one.side for name, one in asked.items()} == {
        "forget": "forget", "forget_paraphrase": "forget", "retain": "retain",
        "neighbours": "retain", "world": "retain", "holdout": "holdout",
    }  # fmt: skip
    assert len(plan.problem.sets["forget"]) == 180  # ten people, nine facts, asked in two ways
    people_of = {name: {item.subject for item in one.items} for name, one in asked.items()}
    assert not people_of["retain"] & people_of["neighbours"]
    assert people_of["forget"] == people_of["forget_paraphrase"]
    assert all(len(one.items) <= MOST for one in asked.values())
    assert [i.index for i in asked["forget"].items] == [
        i.index for i in asked["forget_paraphrase"].items
    ]


def test_what_is_only_asked_is_never_taught() -> None:
    plan = plan_for(text_tools.few())
    train = plan.problem.sets["train"]
    taught = {row.prompt for part in (train.first, train.second) for row in part.made}
    asked = {one.name: one for one in plan.task.setting.asked}
    for name in ("forget_paraphrase", "holdout"):
        assert not taught & set(asked[name].texts.prompts)
    assert set(asked["forget"].texts.prompts) <= taught
    assert set(plan.problem.sets) == {"train", "forget", "retain", "holdout"}


def test_a_world_of_its_own_for_every_forget_seed() -> None:
    first, other = (plan_for(replace(text_tools.few(), forget_seed=seed)) for seed in (0, 1))
    assert first.spec != other.spec
    assert first.spec == plan_for(text_tools.few()).spec


def test_the_shipped_experiment_round_trips_and_its_methods_fit() -> None:
    from expunge.engine.check import check_fit

    found = load("people")
    assert "people" in shipped()
    assert read(to_toml(found), "again") == found
    plan = plan_for(found)
    for method in plan.methods:
        check_fit(method, plan.problem)
    assert {"gibberish", "npo", "grad_diff", "idk_dpo"} <= {m.name for m in found.methods}
    assert all("small model" in m.source or "control" in m.source for m in found.methods)


def test_a_forecast_without_training() -> None:
    plan = plan_for(text_tools.few())
    told = {line.what: line for line in cost_lines(plan, Timing(0.01, None))}
    assert told["oracles"].models == 2
    assert 0 < (told["finetune"].examples or 0) < (told["oracles"].examples or 0)


def test_front_takes_whole_subjects() -> None:
    made = people(0, forget=10, retain=40)["retain_people"]
    assert len(front(made)) == 90
    assert len(front(made, 20)) == 18
    assert {i.subject for i in front(made, 20)} == {made[0].subject, made[9].subject}
    assert len(front(made[:5], 3)) == 3  # one subject alone is cut


def test_files_of_one_s_own(folder: Path) -> None:
    plan = plan_for(mine(folder))
    asked = {one.name: one for one in plan.task.setting.asked}
    assert list(asked) == ["forget", "retain", "holdout"]
    assert asked["forget"].groups == ["Ada", "Ada", "Bo", "Bo", "Cy", "Cy"]
    assert asked["forget"].wrong is None
    tokens = plan.problem.sets["forget"].batch(torch.arange(1))
    assert tokens.instead is not None
    assert plan.task.setting.tokenizer.unk_token_id not in tokens.inputs


def test_other_answers_and_other_questions_are_optional(folder: Path) -> None:
    every = text_tools.items()
    more = {"questions": ["Tell me?"], "paraphrases": ["So it is."], "wrong": ["No.", "Never."]}
    lines(folder / "forget.jsonl", pairs(every[:6], **more))
    (folder / "holdout.jsonl").unlink()
    plan = plan_for(mine(folder))
    asked = {one.name: one for one in plan.task.setting.asked}
    assert list(asked) == ["forget", "forget_paraphrase", "retain"]
    assert asked["forget"].wrong is not None
    assert asked["forget"].wrong.counts.tolist() == [2] * 6
    assert set(asked["forget_paraphrase"].texts.prompts) == {"Tell me?"}


def test_plain_texts(tmp_path: Path) -> None:
    texts = [f"{i.prompt} {i.answer}" for i in text_tools.items()]
    lines(tmp_path / "forget.jsonl", [{"text": text} for text in texts[:6]])
    lines(tmp_path / "retain.jsonl", [{"text": text} for text in texts[6:18]])
    plan = plan_for(mine(tmp_path))
    asked = plan.task.setting.asked
    assert [one.written for one in asked] == [False, False]
    told, about = plan.task.collect(plan, plan.problem.untrained("x"), "oracle")
    assert about["generations"] == {}
    assert set(told) == {"evidence"}


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        ({"forget.jsonl": None}, "no file .*forget.jsonl"),
        ({"forget.jsonl": ""}, "holds no line"),
        ({"forget.jsonl": "{"}, "line 1 is not JSON"),
        ({"forget.jsonl": '{"prompt": "a?", "answer": ""}'}, "'answer' is empty"),
        ({"forget.jsonl": '{"prompt": "a?"}'}, "no field 'answer'"),
        ({"forget.jsonl": '{"prompt": "a?", "answer": "b", "wrong": "c"}'}, "'wrong' must be a"),
        (
            {"forget.jsonl": '{"prompt": "a?", "answer": "b", "subject": 3}'},
            "'subject' and 'value'",
        ),
        (
            {"forget.jsonl": '{"prompt": "a?", "answer": "b", "value": "c"}'},
            "does not stand in the",
        ),
        ({"forget.jsonl": '{"question": "a?", "answer": "b"}'}, "no field 'text'"),
    ],
)
def test_broken_files_are_told(folder: Path, break_it: dict[str, str | None], words: str) -> None:
    for name, text in break_it.items():
        (folder / name).unlink()
        if text is not None:
            (folder / name).write_text(text)
    with pytest.raises(BadData, match=words):
        plan_for(mine(folder))


def test_a_row_in_both_files_is_refused(folder: Path) -> None:
    lines(folder / "forget.jsonl", pairs(text_tools.items()[5:8]))
    with pytest.raises(BadData, match="in the forget set and in the retain set"):
        plan_for(mine(folder))


def test_forget_sets_and_problems_are_named_right(folder: Path) -> None:
    assert parse("Subjects(3)") == Subjects(3)
    assert parse(repr(Marked())) == Marked()
    for wrong in ("Subjects(0)", "Subjects('x')", "Subjects(1.5)"):
        with pytest.raises(BadSentence, match="Subjects"):
            parse(wrong)
    with pytest.raises(BadData, match=re.escape("write Subjects(10)")):
        plan_for(replace(text_tools.few(), forget="RandomShare(0.1)"))
    with pytest.raises(BadData, match=re.escape("Marked()")):
        plan_for(mine(folder, forget="Subjects(1)"))
    with pytest.raises(BadData, match="needs a folder"):
        plan_for(mine(folder, data=""))
    with pytest.raises(BadData, match="Did you mean people"):
        plan_for(replace(text_tools.few(), problem="peopel"))
    with pytest.raises(BadData, match="Did you mean tiny_llama"):
        plan_for(replace(text_tools.few(), architecture="tiny_lama"))
    with pytest.raises(BadData, match="retain at least twice forget"):
        plan_for(replace(text_tools.few(), forget="Subjects(5)"))
    with pytest.raises(BadData, match="no forget set"):
        plan_for(replace(text_tools.few(), problem="digits"))


def test_tofu_by_its_authors(tmp_path: Path) -> None:
    small_benchmarks.a_tofu(tmp_path)
    few = replace(text_tools.few(), problem="tofu", data=str(tmp_path), train_size=0)
    plan = plan_for(replace(few, forget="Subjects(2)"))
    asked = {one.name: one for one in plan.task.setting.asked}
    assert len(plan.problem.sets["forget"]) >= 40
    assert asked["forget"].paraphrased is not None
    assert asked["world"].paraphrased is None
    with pytest.raises(BadData, match=re.escape("Subjects(2), Subjects(10) or Subjects(20)")):
        plan_for(replace(few, forget="Subjects(3)"))


def test_a_model_folder_is_where_training_begins(folder: Path, tmp_path: Path) -> None:
    setting = text_tools.setting()
    start = text_tools.plan().problem.untrained("mine")
    place = save(start, setting.tokenizer, tmp_path / "model")
    recipe = "Train(CE('train'), epochs=1, lr=0.001, batch=16)"
    mine_ = mine(folder, architecture=str(place))
    plan = plan_for(replace(mine_, recipe=as_method(recipe, "recipe")))
    fresh = plan.problem.untrained("any")
    for a, b in zip(fresh.parameters(), start.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a.requires_grad
        assert a.data_ptr() != b.data_ptr()
    store = Store(tmp_path / "store")
    first = blocks(plan, STACK)[0]
    assert make_block(plan, store, first, Looped(), True) == "made"
    moved = store.about(plan.original(0))["receipt"]["moved"]
    assert 0 < moved < 0.5  # near where it began, not drawn anew
    assert len(runs_of(plan, store, first)) == 2


def test_a_text_beyond_the_model_s_context_is_refused(folder: Path, tmp_path: Path) -> None:
    place = save(
        text_tools.plan().problem.untrained("mine"), text_tools.setting().tokenizer, tmp_path / "m"
    )
    long = {"prompt": "Where does Ada live?", "answer": "Ada lives in Rome. " * 20}
    lines(folder / "forget.jsonl", [long])
    with pytest.raises(BadData, match="context holds 32"):
        plan_for(mine(folder, architecture=str(place)))


def test_the_page_s_method_and_metric_are_as_it_says(tmp_path: Path) -> None:
    page = (ROOT / "docs/language.md").read_text()
    said = re.search(r'--method "gentle=(.*?)"', page)
    assert said
    chosen = adjusted(text_tools.few(), "", [f"gentle={said[1]}"])
    plan = text_tools.plan({"gentle": said[1]})
    assert chosen.methods[-1].sentence == plan.experiment.methods[-1].sentence
    store = Store(tmp_path / "store")
    for block in blocks(plan, STACK)[:2]:
        make_block(plan, store, block, Looped(), True)
    code = re.findall(r"```python\n(.*?)```", page, re.S)[-1]
    told: dict[str, Any] = {"plan": plan, "store": store, "np": np}
    exec(compile(code, "docs/language.md", "exec"), told)
    said_by = store.about(plan.evidence(plan.original(0)))["generations"]["forget"]
    wanted = np.mean([len(text) for text in said_by])
    assert told["written"](plan.original(0)) == pytest.approx(wanted)


def test_the_page_s_experiment_file_can_be_read(folder: Path) -> None:
    page = (ROOT / "docs/language.md").read_text()
    text = re.search(r"```toml\n(.*?)```", page, re.S)
    assert text
    found = read(text[1], "docs/language.md")
    plan = plan_for(replace(found, data=str(folder)))
    assert [m.name for m in plan.methods] == ["retrain", "nothing", "npo"]
    row = re.search(r"```json\n(.*?)```", page, re.S)
    assert row
    assert json.loads(row[1]).keys() == {"prompt", "answer"}


def bits(plan: Plan, store: Store) -> list[dict[str, torch.Tensor]]:
    jobs = [plan.original(0), plan.oracle(1), plan.unlearned(plan.experiment.methods[0], 1)]
    return [store.tensors(job, "model") for job in jobs]


@pytest.mark.slow
def test_two_processes_give_the_same_products_and_every_command_knows_them(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    plan = plan_for(text_tools.few())
    stores = [Store(tmp_path / name) for name in ("one", "two")]
    for _ in make(plan, stores[0]):
        continue
    (tmp_path / "few.toml").write_text(text_tools.PEOPLE)
    at = ["--store", str(stores[1].root)]
    assert "retrain (control)" in told("run", str(tmp_path / "few.toml"), "--jobs", "2", *at)
    for a, b in zip(*(bits(plan, store) for store in stores), strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)
    said = [store.about(plan.evidence(plan.oracle(0))) for store in stores]
    assert said[0] == said[1]
    assert REFUSAL not in said[0]["generations"]["neighbours"]
    numbers = [store.about(plan.score(plan.retrain)) for store in stores]
    assert numbers[0]["distance"] == numbers[1]["distance"]
    assert "scores: 3 of 3" in told("status", "few", *at)
    assert told("report", "few", *at).strip().endswith("few.html")
    assert "filter (control)" in told("rank", "few", *at)
    assert told("rank", "few", "--markdown", *at).startswith("| rank |")


def told(*words: str) -> str:
    """What a command prints."""
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.output
    return done.output
