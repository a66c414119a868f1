"""Experiments on novels and on MMLU: what is taught, what is asked, and when nothing is ranked."""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_benchmarks
import text_tools
import torch
from rich.console import Console

from expunge.comparison import named
from expunge.core.evidence import Answers, Nested, Ragged
from expunge.core.store import Store
from expunge.errors import BadData, BadEvidence, BadSentence
from expunge.experiments.experiment import Experiment, parse, read, to_toml
from expunge.experiments.graph import make
from expunge.experiments.plan import Plan
from expunge.experiments.planning import plan_for
from expunge.experiments.summary import keep
from expunge.experiments.text.normalised_metrics import MetricRow, RecordedAnswers
from expunge.experiments.text.scoring import guarded, judged, refuse_guesses
from expunge.methods.sentences import as_method
from expunge.metrics.text.likelihood import probability, right_option
from expunge.problems.forget_sets import Titles
from expunge.problems.text.by_name import by_letter
from expunge.report.page import write
from expunge.report.terminal import draw

RECIPE = "Train(CE('train'), epochs=60, lr=Warmup(0.01, 0.1), batch=8, optimiser=AdamW())"
METHODS = {"finetune": "Train(CE('retain'), epochs=2, lr=0.005, batch=8, optimiser=AdamW())"}


def an_experiment(problem: str, folder: Path, forget: str, **changes: Any) -> Experiment:
    fields = {
        "problem": problem, "architecture": "tiny_llama", "forget": forget, "members": 2,
        "protocol": "paired", "data": str(folder), **changes,
    }  # fmt: skip
    return Experiment(problem, as_method(RECIPE, "recipe"), named(METHODS), **fields)


def on_novels(tmp_path: Path, forget: str = "Marked()", **changes: Any) -> Plan:
    folder = small_benchmarks.some_novels(tmp_path)
    return plan_for(an_experiment("novels", folder, forget, **changes))


def on_mmlu(tmp_path: Path, forget: str = "Titles(('virology',))", **changes: Any) -> Plan:
    folder = small_benchmarks.a_mmlu(tmp_path)
    return plan_for(an_experiment("mmlu", folder, forget, **changes))


def test_novels_are_asked_verbatim_for_names_and_for_membership(tmp_path: Path) -> None:
    plan = on_novels(tmp_path)
    assert {name: len(plan.problem.sets[name]) for name in ("forget", "retain", "holdout")} == {
        "forget": 9, "retain": 9, "holdout": 9,
    }  # fmt: skip
    asked = {one.name: one for one in plan.task.setting.asked}
    assert {name: (one.side, one.written, one.against) for name, one in asked.items()} == {
        "forget": ("forget", False, "forget"),
        "verbatim": ("forget", True, "verbatim"),
        "knowledge": ("forget", True, "knowledge"),
        "retain": ("retain", False, "forget"),
        "retain_verbatim": ("retain", True, "verbatim"),
        "retain_knowledge": ("retain", True, "knowledge"),
        "holdout": ("holdout", False, "forget"),
    }
    assert {item.subject for name in ("forget", "verbatim", "knowledge")
            for item in asked[name].items} == {"One"}  # fmt: skip
    assert asked["knowledge"].wrong is not None


def test_a_few_passages_are_taught_and_only_these_are_asked_about(tmp_path: Path) -> None:
    plan = on_novels(tmp_path, train_size=16)
    sets = plan.problem.sets
    assert [len(sets[name]) for name in ("forget", "retain", "holdout")] == [4, 9, 4]
    taught = {row.answer for row in sets["forget"].made}
    asked = {one.name: one for one in plan.task.setting.asked}
    for item in asked["verbatim"].items:
        assert any(text.startswith(item.prompt) and text.endswith(item.answer) for text in taught)
    with pytest.raises(BadData, match="16 passages taught or more"):
        on_novels(tmp_path / "more", train_size=15)


def test_novels_by_their_titles(tmp_path: Path) -> None:
    plan = on_novels(tmp_path, "Titles(('Two',))")
    asked = {one.name: one for one in plan.task.setting.asked}
    assert {item.subject for item in asked["forget"].items} == {"Two"}
    assert {item.subject for item in asked["retain"].items} == {"One"}
    assert {item.subject for item in asked["holdout"].items} == {"Three"}
    with pytest.raises(BadData, match=r"no novel 'Too'.*Did you mean Two"):
        on_novels(tmp_path / "a", "Titles(('Too',))")
    with pytest.raises(BadData, match="two roles"):
        on_novels(tmp_path / "b", "Titles(('One',), ('One',))")
    with pytest.raises(BadData, match=re.escape("write Marked() or Titles(")):
        on_novels(tmp_path / "c", "Subjects(2)")


def test_mmlu_is_asked_by_its_letters(tmp_path: Path) -> None:
    plan = on_mmlu(tmp_path)
    assert len(plan.problem.sets["forget"]) == 4
    assert len(plan.problem.sets["retain"]) == 16
    asked = {one.name: one for one in plan.task.setting.asked}
    assert [(one.name, one.side, one.written, one.choices) for one in asked.values()] == [
        ("forget", "forget", False, True), ("retain", "retain", False, True),
        ("other", "retain", False, True),
    ]  # fmt: skip
    first = asked["forget"].items[0]
    assert first.prompt == (
        "virology 0?\nA. virology 0 0\nB. virology 0 1\nC. virology 0 2\nD. virology 0 3\nAnswer:"
    )
    assert (first.answer, first.wrong) == ("A", ("B", "C", "D"))
    assert asked["forget"].wrong is not None
    assert asked["forget"].wrong.counts.tolist() == [3] * 4
    few = on_mmlu(tmp_path / "few", train_size=16).problem.sets
    assert [len(few[name]) for name in ("forget", "retain")] == [4, 12]
    with pytest.raises(BadData, match="16 questions or more"):
        on_mmlu(tmp_path / "less", train_size=3)
    with pytest.raises(BadData, match="Did you mean virology"):
        on_mmlu(tmp_path / "d", "Titles(('virologie',), ('anatomy',))")
    with pytest.raises(BadData, match=re.escape("write Titles(('virology',))")):
        on_mmlu(tmp_path / "e", "Marked()")


@pytest.mark.parametrize(
    ("problem", "words"),
    [("novels", "There is no books.parquet"), ("mmlu", "There is no test.parquet")],
)
def test_missing_files_are_told_with_what_to_download(
    tmp_path: Path, problem: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadData, match=words):
        plan_for(an_experiment(problem, tmp_path, "Titles(('x',))"))
    monkeypatch.delenv("EXPUNGE_DATA", raising=False)
    with pytest.raises(BadData, match="--data FOLDER"):
        plan_for(replace(an_experiment(problem, tmp_path, "Titles(('x',))"), data=""))


def test_titles_can_be_read_and_are_titles() -> None:
    said = "Titles(('The Time Machine',), ('Frankenstein', 'Three Men in a Boat'))"
    found = parse(said)
    assert isinstance(found, Titles)
    assert parse(repr(found)) == found
    for wrong, words in (
        ("Titles('virology')", "must be titles"),
        ("Titles(('a',), 'b')", "retain must be"),
        ("Titles((1,))", "must be titles"),
        ("Titles((' ',))", "must be titles"),
        ("Titles(())", "no title to forget"),
    ):
        with pytest.raises(BadSentence, match=words):
            parse(wrong)
    made = an_experiment("novels", Path("folder"), said)
    assert read(to_toml(made), "again") == made


def letters(chances: list[list[float]]) -> Answers:
    """Answers to multiple choice: the right option's probability first."""
    logp = [[np.log(p) for p in row] for row in chances]
    return Answers(
        np.arange(len(logp)),
        logprobs=Ragged.of([[row[0]] for row in logp]),
        wrong=Nested.of([[[p] for p in row[1:]] for row in logp]),
    )


def test_the_right_option_by_hand() -> None:
    told = letters([[0.5, 0.2, 0.3], [0.2, 0.5, 0.3], [0.25, 0.25, 0.25], [0.4, 0.4, 0.2]])
    assert right_option(told).tolist() == [1.0, 0.0, pytest.approx(1 / 3), 0.5]


def guesses(tmp_path: Path, right: int) -> MetricRow:
    """Sixteen questions of four options, of which so many are known."""
    rows = small_benchmarks.a_mmlu(tmp_path)
    asked = plan_for(
        an_experiment("mmlu", rows, "Titles(('college_biology', 'anatomy', 'high_school_biology', "
                      "'medical_genetics'), ('virology',))")
    ).task.setting.asked[0]  # fmt: skip
    assert len(asked.items) == 16
    sure, wrong = [0.7, 0.1, 0.1, 0.1], [0.1, 0.7, 0.1, 0.1]
    told = letters([sure] * right + [wrong] * (16 - right))
    one = RecordedAnswers({"forget": told})
    return MetricRow((asked,), (one,), (one,), (one, one))


def test_a_model_that_guesses_is_not_ranked(tmp_path: Path) -> None:
    """Four of sixteen are chance; seven are within noise of it; twelve are known."""
    for right in (0, 4, 7):
        with pytest.raises(BadEvidence, match=r"guessing in 25%.*nothing can be ranked"):
            refuse_guesses(guesses(tmp_path / str(right), right))
    refuse_guesses(guesses(tmp_path / "12", 12))
    with pytest.raises(BadEvidence, match="44% of 16 questions"):
        judged(guesses(tmp_path / "again", 7), (), 0)


def test_the_filter_knows_words_of_questions_where_passages_have_none(tmp_path: Path) -> None:
    plan = on_novels(tmp_path)
    sets = plan.task.setting.asked
    mine = {
        one.name: Answers(
            np.array([item.index for item in one.items]),
            generations=("so",) * len(one.items) if one.written else None,
        )
        for one in sets
    }
    said = {name: set(told.generations or ()) for name, told in guarded(mine, sets, "No.").items()}
    assert said["knowledge"] == {"No."}
    assert said["retain_knowledge"] == {"so"}


def test_what_is_kept_is_measured_against_what_is_asked_in_the_same_form() -> None:
    """Names are guessed more easily than whole passages: a gauge's unit is that of its own form."""
    forget, retain, _ = text_tools.setting().asked
    sets = (
        forget,
        replace(forget, name="knowledge"),
        replace(retain, name="retain_knowledge", against="knowledge"),
        retain,
    )
    chances = {"forget": 0.1, "knowledge": 0.4, "retain_knowledge": 0.9, "retain": 0.8}
    sizes = {one.name: range(len(one.items)) for one in sets}

    def at(**known: float) -> RecordedAnswers:
        told = {**chances, **known}
        return RecordedAnswers({n: text_tools.answers(told[n], index=sizes[n]) for n in sizes})

    row = MetricRow(sets, (at(),), (at(), at()), (at(forget=0.9, knowledge=0.9),))
    gauges = {gauge.name: gauge for gauge in row.gauges()}
    means = {n: float(np.mean(at().values(probability, n))) for n in sizes}
    assert gauges["probability, retain_knowledge"].scale == pytest.approx(
        means["retain_knowledge"] - means["knowledge"]
    )
    assert gauges["probability, retain"].scale == pytest.approx(means["retain"] - means["forget"])
    assert means["knowledge"] - means["forget"] > 0.2


def test_letters_of_a_question_with_two_options() -> None:
    item = replace(
        text_tools.items()[0], prompt="True?", answer="no", choices=("yes", "no"), wrong=("yes",)
    )
    told = by_letter(item)
    assert (told.prompt, told.answer, told.wrong) == ("True?\nA. yes\nB. no\nAnswer:", "B", ("A",))


def carried_out(plan: Plan, folder: Path) -> tuple[dict[str, Any], str]:
    torch.set_num_threads(1)
    store = Store(folder / "store")
    for _ in make(plan, store):
        continue
    found, text = keep(plan, store), io.StringIO()
    draw(found, Console(file=text, width=200, color_system=None))
    page = write(found, folder / "page.html").read_text()
    return {row["name"]: row for row in found["rows"]} | {"": found}, text.getvalue() + page


@pytest.mark.slow
def test_an_experiment_on_novels_from_end_to_end(tmp_path: Path) -> None:
    rows, shown = carried_out(on_novels(tmp_path, train_size=16), tmp_path)
    told = rows["nothing"]["scores"]
    assert {one["set"] for one in told.values()} == {
        "forget", "verbatim", "knowledge", "retain", "retain_verbatim", "retain_knowledge",
    }  # fmt: skip
    assert any(name.endswith(", verbatim") for name in rows["nothing"]["distance"]["gauges"])
    assert "loss" in rows["nothing"]["membership"]
    assert rows["retrain"]["distance"]["value"] < rows["nothing"]["distance"]["value"]
    assert "Names in what was to be forgotten" in shown
    assert {one["set"] for one in rows["finetune"]["samples"]} == {
        "verbatim", "knowledge", "retain_verbatim", "retain_knowledge",
    }  # fmt: skip


def rolled(folder: Path) -> Path:
    """MMLU whose letters follow from nothing, eight questions a subject."""
    rows = []
    for subject in ("virology", "anatomy"):
        for at in range(8):
            letter = hashlib.blake2b(f"{subject}/{at}".encode()).digest()[0] % 4
            choices = [f"{subject} {word}" for word in ("one", "two", "three", "four")]
            rows.append(
                {"subject": subject, "question": f"{subject} {at}?", "choices": choices,
                 "answer": letter}
            )  # fmt: skip
    small_benchmarks.write_table(folder / "mmlu/test.parquet", rows)
    small_benchmarks.write_table(folder / "mmlu/dev.parquet", rows[:8:7])
    return folder


@pytest.mark.slow
def test_an_experiment_on_mmlu_from_end_to_end(tmp_path: Path) -> None:
    made = an_experiment("mmlu", rolled(tmp_path), "Titles(('virology',), ('anatomy',))")
    rows, shown = carried_out(plan_for(made), tmp_path)
    told = rows["nothing"]["scores"]["right option, forget"]
    assert told["value"] == 1.0
    assert told["oracle"]["value"] < 0.8
    assert "right option, forget" in rows["nothing"]["distance"]["gauges"]
    assert rows["retrain"]["collapse"] == {}
    assert "Right option" in shown
    assert rows[""]["gauges"][0]["metric"] == "right option"
    assert not rows["nothing"]["samples"]
