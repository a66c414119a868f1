"""The numbers of a row, worked out again by hand from what the store holds."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from house_tools import METHODS, carried_out, pictures, plan, problem
from torch.utils.data import Dataset

from expunge.core.machine import hardware
from expunge.core.problem import Problem
from expunge.core.store import Job, Store
from expunge.experiments.classifier_rows import COLUMNS, ClassifierRow
from expunge.experiments.collect import gather
from expunge.experiments.plan import Plan
from expunge.experiments.scoring import cost, mean_curve, score
from expunge.experiments.summary import summary
from expunge.metrics.challenge.quality import forgetting_quality
from expunge.report.page import render
from expunge.report.terminal import cells, plain


@pytest.fixture(scope="module")
def made() -> Plan:
    return plan()


@pytest.fixture(scope="module")
def store(made: Plan, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return carried_out(made, Store(tmp_path_factory.mktemp("scored") / "store"))


@pytest.fixture(scope="module")
def found(made: Plan, store: Store) -> dict[str, Any]:
    return summary(made, store)


def row(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in found["rows"] if each["name"] == name)


def shown(record: dict[str, Any]) -> dict[str, str]:
    """The cells of a row by their headings."""
    names = [column.name for column in COLUMNS]
    return dict(zip(names, cells(COLUMNS, ClassifierRow.from_json(record)), strict=True))


def logits(made: Plan, store: Store, jobs: list[Job]) -> np.ndarray:
    read = [store.tensors(made.evidence(job), "evidence")["logits"] for job in jobs]
    return torch.stack(read).double().numpy()


def by_hand(answers: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """log p_y - log(1 - p_y): the right logit less the log of the others' summed exponentials."""
    # in float64, and without a difference of nearly equal sums: F of few models turns on ties
    wide = answers.astype(np.float64)
    own = np.arange(wide.shape[2]) == targets[None, :, None]
    right = np.where(own, wide, 0.0).sum(-1)
    return right - np.log(np.where(own, 0.0, np.exp(wide)).sum(-1))


def jobs_of(made: Plan, name: str) -> list[Job]:
    method = next(m for m in made.methods if m.name == name)
    return [made.unlearned(method, seed) for seed in made.experiment.seeds]


def oracles(made: Plan) -> list[Job]:
    return [made.oracle(seed) for seed in made.experiment.seeds]


@pytest.mark.parametrize("name", ["retrain", "nothing", "finetune"])
def test_a_quality_is_that_of_the_stored_evidence(
    made: Plan, store: Store, found: dict[str, Any], name: str
) -> None:
    # retain 55, then forget 5, then test 30.
    forget, targets = slice(55, 60), made.problem.sets["forget"].batch(torch.arange(5)).targets
    mine, theirs = (
        by_hand(logits(made, store, jobs)[:, forget], targets.numpy())
        for jobs in (jobs_of(made, name), oracles(made))
    )
    assert len(mine) == len(theirs) == 4
    told = row(found, name)["scores"]["quality"]
    assert told["value"] == pytest.approx(forgetting_quality(mine, theirs))
    assert told["low"] <= told["value"] <= told["high"]
    assert told["n"] == 4


def test_an_accuracy_is_that_of_the_stored_evidence(
    made: Plan, store: Store, found: dict[str, Any]
) -> None:
    rows = {"retain": slice(0, 55), "forget": slice(55, 60), "test": slice(60, 90)}
    for name, where in rows.items():
        data = made.problem.sets[name]
        right = data.batch(torch.arange(len(data))).targets.numpy()
        mine, theirs = (
            (logits(made, store, jobs)[:, where].argmax(-1) == right).mean()
            for jobs in (jobs_of(made, "ascent"), oracles(made))
        )
        told = row(found, "ascent")["scores"][f"accuracy_{name}"]
        assert (told["value"], told["oracle"]) == pytest.approx((mine, theirs))


def test_the_anchors_are_the_controls_own_qualities(found: dict[str, Any]) -> None:
    assert found["ceiling"] == row(found, "retrain")["scores"]["quality"]
    assert found["floor"] == row(found, "nothing")["scores"]["quality"]
    assert found["floor"]["value"] < found["ceiling"]["value"]


def test_members_may_come_in_any_order(made: Plan, store: Store) -> None:
    jobs = jobs_of(made, "finetune")
    one, two = gather(made, store, jobs), gather(made, store, jobs[::-1])
    assert np.array_equal(one.logits, two.logits[::-1])
    against = gather(made, store, oracles(made))
    targets = one.on("forget").targets
    values = [
        forgetting_quality(
            by_hand(each.on("forget").logits.astype(float), targets),
            by_hand(against.on("forget").logits.astype(float)[order], targets),
        )
        for each in (one, two)
        for order in ([0, 1, 2, 3], [2, 0, 3, 1])
    ]
    assert len(set(values)) == 1


def test_the_original_is_read_once(
    made: Plan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    really = Store.tensors

    def counted(self: Store, job: Job, name: str) -> Any:
        read.append(job.key)
        return really(self, job, name)

    monkeypatch.setattr(Store, "tensors", counted)
    nothing = next(m for m in made.methods if m.name == "nothing")
    score(made, store, nothing)
    assert read.count(made.evidence(made.original(0)).key) == 1
    assert len(read) == 1 + 4


def test_the_cost_is_the_share_of_seconds_and_of_examples(made: Plan, store: Store) -> None:
    method = next(m for m in made.methods if m.name == "finetune")
    jobs = jobs_of(made, "finetune")
    told = cost(made, store, method, jobs)
    clock = "seconds" if "accelerator" in hardware() else "processor_seconds"
    mine, theirs = (
        np.median([store.about(job)["receipt"][clock] for job in group])
        for group in (jobs, oracles(made))
    )
    assert told.time_share == pytest.approx(mine / theirs)
    # One epoch over 55 against two.
    assert told.examples_share == 0.5
    assert told.moved > 0 and 0 < told.touched <= 1
    nothing = next(m for m in made.methods if m.name == "nothing")
    free = cost(made, store, nothing, jobs_of(made, "nothing"))
    assert (free.time_share, free.largest) == (0.0, 0.0)
    assert free.retraining_seconds == told.retraining_seconds


def test_a_mean_curve_is_the_mean_and_is_thinned() -> None:
    curves = [[["/0", 1.0, 2.0], ["/0", 2.0, 1.0]], [["/0", 1.0, 4.0], ["/0", 2.0, 2.0]]]
    assert mean_curve(curves) == [["/0", 1.0, 3.0], ["/0", 2.0, 1.5]]
    long = [["/0", float(i), 0.0] for i in range(600)]
    assert len(mean_curve([long])) == 60
    assert mean_curve([[]]) == []


def test_members_of_a_mixture_that_train_longer_do_not_break_the_mean_curve() -> None:
    short, long = [["/0", 1.0, 2.0]], [["/0", 1.0, 4.0], ["/0", 2.0, 1.0]]
    for curves in ([short, long], [long, short]):
        assert mean_curve(curves) == [["/0", 1.0, 3.0], ["/0", 2.0, 1.0]]


def test_the_controls_end_as_they_must(found: dict[str, Any]) -> None:
    assert row(found, "nothing")["verdict"] == "changed nothing"
    assert row(found, "retrain")["verdict"] == "too few models to say"
    assert [r["name"] for r in found["rows"] if r["control"]] == ["retrain", "nothing"]
    assert any("With 4 models" in said for said in found["not_shown"])


def test_the_summary_names_the_forgotten(made: Plan, found: dict[str, Any]) -> None:
    assert found["problem"]["rows"] == [0, 1, 2, 3, 4]
    assert found["problem"]["sizes"] == {
        "train": 60, "forget": 5, "retain": 55, "val": 9, "test": 30,
    }  # fmt: skip
    assert {shown["example"] for shown in found["gallery"]} == {0, 1, 2, 3, 4}
    for example in found["gallery"]:
        # Without names of classes the number stands in.
        assert example["class"] == str(example["example"] % 3)
        assert np.array(example["picture"]).shape == (1, 4, 4)
        assert set(example["unlearned"]) == {"retrain", "finetune", "ascent"}
        assert all(len(signal) == 4 for signal in example["unlearned"].values())


def test_scores_come_back_from_the_store_as_they_were(made: Plan, store: Store) -> None:
    nothing = next(m for m in made.methods if m.name == "nothing")
    record = store.about(made.score(nothing))
    read = made.task.read_scores(record)
    assert json.loads(json.dumps(read.to_json())) == record
    assert read.quality.value == record["scores"]["quality"]["value"]
    again = json.loads(json.dumps(score(made, store, nothing).to_json()))
    assert again == record


def finite(thing: Any) -> bool:
    if isinstance(thing, dict):
        return all(map(finite, thing.values()))
    if isinstance(thing, list | tuple):
        return all(map(finite, thing))
    return not isinstance(thing, float) or math.isfinite(thing)


@pytest.mark.parametrize("members", [2, 3])
@pytest.mark.parametrize("protocol", ["challenge", "paired"])
def test_two_models_are_enough_for_a_record_that_is_json(
    tmp_path: Path, members: int, protocol: str
) -> None:
    small = plan(members=members, protocol=protocol)
    told = summary(small, carried_out(small, Store(tmp_path / "s")))
    assert finite(told)
    assert json.loads(json.dumps(told, allow_nan=False)).keys() == told.keys()
    if members == 2:
        # Two models say nothing about the spread: all that is possible stays possible.
        scores = row(told, "finetune")["scores"]
        assert (scores["quality"]["low"], scores["quality"]["high"]) == (0.0, 1.0)
        best = 1 / (scores["accuracy_retain"]["oracle"] * scores["accuracy_test"]["oracle"])
        assert scores["score"]["low"] == 0.0
        assert scores["score"]["high"] == pytest.approx(best)
    assert "finetune" in plain(told)
    assert "finetune" in render(told)


def test_a_problem_without_a_test_set_works_all_the_way(tmp_path: Path) -> None:
    bare = plan(problem(test=False), members=3)
    told = summary(bare, carried_out(bare, Store(tmp_path / "s")))
    finetuned = row(told, "finetune")
    assert set(finetuned["scores"]) == {
        "quality", "accuracy_retain", "accuracy_forget", "divergence_forget", "distance_forget",
    }  # fmt: skip
    assert shown(finetuned)["test"] == "-"
    assert "finetune" in render(told)


class Photographs(Dataset[Any]):
    """Read when asked for; without a list of targets to look at."""

    def __init__(self, n: int, seed: int) -> None:
        self.data = pictures(n, seed)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return self.data.inputs[row], int(self.data.targets[row])


def test_a_data_set_that_is_read_on_demand_gives_the_same_models(
    made: Plan, store: Store, found: dict[str, Any], tmp_path: Path
) -> None:
    base = made.problem
    lazy = Problem.split(
        Photographs(60, 1),
        torch.arange(5),
        name="tiny",
        test=Photographs(30, 2),
        val=Photographs(9, 3),
        architecture=base.architecture,
        recipe=base.recipe,
    )
    mine = plan(lazy)
    told = summary(mine, carried_out(mine, Store(tmp_path / "s")))
    for name in ("retrain", "finetune"):
        one, two = (row(each, name)["scores"]["quality"] for each in (told, found))
        assert one["value"] == two["value"]


def test_names_of_classes_are_shown(tmp_path: Path) -> None:
    named = plan(problem(classes=("ant", "bee", "cat")), members=2)
    told = summary(named, carried_out(named, Store(tmp_path / "s")))
    assert {shown["class"] for shown in told["gallery"]} <= {"ant", "bee", "cat"}
    assert told["problem"]["classes"] == ["ant", "bee", "cat"]


def test_the_table_has_a_row_for_each_and_no_column_is_cut(found: dict[str, Any]) -> None:
    text = plain(found, width=160)
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["retrain", "nothing", "finetune", "ascent"]
    assert all(one.name in lines[0] for one in COLUMNS if one.name != "audits")
    quality = row(found, "finetune")["scores"]["quality"]
    assert f"{quality['value']:.4f} [{quality['low']:.4f}, {quality['high']:.4f}]" in lines[3]
    assert "…" not in text
    assert "\x1b" not in text


def test_a_dear_row_is_marked_and_an_unscored_one_says_why(found: dict[str, Any]) -> None:
    cheap = row(found, "finetune")
    for share, cell in ((0.2, "20%"), (0.21, "21% !")):
        dear = {**cheap, "cost": {**cheap["cost"], "time_share": share}}
        assert shown(dear)["cost"] == cell
    head = {key: cheap[key] for key in ("name", "sentence", "source", "control")}
    assert shown({**head, "unscored": "it diverged"})["verdict"] == "unscored: it diverged"


def test_signs_of_markup_in_a_name_are_printed_as_they_are(tmp_path: Path) -> None:
    odd = plan(methods={"[red]x[/red]": METHODS["finetune"]}, members=2)
    odd = replace(odd, experiment=replace(odd.experiment, name="[bold]t"))
    assert "[red]x[/red]" in plain(summary(odd, carried_out(odd, Store(tmp_path / "s"))))


def test_a_summary_names_no_folder_of_the_machine(made: Plan, store: Store) -> None:
    private = replace(made, experiment=replace(made.experiment, data="/home/someone/pictures"))
    assert summary(private, store)["experiment"]["data"] == "pictures"
