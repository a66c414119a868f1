"""Attacks in an experiment: in the record, in the store, and refused where they would lie."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from house_tools import METHODS, ONE, carried_out, pictures, plan, problem
from rich.console import Console
from torch import nn

from expunge.core.problem import Problem
from expunge.core.store import Store
from expunge.errors import BadEvidence
from expunge.experiments.attacking import (
    across,
    blind_record,
    correlations,
    evaluation_set,
    retrain_free,
)
from expunge.experiments.classifier_rows import ClassifierRow, ClassifierScores, MetricScore
from expunge.experiments.collect import gather
from expunge.experiments.plan import Plan
from expunge.experiments.rows import RowHead, UnlearningCost
from expunge.experiments.shadowing import (
    differences,
    members,
    refuse_other_recipe,
    rows_in_train,
    scored,
    shadow_evidence,
)
from expunge.experiments.summary import summary
from expunge.methods.sentences import as_method
from expunge.report.page import render
from expunge.report.terminal import draw, plain

SHADOWS = 8


@pytest.fixture(scope="module")
def made() -> Plan:
    return plan(methods=ONE, members=12, shadows=SHADOWS)


@pytest.fixture(scope="module")
def store(made: Plan, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return carried_out(made, Store(tmp_path_factory.mktemp("attacked") / "s"))


@pytest.fixture(scope="module")
def found(made: Plan, store: Store) -> dict[str, Any]:
    return summary(made, store)


def row(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in found["rows"] if each["name"] == name)


def test_every_row_has_its_attacks_with_verdict_power_and_reason(found: dict[str, Any]) -> None:
    for each in found["rows"]:
        attacks = each["attacks"]
        assert attacks["verdict"]["word"] in ("found", "excluded", "inconclusive")
        names = [one["name"] for one in attacks["tried"]]
        assert names[:5] == ["U-LiRA", "RULI", "KLoM", "RMIA", "IAM"]
        assert {"LiRA on shadows", "RMIA on shadows", "SVC"} <= set(names)
        for one in attacks["tried"]:
            assert one["reason"] if one["effect"] is None else one["power"]
    assert json.loads(json.dumps(found, allow_nan=False)) is not None


def test_the_untouched_original_is_found_and_retraining_is_not(found: dict[str, Any]) -> None:
    assert row(found, "nothing")["attacks"]["verdict"]["word"] == "found"
    assert row(found, "retrain")["attacks"]["verdict"]["word"] == "inconclusive"


def test_false_alarms_and_the_blind_baseline_stand_in_every_summary(
    found: dict[str, Any], made: Plan
) -> None:
    assert found["false_alarms"]["rate"]["n"] == 40
    assert found["false_alarms"]["models"] == 6
    assert "retrained models (6 a side)" in plain(found)
    # 5 forget examples are too few to be told from others by anything.
    assert "at least 8" in found["blind"]["reason"]
    assert "False alarms" in render(found)


def test_few_models_have_no_false_alarm_rate_and_say_so(tmp_path: Path) -> None:
    few = plan(methods=ONE, members=4)
    told = summary(few, carried_out(few, Store(tmp_path / "s")))
    assert "12 is the least" in told["false_alarms"]["reason"]
    assert "not known" in plain(told)
    assert "membership" not in row(told, "finetune")
    assert any("shadows = 0" in said for said in told["not_shown"])


def test_membership_is_told_of_the_original_the_unlearned_and_the_retrained(
    found: dict[str, Any],
) -> None:
    assert not any("shadows = 0" in said for said in found["not_shown"])
    told = row(found, "finetune")["membership"]
    assert told["shadows"] == SHADOWS
    for name, count in (("forget", 5), ("retain", 55)):
        for attack in ("LiRA", "RMIA"):
            groups = told[name][attack]["groups"]
            assert set(groups) == {"original", "unlearned", "retrained"}
            assert all(0 <= group["auc"] <= 1 for group in groups.values())
            assert told[name][attack]["worse"]["count"] == count


def test_memorisation_is_kept_and_is_that_of_the_stored_evidence(made: Plan, store: Store) -> None:
    kept = store.tensors(made.memorisation, "memorisation")
    assert store.about(made.memorisation) == {"shadows": SHADOWS}
    answers = shadow_evidence(made, store).on("train")
    sure = torch.softmax(torch.from_numpy(answers.logits).double(), -1).numpy()
    mine = sure[:, np.arange(60), answers.targets]
    for example in (0, 17, 59):
        saw = [example in made.half(seed).tolist() for seed in made.experiment.shadow_seeds]
        by_hand = mine[saw, example].mean() - mine[[not s for s in saw], example].mean()
        assert float(kept["score"][example]) == pytest.approx(by_hand, abs=1e-5)
    assert kept["error"].shape == (60,) and bool((kept["error"] > 0).all())


def test_memorisation_by_hand() -> None:
    sure = np.array([[0.9, 0.5], [0.7, 0.1], [0.2, 0.3], [0.4, 0.3]])
    member = np.array([[True, True], [True, False], [False, False], [False, False]])
    found = scored(sure, member)
    assert float(found["score"][0]) == pytest.approx(0.8 - 0.3)
    assert float(found["error"][0]) == pytest.approx(np.sqrt(0.02 / 2 + 0.02 / 2))
    # one model alone saw the second example: neither a mean nor an error can be told
    assert found["score"][1].isnan() and found["error"][1].isnan()


def test_a_lost_memorisation_is_made_again(made: Plan, store: Store) -> None:
    place = store.folder(made.memorisation) / "memorisation.safetensors"
    whole = place.read_bytes()
    place.write_bytes(whole[:-1])
    with pytest.raises(Exception, match="was corrupt"):
        store.tensors(made.memorisation, "memorisation")
    carried_out(made, store)
    assert place.read_bytes() == whole


def other(**changes: Any) -> Plan:
    return plan(problem(**changes), methods=ONE, members=12, shadows=SHADOWS)


def wider() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 9), nn.ReLU(), nn.Linear(9, 3))


def test_shadows_of_another_recipe_are_refused_and_the_difference_is_named(
    made: Plan, store: Store
) -> None:
    longer = other(recipe=as_method("Train(CE('train'), epochs=3, lr=0.1, batch=16)", "recipe"))
    assert differences(made, longer) == ("recipe[1].epochs is 3, not 2",)
    with pytest.raises(BadEvidence, match=r"recipe\[1\]\.epochs is 3, not 2"):
        shadow_evidence(made, store, longer)
    two = other(recipe=as_method("Noise(0.1), Train(CE('train'), epochs=2)", "recipe"))
    assert "recipe is (Reset()" in differences(made, two)[0]
    assert differences(made, other(architecture=wider)) == ("the networks differ",)


def test_shadows_on_other_examples_are_refused(made: Plan) -> None:
    base = made.problem
    relabelled = Problem.split(
        pictures(60, 9), torch.arange(5), name="tiny", test=base.sets["test"],
        architecture=base.architecture, recipe=base.recipe,
    )  # fmt: skip
    against = plan(relabelled, methods=ONE, members=12, shadows=SHADOWS)
    assert differences(made, against) == ("the examples of 'train' differ",)


def test_shadows_of_another_forget_set_may_speak(made: Plan, store: Store) -> None:
    base = made.problem
    elsewhere = Problem.split(
        base.sets["train"], torch.arange(20, 30), name="tiny", val=base.sets["val"],
        test=base.sets["test"], architecture=base.architecture, recipe=base.recipe,
    )  # fmt: skip
    against = plan(elsewhere, methods=ONE, members=12, shadows=SHADOWS)
    refuse_other_recipe(made, against)
    assert len(shadow_evidence(made, store, against)) == SHADOWS


def test_no_shadows_is_said(store: Store) -> None:
    with pytest.raises(BadEvidence, match="shadows = 64"):
        shadow_evidence(plan(methods=ONE, members=12), store)


def test_shadows_belong_to_the_key_of_a_score(made: Plan) -> None:
    method = made.methods[-1]
    assert made.score(method).key != plan(methods=ONE, members=12).score(method).key


def test_rows_of_the_training_set(made: Plan) -> None:
    assert rows_in_train(made.problem, "forget").tolist() == [0, 1, 2, 3, 4]
    assert rows_in_train(made.problem, "retain").tolist() == list(range(5, 60))
    given = Problem.of(forget=pictures(4, 1), retain=pictures(6, 2))
    assert rows_in_train(given, "retain").tolist() == [0, 1, 2, 3, 4, 5]
    assert rows_in_train(given, "forget").tolist() == [6, 7, 8, 9]
    foreign = replace(given, sets={**given.sets, "train": pictures(10, 3)})
    with pytest.raises(BadEvidence, match="not known which rows"):
        rows_in_train(foreign, "forget")
    known = members(made)
    assert known.sum(axis=0).tolist() == [SHADOWS // 2] * 60


def test_examples_that_a_method_has_seen_are_no_non_members(made: Plan) -> None:
    reader = as_method("Train(CE('val'), epochs=1)", "reader")
    assert evaluation_set(made.problem, reader) == "test"
    with pytest.raises(BadEvidence, match="reader reads the set 'val'"):
        evaluation_set(made.problem, reader, "val")
    assert evaluation_set(made.problem, as_method(METHODS["finetune"], "f"), "val") == "val"
    for name in ("train", "forget", "retain"):
        with pytest.raises(BadEvidence, match="trained on"):
            evaluation_set(made.problem, reader, name)
    tuned = problem(recipe=as_method("Train(CE('train') + CE('val'), epochs=1)", "recipe"))
    with pytest.raises(BadEvidence, match="recipe reads the set 'val'"):
        evaluation_set(tuned, as_method(METHODS["finetune"], "f"), "val")


def test_a_forget_set_that_its_classes_give_away_voids_the_weak_attacks() -> None:
    data = pictures(60, 1)
    whole = Problem.split(
        data, torch.nonzero(data.targets == 0).flatten(), name="class", test=pictures(60, 2)
    )
    told = blind_record(whole, np.random.default_rng(0))
    assert told["void"] is True
    assert told["said"].startswith("The attack is void")
    fair = Problem.split(data, torch.arange(30), name="share", test=pictures(60, 2))
    assert blind_record(fair, np.random.default_rng(0))["void"] is False
    vectors = Problem.of(
        forget=(torch.randn(20, 7), torch.arange(20) % 3),
        retain=(torch.randn(20, 7), torch.arange(20) % 3),
        test=(torch.randn(30, 7), torch.arange(30) % 3),
    )
    assert blind_record(vectors, np.random.default_rng(0))["void"] is False


def test_signals_without_a_retrained_model_are_marked(found: dict[str, Any]) -> None:
    for each in found["rows"]:
        for signal in ("zrf", "rf_jsd"):
            assert each["retrain_free"][signal]["retrain_free"] is True
    assert all("a correlation takes 6" in each["reason"] for each in found["retrain_free"])


def test_retrain_free_signals_by_hand(made: Plan, store: Store) -> None:
    jobs = [made.unlearned(made.methods[-1], seed) for seed in made.experiment.seeds[:3]]
    subject = gather(made, store, jobs)
    told = retrain_free(made, subject, gather(made, store, [made.original(0)]))
    forget = torch.softmax(torch.from_numpy(subject.on("forget").logits).double(), -1)
    values = []
    for number in range(3):
        with torch.inference_mode():
            fresh = made.problem.untrained("zrf", number).eval()
            inputs = made.problem.sets["forget"].batch(torch.arange(5)).inputs
            chance = torch.softmax(fresh(inputs).double(), -1)
        middle = (forget[number] + chance) / 2
        apart = [(p * (p / middle).log()).sum(-1) / 2 for p in (forget[number], chance)]
        values.append(1 - float((apart[0] + apart[1]).mean()))
    assert told["zrf"]["value"] == pytest.approx(np.mean(values), abs=1e-5)


def test_correlations_are_over_methods_and_leave_the_controls_out() -> None:
    def of(name: str, signal: float, quality: float) -> ClassifierRow:
        free = {key: {"value": signal} for key in ("zrf", "rf_jsd")}
        value = MetricScore(quality, quality, quality, 8, "F")
        numbers = ClassifierScores(
            {"quality": value, "divergence_forget": value}, UnlearningCost(), retrain_free=free
        )
        return ClassifierRow(RowHead(name, control=name == "nothing"), numbers, 0.5, "any")

    rows = [of(f"m{i}", float(i), float(i)) for i in range(6)] + [of("nothing", 9.0, -9.0)]
    for each in correlations(rows, 0):
        assert each["methods"] == 6
        assert each["spearman"]["value"] == pytest.approx(1.0)
        assert each["spearman_p"] == pytest.approx(2 / 720)
    assert all("reason" in each for each in correlations(rows[1:], 0))


def agreeing(name: str, rho: float | None) -> dict[str, Any]:
    """A summary in which both signals rank the methods as much like the oracles as told."""
    spearman = {"value": rho, "low": -1.0, "high": 1.0, "alpha": 0.05, "n": 8}
    told = {"reason": "why."} if rho is None else {"spearman": spearman, "methods": 8}
    pairs = [(s, m) for s in ("zrf", "rf_jsd") for m in ("quality", "divergence_forget")]
    free = [{"signal": signal, "against": metric, **told} for signal, metric in pairs]
    return {"experiment": {"name": name}, "retrain_free": free}


def test_signals_over_several_experiments_by_hand() -> None:
    several = [agreeing("a", 0.2), agreeing("b", 0.4), agreeing("c", None), agreeing("d", 0.9)]
    found = across(several)
    assert [(one["signal"], one["against"]) for one in found] == [
        ("zrf", "quality"), ("zrf", "divergence_forget"),
        ("rf_jsd", "quality"), ("rf_jsd", "divergence_forget"),
    ]  # fmt: skip
    for one in found:
        assert one["each"]["b"]["value"] == 0.4 and one["each"]["b"]["methods"] == 8
        assert one["each"]["c"] == {"reason": "why."}
        # 0.2, 0.4, 0.9: mean 0.5, deviation 0.3606, t of 2 degrees 4.3027; cut at 1
        assert one["mean"] == pytest.approx(
            {"value": 0.5, "low": -0.3957, "high": 1.0, "n": 3}, abs=1e-3
        )
    few = across(several[:3])[0]
    assert few["mean"] == {"reason": "2 experiments; a mean takes 3."}
    old = across([{"experiment": {"name": "old"}}])[0]
    assert old["each"]["old"] == {"reason": "it was not measured."}


def test_correlations_are_printed_with_n_and_interval_and_marked(found: dict[str, Any]) -> None:
    assert "Retrain-free" not in plain(found)  # one method: there is nothing to correlate
    told = {**found, "retrain_free": [
        {**one, "said": "Spearman 0.20.", "spearman_p": 0.5}
        for one in agreeing("a", 0.2)["retrain_free"]
    ]}  # fmt: skip
    line = "Retrain-free zrf, ranks against quality: Spearman 0.20 [-1.00, 1.00], p 0.5, n = 8"
    assert line in plain(told, 400)
    assert "interval of Spearman" in render(told)


def test_the_table_has_the_verdict_of_the_attacks(found: dict[str, Any]) -> None:
    text = io.StringIO()
    draw(found, Console(file=text, width=160, color_system=None))
    lines = text.getvalue().splitlines()
    place = lines[0].index("attacks")
    assert " found" in lines[2][place - 8 : place + 8]
    old = {key: value for key, value in row(found, "finetune").items() if key != "attacks"}
    assert "finetune" in plain({**found, "rows": [old]})


def test_one_forget_example_and_many_originals_are_enough_for_a_record(tmp_path: Path) -> None:
    base = problem()
    one = Problem.split(
        base.sets["train"], torch.tensor([7]), name="tiny", test=base.sets["test"],
        architecture=base.architecture, recipe=base.recipe,
    )  # fmt: skip
    small = plan(one, methods=ONE, members=8, shadows=SHADOWS, protocol="paired")
    told = summary(small, carried_out(small, Store(tmp_path / "s")))
    attacks = row(told, "finetune")["attacks"]
    assert attacks["exposed"]["count"] == 1
    assert {one["name"] for one in attacks["tried"] if one["effect"] is None} == set()
    assert "takes 299" in attacks["low"][0]["reason"]
    assert json.loads(json.dumps(told, allow_nan=False))
    assert "finetune" in render(told)
