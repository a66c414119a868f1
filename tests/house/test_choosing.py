"""Forget sets that shadow models choose: shadows first, then the rows, then everything else."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from house_tools import timed
from rich.console import Console

from expunge.cli import main as cli
from expunge.core.store import Store
from expunge.errors import BadData, BadEvidence, BadSentence, StoreError
from expunge.experiments import shadowing as choosing
from expunge.experiments.classifier_rows import ClassifierRow, ClassifierScores, MetricScore
from expunge.experiments.experiment import Experiment, load, load_all, read
from expunge.experiments.graph import choose, make
from expunge.experiments.plan import Plan
from expunge.experiments.planning import outline, plan_for
from expunge.experiments.progress import print_cost, print_status
from expunge.experiments.rows import RowHead, UnlearningCost
from expunge.experiments.shadowing import (
    confidences,
    largest,
    make_forget_set,
    members,
    negative_control,
    reliability,
    shadow_evidence,
)
from expunge.experiments.summary import summary
from expunge.experiments.tuning.held_out import held_out
from expunge.metrics.attacks.signals import influence
from expunge.problems.forget_sets import RandomShare
from expunge.problems.images.canaries import greedy
from expunge.report.page import render
from expunge.report.terminal import plain

SHADOWS = 16
TINY = f"""
name = "chosen"
problem = "digits"
forget = "Memorised('high', 40)"
members = 2
shadows = {SHADOWS}
protocol = "paired"
recipe = "Train(CE('train'), epochs=1, lr=0.1, batch=128)"
[methods]
finetune = "Train(CE('retain'), epochs=0.3, lr=0.1, batch=128)"
"""
ALL = ("Memorised('high', 40)", "Memorised('mid', 40)", "Memorised('low', 40)", "WorstCase(40)")


def experiment(forget: str = ALL[0], **changes: Any) -> Experiment:
    return replace(read(TINY, "here"), forget=forget, **changes)


def chosen(made: Experiment, store: Store) -> Plan:
    timed(outline(made, store), store)
    for _ in choose(made, store):
        continue
    return plan_for(made, store)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store in which the most memorised examples were chosen."""
    found = Store(tmp_path_factory.mktemp("chosen") / "s")
    chosen(experiment(), found)
    return found


def rows_of(plan: Plan) -> list[int]:
    found: list[int] = plan.problem.sets["forget"].index.tolist()  # type: ignore[attr-defined]
    return found


def test_before_the_shadows_a_plan_has_the_sizes_and_refuses_to_be_carried_out(
    tmp_path: Path,
) -> None:
    made, empty = experiment(), Store(tmp_path / "s")
    for where in (None, empty):
        with pytest.raises(BadData, match="shadow models, which have yet to be made"):
            plan_for(made, where)
        first = outline(made, where)
        assert not first.settled
        sizes = {name: len(data) for name, data in first.problem.sets.items()}
        assert (sizes["forget"], sizes["retain"]) == (40, sizes["train"] - 40)
    with pytest.raises(BadData, match="not chosen yet"):
        next(make(first, empty))
    assert {kind.name for kind in empty.root.iterdir() if kind.is_dir()} == {
        "tmp", "locks", "reports",
    }  # fmt: skip
    # the stand-in is the forget set of no other experiment, or `status` would count its models
    share = RandomShare(40 / sizes["train"])
    train = first.problem.sets["train"]
    other = share(train, torch.arange(len(train)) % 10, seed=made.forget_seed)
    assert len(other.indices) == 40 and other.indices.tolist() != rows_of(first)


def test_shadows_come_first_and_then_the_rows(tmp_path: Path) -> None:
    made, empty = experiment(), Store(tmp_path / "s")
    timed(outline(made), empty)
    told = list(choose(made, empty))
    assert list(dict.fromkeys(piece.stage for piece in told)) == ["shadows", "forget set"]
    assert (told[-2].of, told[-1].of) == (1, 1)
    kinds = {kind.name for kind in empty.root.iterdir() if kind.is_dir()}
    assert kinds == {
        "shadow", "evidence", "memorisation", "forget-set", "timing", "tmp", "locks", "reports",
    }  # fmt: skip
    assert list(choose(made, empty)) == []
    assert plan_for(made, empty).settled


def test_the_rows_are_those_of_the_kept_scores(store: Store) -> None:
    plan = plan_for(experiment(), store)
    kept = store.tensors(plan.memorisation, "memorisation")
    score, error = (kept[name].double().numpy() for name in ("score", "error"))
    assert set(rows_of(plan)) == set(np.argsort(score)[-40:].tolist())
    low, mid, worst = (chosen(experiment(said), store) for said in ALL[2:0:-1] + ALL[3:])
    assert set(rows_of(low)) == set(np.argsort(np.abs(score) + 2 * error)[:40].tolist())
    assert score[rows_of(mid)].min() <= np.median(score) <= score[rows_of(mid)].max()
    pairs = influence(confidences(plan, store), members(plan))
    assert set(rows_of(worst)) == set(greedy(pairs, 40))
    means = [score[rows_of(each)].mean() for each in (low, mid, plan)]
    assert abs(means[0]) < means[1] + 0.01 < means[2]
    about = store.about(plan.forget_set)
    assert about["shadows"] == SHADOWS
    assert about["memorisation"] == pytest.approx(means[2])
    assert about["reliability"] == pytest.approx(reliability(plan, store))
    assert -1 <= about["reliability"] <= 1


def test_shadows_are_made_once_for_all_forget_sets(store: Store) -> None:
    before = sorted((store.root / "shadow").glob("*/*"))
    assert len(before) == SHADOWS
    for said in ALL:
        chosen(experiment(said), store)
    assert sorted((store.root / "shadow").glob("*/*")) == before
    keys = {plan_for(experiment(said), store).root.key for said in ALL}
    assert len(keys) == len(ALL)


def test_a_forget_set_that_is_lost_or_torn_is_chosen_again_alike(store: Store) -> None:
    made = experiment()
    plan = plan_for(made, store)
    file = store.folder(plan.forget_set) / "forget.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(StoreError, match="was corrupt"):
        plan_for(made, store)
    told = list(choose(made, store))
    assert {piece.stage for piece in told} == {"forget set"}
    again = plan_for(made, store)
    assert (rows_of(again), again.root.key) == (rows_of(plan), plan.root.key)


def test_shadows_of_another_recipe_are_never_used(store: Store) -> None:
    plan = plan_for(experiment(), store)
    other = outline(experiment(recipe=replace_epochs(plan, 3.0)), store)
    assert not other.settled
    mine, theirs = ({each.shadow(s).key for s in range(SHADOWS)} for each in (plan, other))
    assert not mine & theirs
    assert plan.forget_set.key != other.forget_set.key
    with pytest.raises(BadEvidence, match=r"epochs is 1, not 3\.0"):
        shadow_evidence(other, store, plan)
    with pytest.raises(StoreError, match="not in the store"):
        make_forget_set(other, store)
    for changes in ({"seed": 1}, {"shadows": 18}, {"forget_seed": 1}, {"architecture": "convnet"}):
        assert not outline(experiment(**changes), store).settled
    # how a sentence is written, the members and the methods change nothing
    same = experiment("Memorised( 'high',40 )", members=5, methods=(), protocol="challenge")
    assert plan_for(same, store).root.key == plan.root.key


def replace_epochs(plan: Plan, epochs: float) -> Any:
    recipe = plan.experiment.recipe
    longer = replace(recipe.steps[0], epochs=epochs)  # type: ignore[type-var]
    return replace(recipe, steps=(longer,))


@pytest.mark.parametrize(
    ("changes", "kind", "told"),
    [
        ({"shadows": 0}, BadData, r"has 0; set shadows = 16 or more \(--shadows\)"),
        ({"shadows": 14}, BadData, "has 14; set shadows = 16"),
        ({"shadows": 17}, BadSentence, "an even number"),
        ({"forget": "Memorised('high', 1297)"}, BadData, "expected fewer"),
        ({"forget": "Memorised('high', 99999)"}, BadData, "1297 examples"),
        ({"forget": "WorstCase(1297)"}, BadData, "expected fewer"),
        ({"forget": "WorstCase(40)", "shadows": 2}, BadData, "has 2; set shadows"),
        ({"forget": "Memorised('hihg', 40)"}, BadSentence, "'hihg'"),
        ({"forget": "Memorised('../../x', 40)"}, BadSentence, "expected one of"),
        ({"forget": "Memorised('high', -1)"}, BadSentence, "expected 1 or more"),
        ({"forget": "WorstCase('40')"}, BadSentence, "whole number"),
        ({"forget": "Memorised('high', 40, scores=3)"}, BadSentence, "scores"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_trained(
    tmp_path: Path, changes: dict[str, Any], kind: type[Exception], told: str
) -> None:
    with pytest.raises(kind, match=told):
        list(choose(experiment(**changes), Store(tmp_path / "s")))
    assert not (tmp_path / "s" / "shadow").exists()


def test_a_worst_case_of_too_many_examples_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "MOST_CHOSEN_EXAMPLES", 1000)
    with pytest.raises(BadData, match="1000 are the most"):
        make_forget_set(outline(experiment("WorstCase(41)"), store), store)


def test_status_and_forecast_say_what_can_be_said(tmp_path: Path) -> None:
    made, text = experiment("Memorised('low', 40)"), io.StringIO()
    empty, console = Store(tmp_path / "s"), Console(file=text, width=200)
    print_status(made, empty, console)
    first = outline(made, empty)
    timed(first, empty)
    print_cost(first, empty, 2, console)
    said = " ".join(text.getvalue().split())
    assert said.count("is chosen once the 16 shadow models are made. Until then 40 random") == 2
    assert "shadows 0 16" in said
    assert "shadows 16 628 " in said  # half of the 1,257 that retraining reads
    assert not (tmp_path / "s" / "shadow").exists()


def test_tuning_does_not_take_what_shadow_models_choose() -> None:
    for made, forget in ((experiment(), ""), (experiment("RandomShare(0.1)"), "WorstCase(9)")):
        with pytest.raises(BadData, match="chosen by shadow models, and tuning has none"):
            held_out(made, 4, forget)


def test_least_memorised_is_what_is_surely_so() -> None:
    score, error = np.array([-0.5, 0.01, 0.0, 0.2]), np.array([0.2, 0.01, 0.1, 0.0])
    assert largest(score, error).tolist() == pytest.approx([0.9, 0.03, 0.2, 0.2])


def row(name: str, value: float, word: str = "found", n: int = 16) -> ClassifierRow:
    quality = MetricScore(value, value - 0.05, value + 0.05, n, "F")
    head = RowHead(name, control=name in ("retrain", "nothing"))
    attacks = {"verdict": {"word": word}}
    numbers = ClassifierScores({"quality": quality}, UnlearningCost(), attacks=attacks)
    return ClassifierRow(head, numbers, 0.5, "any")


def test_the_negative_control_says_that_the_right_change_is_none() -> None:
    method = row("ascent", 0.2)
    alike = negative_control([row("retrain", 0.9), row("nothing", 0.85), method])
    assert "the right change is none" in alike
    assert "Doing nothing does not differ from retraining (forgetting quality 0.850" in alike
    assert alike.endswith("An attack finds these unlike retrained models: ascent.")
    quiet = negative_control([row("retrain", 0.9), row("nothing", 0.85)])
    assert quiet.endswith("it did not have to.")
    apart = negative_control([row("retrain", 0.9), row("nothing", 0.2), method])
    assert "doing nothing differs from retraining all the same" in apart
    few = negative_control([row("retrain", 0.9, n=4), row("nothing", 0.2, n=4)])
    assert few.endswith("4 models a side cannot tell; 16 is the least.")


def test_an_experiment_on_the_low_stratum_is_carried_out_and_reported(store: Store) -> None:
    made = experiment("Memorised('low', 40)")
    plan = chosen(made, store)
    timed(plan, store)
    for _ in make(plan, store):
        continue
    found = summary(plan, store)
    assert found["chosen"]["negative_control"] is True
    assert "2 models a side cannot tell" in found["chosen"]["said"][1]
    for text in (plain(found, 2000), render(found)):
        assert "negative control" in text
        assert "the right change is none" in text
        assert "was chosen by 16 shadow models" in text
    # the rows that were forgotten are those that were chosen
    assert store.tensors(plan.root, "forget")["rows"].tolist() == rows_of(plan)


@pytest.mark.slow
def test_several_processes_choose_the_same_rows(store: Store, tmp_path: Path) -> None:
    other, made = Store(tmp_path / "s"), experiment()
    timed(outline(made), other)
    for _ in choose(made, other, jobs=2):
        continue
    assert rows_of(plan_for(made, other)) == rows_of(plan_for(made, store))


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--forget", "WorstCase(40)", "--shadows", "0"], 4, "set shadows = 16"),
        (["--forget", "WorstCase(40)", "--shadows", "15"], 3, "an even number"),
        (["--forget", "Memorised('high', 9999)"], 4, "expected fewer"),
        (["--forget", "Memorised('high')"], 3, "size"),
    ],
)
def test_the_command_line_tells_mistakes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.toml").write_text(TINY)
    monkeypatch.setattr(sys, "argv", ["expunge", "run", "my.toml", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert int(end.value.code or 0) == code
    said = capsys.readouterr().err
    assert said.startswith("expunge: ") and told in said


def test_the_suite_of_the_digits_shares_its_shadows() -> None:
    found = {each.name.removeprefix("suite-digits-"): each for each in load_all("suite-digits")}
    assert list(found) == [
        "random", "random-1", "random-0.1", "class", "group", "mislabelled", "low", "mid", "high",
        "worst", "canaries", "patterns",
    ]  # fmt: skip
    plans = {name: outline(each) for name, each in found.items()}
    shared = [plans[name].shadow(0).key for name in plans]
    planted = {"mislabelled", "canaries", "patterns"}
    assert len(set(shared)) == 1 + len(planted)
    assert shared.count(plans["random"].shadow(0).key) == len(plans) - len(planted)
    sizes = {name: len(plan.problem.sets["forget"]) for name, plan in plans.items()}
    assert [sizes[name] for name in ("random", "random-1", "random-0.1")] == [130, 13, 1]
    assert all(each.methods == load("suite-digits-random").methods for each in found.values())


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ('{ like = 3, name = "x" }', "like must be a sentence in quotes, got 3"),
        ('{ name = "x" }', "like must be a sentence"),
        ('{ like = "suite-digits-random", forgot = "x" }', "Did you mean forget?"),
        ('{ like = "suite-digits-random", name = "../x" }', "name ="),
        ('{ like = "gone.toml", name = "x" }', "No experiment or file"),
        ('{ like = "suite-digits", name = "x" }', "unknown key 'experiments'"),
        ('{ like = "suite-digits-random" }, { like = "suite-digits-random" }', "are called"),
    ],
)
def test_a_suite_s_entry_that_cannot_be_read_is_told(tmp_path: Path, entry: str, told: str) -> None:
    (tmp_path / "suite.toml").write_text(f"experiments = [{entry}]")
    with pytest.raises(BadSentence) as fault:
        load_all(str(tmp_path / "suite.toml"))
    assert told in str(fault.value)


def test_a_forget_set_of_ones_own_is_not_asked_about(store: Store) -> None:
    plan = plan_for(experiment("RandomShare(0.1)"), store)
    assert choosing.about_choice(plan, store, []) == {}
    own = Plan(replace(plan.experiment, forget="own"), plan.problem, plan.spec, plan.task)
    assert choosing.about_choice(own, store, []) == {}
