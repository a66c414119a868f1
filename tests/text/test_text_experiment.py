"""Experiments on language models: made once, resumed, refused where they make no sense, ranked."""

from __future__ import annotations

import importlib.util
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import text_tools
import torch
from rich.console import Console

from expunge.core.method import Method
from expunge.core.store import Store
from expunge.engine.inference import generate, likelihoods
from expunge.engine.stacking import Looped
from expunge.errors import BadData, BadEvidence, StoreError
from expunge.experiments.graph import make
from expunge.experiments.make import blocks, make_block
from expunge.experiments.plan import Plan
from expunge.experiments.summary import keep, summary
from expunge.experiments.text import task as room
from expunge.experiments.text.evidence import collect_answers, generated_answers, read_answers
from expunge.experiments.text.normalised_metrics import MetricRow, RecordedAnswers
from expunge.experiments.text.scoring import samples
from expunge.problems.text.by_name import REFUSAL
from expunge.problems.text.encode import of_pairs
from expunge.problems.text.people import rephrased
from expunge.report.page import write
from expunge.report.terminal import draw, markdown


def carried_out(made: Plan, store: Store) -> Store:
    for _ in make(made, store):
        continue
    return store


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The experiment on twelve people, carried out; not to be changed."""
    torch.set_num_threads(1)
    return carried_out(text_tools.plan(), Store(tmp_path_factory.mktemp("done") / "store"))


@pytest.fixture(scope="module")
def found(done: Store) -> dict[str, Any]:
    return keep(text_tools.plan(), done)


def test_everything_is_made_once(done: Store) -> None:
    made = text_tools.plan()
    for method in made.methods:
        assert done.has(made.score(method))
    assert len(list(done.root.glob("original/*/*"))) == 2
    assert len(list(done.root.glob("oracle/*/*"))) == 2
    # two methods and the held-out retraining, two members each; `nothing` is the original
    assert len(list(done.root.glob("unlearned/*/*"))) == 6
    assert len(list(done.root.glob("evidence/*/*"))) == 10
    assert list(make(text_tools.plan(), done)) == []


def test_no_product_is_pickled(done: Store) -> None:
    files = [file for file in done.root.rglob("*") if file.is_file()]
    ends = {file.suffix for file in files if file.parent.parent.parent.parent == done.root}
    assert ends == {".json", ".safetensors"}


def test_the_order_of_rows(found: dict[str, Any]) -> None:
    names = [row["name"] for row in found["rows"]]
    assert names[0] == "retrain"
    assert set(names) == {"retrain", "nothing", "filter", "gibberish", "finetune"}
    assert found["rows"][0]["rank"] == 1 < found["rows"][-1]["rank"]
    values = [row["distance"]["value"] for row in found["rows"]]
    assert values == sorted(values)
    assert {row["name"] for row in found["rows"] if row["control"]} == {
        "retrain", "nothing", "filter", "gibberish",
    }  # fmt: skip


def test_the_anchors(found: dict[str, Any]) -> None:
    rows = {row["name"]: row for row in found["rows"]}
    assert found["floor"]["forget"] == pytest.approx(1.0, abs=0.1)
    assert found["ceiling"]["value"] < 0.5 < found["floor"]["value"]
    assert rows["gibberish"]["distance"]["value"] > found["floor"]["value"]
    assert rows["gibberish"]["verdict"].startswith("collapsed")
    assert "original" in rows["filter"]["verdict"]
    told = rows["nothing"]["scores"]["probability, forget"]
    assert told["remaining"] == pytest.approx(1.0)
    assert told["value"] == told["original"]["value"] > told["oracle"]["value"]
    assert rows["retrain"]["membership"]["loss"]["gap"]["low"] <= 0
    assert rows["nothing"]["cost"]["time_share"] == 0


def test_the_filter_has_the_original_s_probabilities(found: dict[str, Any]) -> None:
    rows = {row["name"]: row for row in found["rows"]}
    mine, theirs = (rows[name]["scores"] for name in ("filter", "nothing"))
    for gauge in ("probability, forget", "exact memorisation, forget", "probability, retain"):
        assert mine[gauge]["value"] == theirs[gauge]["value"]
    assert mine["rouge recall, forget"]["value"] == 0
    assert rows["filter"]["collapse"]["forget"]["refused"] == 1
    assert all(one["said"] == REFUSAL for one in rows["filter"]["samples"][:2])


def test_paraphrased_questions_are_shown_beside_the_same_facts() -> None:
    """Four answers of each set; the first and the last fact are asked in both ways."""
    asked = text_tools.setting().asked[0]
    again = replace(asked, name="forget_paraphrase", items=rephrased(asked.items))

    def wrote(who: str) -> RecordedAnswers:
        each = {
            one.name: replace(
                text_tools.answers(0.5, index=range(6)),
                generations=tuple(f"{who}, {one.name}, {place}" for place in range(6)),
            )
            for one in (asked, again)
        }
        return RecordedAnswers(each)

    sides = {name: (wrote(name), wrote("another")) for name in ("subject", "oracle", "original")}
    told = samples(MetricRow((asked, again), **sides))
    assert [one["set"] for one in told] == ["forget"] * 4 + ["forget_paraphrase"] * 2
    plain, other = told[:4], told[4:]
    assert [one["answer"] for one in other] == [plain[0]["answer"], plain[3]["answer"]]
    assert [one["question"] for one in other] == [
        asked.items[place].questions[0] for place in (0, 5)
    ]
    assert {key: other[1][key] for key in ("said", "oracle", "original")} == {
        "said": "subject, forget_paraphrase, 5",
        "oracle": "oracle, forget_paraphrase, 5",
        "original": "original, forget_paraphrase, 5",
    }


def test_a_new_score_asks_no_model_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made = text_tools.plan()
    method = made.experiment.methods[0]
    before = (made.evidence(made.oracle(0)).key, made.score(method).key)
    monkeypatch.setattr(room, "SCORE_VERSION", 999)
    after = (made.evidence(made.oracle(0)).key, made.score(method).key)
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_the_summary_is_plain_json_and_says_what_was_measured(found: dict[str, Any]) -> None:
    assert json.loads(json.dumps(found, allow_nan=False)) == json.loads(json.dumps(found))
    assert found["kind"] == "language"
    assert found["experiment"]["methods"]["finetune"].startswith("Train(CE('retain')")
    assert found["problem"]["asked"]["holdout"] == {
        "side": "holdout", "questions": 6, "subjects": 3, "written": False, "options": False,
    }  # fmt: skip
    assert found["problem"]["sizes"] == {"forget": 6, "retain": 12, "holdout": 6, "train": 18}
    assert "transformers" in found["versions"]
    counted = [gauge["name"] for gauge in found["gauges"] if gauge["counts"]]
    assert tuple(counted) == tuple(found["ceiling"]["gauges"])


def test_the_table_and_the_report(found: dict[str, Any], done: Store, tmp_path: Path) -> None:
    text = io.StringIO()
    draw(found, Console(file=text, width=200, color_system=None))
    lines = text.getvalue().splitlines()
    assert lines[1].startswith("retrain (control)")
    assert "0 = as retrained, 1 = the original" in text.getvalue().replace("\n", " ")
    page = write(found, tmp_path / "page.html").read_text()
    assert "twelve" in page
    assert "<script" not in page


def test_a_table_for_a_readme_and_a_record(found: dict[str, Any], tmp_path: Path) -> None:
    lines = markdown(found).splitlines()
    assert lines[2].startswith("| 1 | retrain (control) | 0.")
    assert len(lines) == 2 + 5
    assert {line.count("|") for line in lines} == {lines[0].count("|")}
    tools = Path(__file__).parents[2] / "tools"
    spec = importlib.util.spec_from_file_location("records", tools / "records.py")
    assert spec
    assert spec.loader
    records = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(records)
    records.commit = lambda: "none"  # a copy without its history has none
    assert markdown(found) in records.page("a record", [found])


def test_a_summary_before_the_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no score"):
        keep(text_tools.plan(), Store(tmp_path / "store"))


def test_evidence_comes_back_from_the_store_as_it_was(done: Store) -> None:
    made = text_tools.plan()
    job = made.oracle(0)
    model = made.problem.untrained("load")
    model.load_state_dict(done.tensors(job, "model"))
    sets = text_tools.setting().asked
    told = read_answers(done, made.evidence(job), sets)
    asked, data = sets[0], sets[0].texts
    fresh = likelihoods([model], data, batch=3).answers(0)
    assert np.allclose(
        told["forget"].tokens("logprobs").flat, fresh.tokens("logprobs").flat, atol=1e-5
    )
    assert told["forget"].tokens("logprobs").like(fresh.tokens("logprobs"))
    assert told["forget"].index.tolist() == [item.index for item in asked.items]
    said = generate(model, text_tools.setting().tokenizer, data, tokens=30)
    assert told["forget"].generations == said
    wrong = told["forget"].wrong
    assert wrong is not None
    assert wrong.counts.tolist() == [2] * 6
    assert told["holdout"].generations is None


def test_questions_go_to_the_model_sorted_and_their_answers_come_back_in_order(
    done: Store,
) -> None:
    """Answers to prompts of unequal lengths: each must be that of its own prompt."""
    made, tokenizer = text_tools.plan(), text_tools.setting().tokenizer
    model = made.problem.untrained("load")
    model.load_state_dict(done.tensors(made.original(0), "model"))
    prompts = ["Where does Ada live?", "Bo", "Which pet has Cy? Which pet has Di?", "Ed lives"]
    texts = of_pairs([(prompt, "Rome.") for prompt in prompts], tokenizer)
    alone = [generated_answers(model, tokenizer, replace(texts, made=(row,))) for row in texts.made]
    together = generated_answers(model, tokenizer, texts)
    assert together == tuple(one[0] for one in alone)
    assert len(set(together)) > 2


def test_sets_for_measuring_are_closed_to_methods(done: Store) -> None:
    made = text_tools.plan()
    assert set(made.problem.sets) == {"forget", "retain", "holdout", "train"}
    for name, words in (("holdout", "for measuring only"), ("neighbours", "no set 'neighbours'")):
        peek = text_tools.plan({"peek": f"Train(CE('{name}'))"})
        block = next(b for b in blocks(peek, 2) if b.method.name == "peek")
        assert make_block(peek, done, block, Looped(), True) == "failed"
        assert words in done.about(peek.failure(block.method))["reason"]
    assert not done.has(made.failure(made.experiment.methods[0]))


def test_a_method_that_fails_stands_last_with_its_reason(done: Store) -> None:
    methods = {**text_tools.METHODS, "peek": "Train(CE('holdout'))"}
    made = text_tools.plan(methods)
    carried_out(made, done)
    last = summary(made, done)["rows"][-1]
    assert last["name"] == "peek"
    assert "for measuring only" in last["unscored"]
    text = io.StringIO()
    draw(summary(made, done), Console(file=text, width=200))
    assert "unscored" in text.getvalue()


def test_a_killed_run_goes_on_to_the_same_models(done: Store, tmp_path: Path) -> None:
    """Half of the products are taken away, as if never made; what comes back is bit for bit."""
    store = Store(tmp_path / "store")
    shutil.rmtree(store.root)
    shutil.copytree(done.root, store.root)
    made = text_tools.plan()
    gone = [made.unlearned(made.experiment.methods[0], 1), made.oracle(1), made.original(0)]
    before = {job.key: store.tensors(job, "model") for job in gone}
    spoken = store.about(made.evidence(gone[0]))
    for job in (*gone, made.evidence(gone[0])):
        shutil.rmtree(store.folder(job))
    carried_out(made, store)
    for job in gone:
        after = store.tensors(job, "model")
        assert all(torch.equal(after[name], before[job.key][name]) for name in after)
    assert store.about(made.evidence(gone[0])) == spoken


def test_a_damaged_answer_is_made_anew(done: Store, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    shutil.rmtree(store.root)
    shutil.copytree(done.root, store.root)
    made = text_tools.plan()
    job = made.evidence(made.oracle(0))
    (store.folder(job) / "evidence.safetensors").write_bytes(b"torn")
    shutil.rmtree(store.folder(made.score(made.experiment.methods[0])))
    carried_out(made, store)
    assert store.has(made.score(made.experiment.methods[0]))
    assert len(list((store.root / "corrupt").iterdir())) == 1


def test_what_is_asked_decides_the_key_of_the_answers() -> None:
    made = text_tools.plan()
    kind = made.task
    fewer = replace(
        kind, setting=replace(text_tools.setting(), asked=text_tools.setting().asked[:2])
    )
    other = replace(made, task=fewer)
    assert made.evidence(made.oracle(0)).key != other.evidence(other.oracle(0)).key
    assert made.oracle(0).key == other.oracle(0).key


def test_other_texts_are_another_problem() -> None:
    made = text_tools.plan()
    sets = dict(made.problem.sets)
    rows = sets["forget"]
    shorter = replace(rows, made=rows.made[:5], instead=rows.instead[:5])
    other = replace(made.problem, sets={**sets, "forget": shorter})
    from expunge.experiments.plan import problem_spec

    assert problem_spec(other) != made.spec
    assert problem_spec(made.problem) == made.spec


def test_an_original_that_learned_nothing_is_refused() -> None:
    setting = text_tools.setting()
    model = text_tools.plan().problem.untrained("any").eval()
    tensors, about = collect_answers(model, setting.tokenizer, setting.asked)
    assert set(about["generations"]) == {"forget", "retain"}
    assert tensors["evidence"]["forget/logprobs"].dtype == torch.float32

    def any_() -> RecordedAnswers:
        names = {one.name: [i.index for i in one.items] for one in setting.asked}
        return RecordedAnswers(
            {n: text_tools.answers(0.2, "so", index) for n, index in names.items()}
        )

    from expunge.experiments.text.scoring import judged

    row = MetricRow(setting.asked, [any_()], [any_(), any_()], [any_()])
    with pytest.raises(BadEvidence, match="Train the original longer"):
        judged(row, (), 0)


def test_a_shared_row_is_refused() -> None:
    from expunge.core.problem import Problem

    sets = text_tools.setting().sets
    both = replace(sets["retain"], made=sets["forget"].made[:1] + sets["retain"].made, instead=())
    with pytest.raises(BadData, match="in the forget set and in the retain set"):
        Problem.of(forget=sets["forget"], retain=both)


def test_methods_for_language_models_fit_an_experiment() -> None:
    """Refusals are there to be taught, so that methods that need other answers can run."""
    from expunge.engine.check import check_fit
    from expunge.methods.published import LANGUAGE

    task = text_tools.plan().problem
    fit: list[Method] = [method for method in LANGUAGE if method.name in ("idk_dpo", "idk_nll")]
    assert len(fit) == 2
    for method in fit:
        check_fit(method, task)
