"""The five words on every method of an experiment on pictures, from what lies in its store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from house_tools import RECIPE, carried_out, net, pictures, plan
from rich.console import Console
from safetensors.torch import save_file
from typer.testing import CliRunner

from expunge.audits.controls import LookedUp
from expunge.audits.images.answers import ForgetConfidence, NoisyInputs, OverUnlearning
from expunge.audits.images.classifier_audit import ClassifierAudit, logits_on
from expunge.audits.images.classifier_verdict import PANEL, breakage, kept_accuracy
from expunge.audits.images.probe import IllusionGap, LinearProbe
from expunge.audits.images.relearn import Prune, Quantise
from expunge.audits.verdict import AuditEffect
from expunge.cli.audit import _own
from expunge.cli.main import app
from expunge.core.batch import Tensors
from expunge.core.problem import Problem
from expunge.core.store import Store
from expunge.errors import BadData, BadEvidence, BadSentence, StoreError
from expunge.experiments.auditing import classifiers as court
from expunge.experiments.auditing.classifiers import (
    CONTROLS,
    panel_of,
    refuse_oracles,
    trial,
    verdicts,
)
from expunge.experiments.auditing.experiment_audit import ExperimentAuditRequest
from expunge.experiments.experiment import load
from expunge.experiments.graph import audit
from expunge.experiments.make import load_model
from expunge.experiments.plan import Plan
from expunge.methods.sentences import as_method
from expunge.report.audit_table import cells, draw
from expunge.report.verdicts import render
from expunge.statistics.result import Effect

RUN = CliRunner()
MEMBERS = 9
METHODS = {
    "sham": "Train(0.05 * Relabel('forget') + KL('retain'), epochs=1, lr=0.1, where=Last(1))",
    "finetune": "Train(CE('retain'), epochs=0.3, lr=0.001, batch=16)",
    "wild": "Train(-CE('retain'), epochs=8, lr=0.5, batch=16)",
    "peek": "Train(CE('test'))",
}
AUDITS = (ForgetConfidence(), Quantise(bits=4), OverUnlearning(steps=1), LinearProbe())


def classwise() -> Problem:
    """A whole class of three is to be forgotten."""
    data = pictures(90, 1)
    rest: dict[str, Any] = {"architecture": net, "recipe": as_method(RECIPE, "recipe")}
    rows = torch.nonzero(data.targets == 0).flatten()
    return Problem.split(data, rows, name="tiny", test=pictures(60, 2), **rest)


def made(**changes: Any) -> Plan:
    given = {"methods": METHODS, "members": MEMBERS, "protocol": "paired", "audited": 8, **changes}
    return plan(classwise(), **given)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The experiment, carried out with its audits; not to be changed."""
    torch.set_num_threads(1)
    return carried_out(made(audits=AUDITS), Store(tmp_path_factory.mktemp("trial") / "s"))


@pytest.fixture(scope="module")
def found(store: Store) -> dict[str, Any]:
    here = trial(made(audits=AUDITS), store, ExperimentAuditRequest())
    for _ in audit(here.plan, store):
        continue
    return dict(verdicts(here))


@pytest.fixture
def copied(store: Store, tmp_path: Path) -> Iterator[Store]:
    shutil.copytree(store.root, tmp_path / "copy")
    yield Store(tmp_path / "copy")


def told(found: dict[str, Any]) -> dict[str, str]:
    return {row["name"]: row["members"][0]["word"] for row in found["rows"]}


def test_controls_are_called_by_their_names(found: dict[str, Any]) -> None:
    words = told(found)
    assert words["retrain"] in ("removed", "inconclusive")
    assert words["nothing"] == "not forgotten"
    assert words["filter"] == "suppressed"
    assert words["sham"] != "removed"
    assert words["finetune"] == "not forgotten"
    assert words["wild"] == "collapsed"
    assert found["absent"].keys() == {"peek"}
    assert [row["name"] for row in found["rows"] if row["control"]] == list(CONTROLS)


def test_the_untouched_original_keeps_its_whole_lead_and_the_filter_its_weights(found: Any) -> None:
    rows = {row["name"]: row["members"][0]["lines"] for row in found["rows"]}
    assert all(line["left"]["value"] == pytest.approx(1.0) for line in rows["nothing"])
    asked, rounded, probed = rows["filter"]
    assert asked["left"]["value"] == pytest.approx(0.0, abs=0.1)
    assert rounded["left"]["value"] == pytest.approx(1.0, abs=0.5)
    assert probed["mean"] > 0.5
    # what reads damage has no say, and is not in the table
    assert [line["audit"] for line in rows["sham"]] == [
        "ForgetConfidence()", "Quantise(bits=4)", "LinearProbe()",
    ]  # fmt: skip
    assert found["models"] == 8
    assert found["oracles"] == 8
    assert found["anchors"][0]["audits"]["LinearProbe()"]["means"].keys() == {
        "original", *(f"oracle {n}" for n in range(1, 9)),
    }  # fmt: skip


def test_what_an_experiment_measured_is_not_measured_again(copied: Store, found: Any) -> None:
    here = trial(made(audits=AUDITS), copied, ExperimentAuditRequest())
    assert list(audit(here.plan, copied)) == []
    # half of it lost, it goes on with the other half, and says the same
    for folder in sorted(copied.root.glob("audited/*/*"))[::2]:
        shutil.rmtree(folder)
    assert list(audit(here.plan, copied))
    again = verdicts(trial(made(audits=AUDITS), copied, ExperimentAuditRequest()))
    assert again["rows"] == found["rows"]


def test_without_audits_in_the_file_the_panel_judges(store: Store) -> None:
    assert panel_of(made().experiment) == PANEL
    listed = made(audits=(Quantise(bits=4), IllusionGap(), NoisyInputs())).experiment
    assert panel_of(listed) == (ForgetConfidence(), Quantise(bits=4), NoisyInputs())
    assert panel_of(listed, ("transforms",)) == (ForgetConfidence(), Quantise(bits=4))
    with pytest.raises(BadSentence, match=r"no family 'insid'.*Did you mean inside"):
        panel_of(listed, ("insid",))


def test_fewer_models_than_are_asked_for_are_told(store: Store) -> None:
    here = trial(made(audits=AUDITS), store, ExperimentAuditRequest(seeds=tuple(range(4))))
    assert here.plan.experiment.audited == 4
    # one oracle is the yardstick, so that nine models make eight
    assert (
        trial(
            made(audits=AUDITS), store, ExperimentAuditRequest(seeds=tuple(range(90)))
        ).plan.experiment.audited
        == 8
    )


def test_bad_input_is_told(copied: Store, tmp_path: Path) -> None:
    with pytest.raises(BadSentence, match=r"no method 'finetun'.*Did you mean finetune"):
        trial(made(), copied, ExperimentAuditRequest(only=("finetun",)))
    with pytest.raises(StoreError, match="0 retrained models with their originals"):
        trial(made(), Store(tmp_path / "new"), ExperimentAuditRequest())
    with pytest.raises(BadSentence, match="is called 'filter'"):
        trial(made(methods={"filter": METHODS["finetune"]}), copied, ExperimentAuditRequest())
    more = {**METHODS, "late": "Noise(0.1)"}
    late = trial(made(methods=more), copied, ExperimentAuditRequest(only=("late", "nothing")))
    assert late.absent == {"late": "It has 0 of 8 models in this store; run the experiment."}
    assert late.names == ("nothing",)
    # the sham is read all the same: what the audits may say hangs on it
    assert [method.name for method in late.plan.experiment.methods] == ["sham"]


def effect(value: float, half: float = 0.02) -> Effect:
    return Effect("e", "u", value, value - half, value + half, 0.9 if value < 0.1 else 1e-6,
                  0.5, 0.1, 0.05, (8, 8), 0.04, 0.04)  # fmt: skip


@pytest.mark.parametrize("who", ["filter", "sham"])
def test_nobody_is_removed_by_audits_that_acquit_a_control(
    store: Store, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    here = trial(made(audits=AUDITS), store, ExperimentAuditRequest())

    def heard(_: Any, name: str) -> list[AuditEffect]:
        shown = 0.9 if name in {"filter", "sham"} - {who} else 0.0
        asked = AuditEffect("Ask()", "asking", effect(0.0), plain=True)
        return [asked, AuditEffect("Try()", "relearning", effect(shown))]

    monkeypatch.setattr(court, "_effects", heard)
    held = court._judged(here, "retrain", heard(here, "retrain"))
    assert held.word == "inconclusive"
    assert court.HIDES[who] in held.reason
    caught = "sham" if who == "filter" else "filter"
    monkeypatch.setattr(court, "_effects", lambda _, name: heard(_, caught))
    assert court._judged(here, "retrain", heard(here, "retrain")).word == "removed"


def test_half_of_what_is_gained_over_one_answer_is_usable() -> None:
    problem = classwise()
    targets = problem.sets["test"].batch(torch.arange(60)).targets
    right = torch.nn.functional.one_hot(targets, 3).float()
    assert kept_accuracy(right, problem) == 1.0
    # class 0 is forgotten: what is said of it does not count
    wrong = right.clone()
    wrong[targets == 0] = torch.tensor([0.0, 1.0, 0.0])
    assert kept_accuracy(wrong, problem) == 1.0
    wrong[targets == 1] = torch.tensor([0.0, 0.0, 1.0])
    assert kept_accuracy(wrong, problem) == 0.5
    assert breakage([0.75], [1.0], problem) == ""
    assert "one answer to everything 50.0%" in breakage([0.74], [1.0], problem)


def test_a_list_of_pictures_answers_as_another_model() -> None:
    problem = classwise()
    model, other = (problem.untrained("list", seed).eval() for seed in (0, 1))
    listed = LookedUp(model, other, problem.sets["forget"])
    forget, retain = problem.sets["forget"], problem.sets["retain"]
    assert torch.equal(logits_on(listed, forget), logits_on(other, forget))
    assert torch.equal(logits_on(listed, retain), logits_on(model, retain))
    batch = forget.batch(torch.arange(len(forget)))
    moved = Tensors(batch.inputs + 1e-6, batch.targets)
    assert torch.allclose(logits_on(listed, moved), logits_on(model, moved))
    assert not torch.allclose(logits_on(listed, moved), logits_on(other, moved), atol=1e-3)


def test_table_and_page_say_the_same(found: dict[str, Any]) -> None:
    html = render(found)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    for row in found["rows"]:
        assert f"<bdi>{row['name']}</bdi>: {cells(row)[1]}" in html
    assert "8 models together: " in html
    assert "wall-clock time" in html
    assert "<script" not in html
    assert "http" not in html.replace("http-equiv", "")
    console = Console(width=200, record=True)
    draw(found, console)
    text = " ".join(console.export_text().split())
    assert "30 images to be forgotten; 8 retrained models, one more to compare" in text
    assert "peek was not audited" in text


def test_one_s_own_weights_stand_beside_the_methods(copied: Store, tmp_path: Path) -> None:
    whole = made(audits=AUDITS)
    file = tmp_path / "mine.safetensors"
    original = load_model(whole, copied, whole.original(whole.experiment.seeds[8]))
    save_file(original.state_dict(), file)
    own = _own(str(file), whole)
    here = trial(whole, copied, ExperimentAuditRequest(only=("retrain",)), own)
    found = verdicts(here)
    assert told(dict(found)).keys() == {"retrain", "mine"}
    assert told(dict(found))["mine"] == "not forgotten"
    assert found["rows"][1]["members"][0]["who"] == "One model"
    before = len(list(copied.root.glob("audited/*/*")))
    assert (
        verdicts(trial(whole, copied, ExperimentAuditRequest(only=("retrain",)), own))["rows"]
        == found["rows"]
    )
    assert len(list(copied.root.glob("audited/*/*"))) == before
    oracle = load_model(whole, copied, whole.oracle(whole.experiment.seeds[2]))
    with pytest.raises(BadEvidence, match="is a retrained model of the experiment"):
        refuse_oracles(replace(here, own={"mine": oracle}), "mine")
    with pytest.raises(BadSentence, match="has a row 'finetune' already"):
        trial(whole, copied, ExperimentAuditRequest(), {"finetune": original})


def test_files_that_are_no_weights_are_refused(tmp_path: Path) -> None:
    whole, file = made(), tmp_path / "mine.safetensors"
    with pytest.raises(BadData, match=r"expected a file \.safetensors"):
        _own(str(file), whole)
    file.write_bytes(b"\x80\x04 no tensors")
    with pytest.raises(BadData, match="does not fit the network"):
        _own(str(file), whole)
    save_file({"1.weight": torch.zeros(8, 16)}, file)
    with pytest.raises(BadData, match="Missing key"):
        _own(str(file), whole)
    assert _own("", whole) == {}


def test_the_margin_is_the_audits_own() -> None:
    assert ExperimentAuditRequest().margin == ClassifierAudit.margin == 0.1
    assert all(one.margin == ClassifierAudit.margin for one in PANEL)
    assert Prune() in panel_of(load("digits"))


FILE = """
name = "few"
problem = "digits"
forget = "WholeClass(3)"
members = 4
protocol = "paired"
recipe = "Train(CE('train'), epochs=1, lr=0.1, batch=64)"
[methods]
finetune = "Train(CE('retain'), epochs=0.2, lr=0.01, batch=64)"
"""


@pytest.mark.slow
def test_one_command_audits_an_experiment_on_pictures(tmp_path: Path) -> None:
    file, store, out = tmp_path / "few.toml", str(tmp_path / "s"), tmp_path / "found.json"
    file.write_text(FILE, "utf-8")
    assert RUN.invoke(app, ["run", str(file), "--store", store, "--jobs", "1"]).exit_code == 0
    ask = ["audit", "--experiment", str(file), "--store", store, "--jobs", "1"]
    done = RUN.invoke(app, [*ask, "--only", "transforms"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "s" / "reports" / "few-audit.html").is_file()
    assert RUN.invoke(app, [*ask, "--out", str(out), "--methods", "nothing"]).exit_code == 0
    rows = json.loads(out.read_text("utf-8"))["rows"]
    assert [row["name"] for row in rows] == ["nothing"]
    assert told({"rows": rows}) == {"nothing": "not forgotten"}
    refused = RUN.invoke(app, [*ask, "--seed", "1"]).exception
    assert "judged together" in str(refused)
