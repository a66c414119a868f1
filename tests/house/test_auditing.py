"""Audits in an experiment: measured once, resumed one by one, shared, and they end no run."""

from __future__ import annotations

import io
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from house_tools import METHODS, ONE, RECIPE, carried_out, net, pictures, plan, timed
from rich.console import Console
from torch import nn

import expunge
from expunge.audits.images.answers import ForgetConfidence, OverUnlearning
from expunge.audits.images.classifier_audit import ClassifierAudit, ImageContext, audit_rows
from expunge.audits.images.relearn import Quantise, Relearn
from expunge.core.problem import Problem
from expunge.core.store import Job, Store
from expunge.core.vocabulary import word
from expunge.engine.stacking import Timing
from expunge.errors import StoreError, Unsupported
from expunge.experiments.audit_jobs import (
    AuditRoles,
    AuditRound,
    counted,
    due,
    findings_of,
    make_round,
    measured,
)
from expunge.experiments.audit_jobs import timed as paced
from expunge.experiments.graph import make
from expunge.experiments.make import load_model
from expunge.experiments.plan import Plan
from expunge.experiments.progress import cost_lines
from expunge.experiments.summary import summary
from expunge.methods.sentences import as_method
from expunge.report.page import render
from expunge.report.terminal import plain

SHORT = Relearn(steps=2, share=0.5, batch=8)
AUDITS = (ForgetConfidence(), SHORT, Quantise(bits=4))
AUDITED = 3


def classwise() -> Problem:
    """A whole class of three is to be forgotten."""
    data = pictures(60, 1)
    rows = torch.nonzero(data.targets == 0).flatten()
    rest: dict[str, Any] = {"architecture": net, "recipe": as_method(RECIPE, "recipe")}
    return Problem.split(data, rows, name="tiny", test=pictures(30, 2), **rest)


def audited_plan(**changes: Any) -> Plan:
    given = {"methods": ONE, "audits": AUDITS, "audited": AUDITED, "protocol": "paired", **changes}
    return plan(classwise(), **given)


@pytest.fixture(scope="module")
def made() -> Plan:
    return audited_plan()


@pytest.fixture(scope="module")
def store(made: Plan, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return carried_out(made, Store(tmp_path_factory.mktemp("audited") / "s"))


@pytest.fixture(scope="module")
def told(made: Plan, store: Store) -> dict[str, Any]:
    return summary(made, store)


def snapshot(store: Store) -> dict[str, int]:
    return {str(place): place.stat().st_mtime_ns for place in store.root.glob("*/*/*/job.json")}


def copied(store: Store, place: Path) -> Store:
    shutil.copytree(store.root, place / "copy")
    return Store(place / "copy")


def numbers(store: Store) -> list[Path]:
    return list(store.root.glob("audited/*/*"))


def test_each_audit_measures_each_model_once(made: Plan, store: Store) -> None:
    # originals, oracles, retrain and finetune; three of each, and three audits
    assert len(numbers(store)) == 4 * AUDITED * len(AUDITS)
    assert AuditRoles(made).size == 4 * AUDITED
    before = snapshot(store)
    assert list(make(made, store)) == []
    assert snapshot(store) == before


def test_the_first_oracle_is_the_yardstick_and_no_one_is_compared_with_it(made: Plan) -> None:
    cast = AuditRoles(made)
    assert cast.yardsticks == (made.original(0), made.oracle(0))
    assert [job.seed for job in cast.oracles] == [1, 2, 3]
    assert [job.seed for job in cast.subjects(made.methods[-1])] == [0, 1, 2]
    few = AuditRoles(audited_plan(members=3))
    assert [job.seed for job in few.oracles] == [1, 2]
    assert few.size == 3 + 2 + 2 * 3


def test_the_store_holds_what_the_frame_finds(made: Plan, store: Store) -> None:
    cast = AuditRoles(made)

    def loaded(jobs: tuple[Job, ...]) -> list[nn.Module]:
        return [load_model(made, store, job) for job in jobs]

    rows = {m.name: loaded(cast.subjects(m)) for m in made.methods}
    oracles = loaded((cast.yardsticks[1], *cast.oracles))
    found = audit_rows(AUDITS, rows, oracles, loaded(cast.originals), made.problem)
    for method in made.methods:
        mine = findings_of(made, store, method)["findings"]
        for record, finding in zip(mine, found[method.name], strict=True):
            for group in ("subject", "oracle", "original"):
                assert record[group] == list(getattr(finding, group))
            assert (record["audit"], record["word"]) == (finding.audit, finding.word)


def test_controls_and_methods_are_in_the_summary_alike(told: dict[str, Any]) -> None:
    for row in told["rows"]:
        audits = row["audits"]
        assert audits["models"] == AUDITED
        assert [one["audit"] for one in audits["findings"]] == list(map(repr, AUDITS))
        assert audits["verdict"]["word"] in ("found", "excluded", "inconclusive", "unscored")
    assert told["experiment"]["audits"] == list(map(repr, AUDITS))
    assert told["audit_alarms"]["rate"]["n"] == 40
    assert json.loads(json.dumps(told, allow_nan=False)) is not None


def test_nothing_recovers_all_that_the_original_knows(told: dict[str, Any]) -> None:
    rows = {row["name"]: row["audits"] for row in told["rows"]}
    scored = [one for one in rows["nothing"]["findings"] if "recovered" in one]
    assert scored
    assert all(one["recovered"]["value"] == pytest.approx(1.0) for one in scored)
    assert rows["nothing"]["verdict"]["word"] == "found"
    assert rows["retrain"]["verdict"]["word"] != "found"


def test_what_was_not_shown_depends_on_whether_there_were_audits(
    told: dict[str, Any], tmp_path: Path
) -> None:
    assert not any("were not run here" in said for said in told["not_shown"])
    assert any("Audits measured 3 models" in said for said in told["not_shown"])
    (left,) = [said for said in told["not_shown"] if "usual audits of the weights" in said]
    assert "RecoveryArea()" in left and " Relearn()" not in left
    without = plan(methods=ONE)
    plainly = summary(without, carried_out(without, Store(tmp_path / "s")))
    assert any("were not run here" in said for said in plainly["not_shown"])
    assert plainly["audit_alarms"] == {}
    assert "audits" not in plainly["rows"][0]
    assert "  audits  " not in plain(plainly).splitlines()[0]


def test_the_table_has_a_column_and_the_report_a_card(told: dict[str, Any]) -> None:
    text = plain(told)
    assert " audits " in text.splitlines()[0]
    assert "False alarms of the audits: between random halves" in text
    page = render(told)
    assert page.count("Audits of the weights <span") == 3
    assert "Relearn(steps=2, share=0.5, batch=8)" in page


def test_a_number_that_is_lost_is_measured_again_and_no_other(
    made: Plan, store: Store, tmp_path: Path
) -> None:
    mine = copied(store, tmp_path)
    cast = AuditRoles(made)
    lost = cast.number(SHORT, cast.oracles[1])
    value = mine.about(lost)["value"]
    for job in (lost, cast.findings(made.methods[-1])):
        shutil.rmtree(mine.folder(job))
    assert counted(made, mine)["audits"][:2] == (35, 36)
    before = snapshot(mine)
    stages = [(piece.stage, piece.made, piece.of) for piece in make(made, mine)]
    assert stages == [("audits", 0, 1), ("audits", 1, 1), ("findings", 0, 1), ("findings", 1, 1)]
    assert mine.about(lost)["value"] == value
    assert {k: v for k, v in snapshot(mine).items() if k in before} == before
    assert len(snapshot(mine)) == len(before) + 2


@pytest.mark.parametrize("what", ["number", "original", "oracle", "unlearned"])
def test_a_corrupt_input_is_made_again(made: Plan, store: Store, tmp_path: Path, what: str) -> None:
    mine, cast = copied(store, tmp_path), AuditRoles(made)
    finding = mine.about(cast.findings(made.methods[-1]))
    number = cast.number(SHORT, cast.subjects(made.methods[-1])[1])
    model = {
        "original": cast.yardsticks[0],
        "oracle": cast.yardsticks[1],
        "unlearned": cast.subjects(made.methods[-1])[1],
    }.get(what)
    if model is None:
        (mine.folder(number) / "job.json").write_text("{}")
    else:
        (mine.folder(model) / "model.safetensors").write_bytes(b"torn")
        shutil.rmtree(mine.folder(number))
    shutil.rmtree(mine.folder(cast.findings(made.methods[-1])))
    list(make(made, mine))
    again = mine.about(cast.findings(made.methods[-1]))
    assert again == finding


def test_experiments_share_numbers(made: Plan, store: Store, tmp_path: Path) -> None:
    mine = copied(store, tmp_path)
    before = len(numbers(mine))
    more = audited_plan(methods=METHODS, audits=AUDITS[:2])
    list(make(more, mine))
    assert len(numbers(mine)) - before == AUDITED * 2  # those of the new method alone


def test_a_key_says_audit_seed_and_yardstick(made: Plan) -> None:
    def key(made: Plan, audit: ClassifierAudit = SHORT) -> str:
        return AuditRoles(made).number(audit, AuditRoles(made).oracles[0]).key

    assert key(made) == key(audited_plan(members=5))
    assert key(made) != key(made, replace(SHORT, steps=3))
    assert key(made) != key(audited_plan(seed=1))


@word
class Torn(ClassifierAudit):
    """Fails as told for models whose first bias is above that of the original."""

    unit: ClassVar[str] = "units"
    more: ClassVar[Any] = "knows more"
    how: str = "nan"

    def mismatch(self, problem: Problem) -> str:
        return "no one asked" if self.how == "unfit" else ""

    def measure(self, model: nn.Module, context: ImageContext) -> float:
        faults: dict[str, Exception] = {
            "unsupported": Unsupported("It has no heart."),
            "value": ValueError("1 value"),
            "shape": RuntimeError("mat1 and mat2 cannot\nbe multiplied"),
        }
        if self.how in faults:
            raise faults[self.how]
        return math.nan


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("nan", "3 of 3 unlearned models gave no number: Torn() gives nan"),
        ("unsupported", "It has no heart."),
        ("value", "1 value"),
        ("shape", "mat1 and mat2 cannot"),
        ("unfit", "It does not fit the problem: no one asked."),
    ],
)
def test_an_audit_that_fails_is_a_reason_and_the_others_are_complete(
    store: Store, tmp_path: Path, how: str, reason: str
) -> None:
    mine = copied(store, tmp_path)
    before = len(numbers(mine))
    made = audited_plan(audits=(AUDITS[0], Torn(how)))
    list(make(made, mine))
    found = summary(made, mine)
    for row in found["rows"]:
        first, second = row["audits"]["findings"]
        assert first["word"] != "unscored"
        assert second["word"] == "unscored"
        assert reason in second["reason"]
        assert row["audits"]["scored"] == 1
    assert reason in render(found).replace("&#39;", "'")
    assert list(make(made, mine)) == []
    if how == "unfit":
        assert len(numbers(mine)) == before


def test_audits_that_all_fail_are_told(store: Store, tmp_path: Path) -> None:
    mine, made = copied(store, tmp_path), audited_plan(audits=(Torn(),))
    list(make(made, mine))
    found = summary(made, mine)
    assert {row["audits"]["verdict"]["word"] for row in found["rows"]} == {"unscored"}
    assert "False alarms of the audits are not known" in plain(found)
    assert "No number: Torn()" in render(found)


def test_want_of_memory_is_no_finding(made: Plan, store: Store) -> None:
    class Greedy(Torn):
        def measure(self, model: nn.Module, context: ImageContext) -> float:
            raise torch.OutOfMemoryError("no room")

    from expunge.experiments.audit_jobs import AuditSetting

    model = load_model(made, store, AuditRoles(made).oracles[0])
    with pytest.raises(torch.OutOfMemoryError):
        measured(Greedy(), model, AuditSetting(AuditRoles(made), store))


def test_a_method_that_failed_is_not_audited(tmp_path: Path) -> None:
    made = audited_plan(methods={"bad": "Train(CE('retain'), epochs=0.1, lr=1e-30)"})
    store = carried_out(made, Store(tmp_path / "s"))
    rows = {row["name"]: row for row in summary(made, store)["rows"]}
    assert "unscored" in rows["bad"] and "audits" not in rows["bad"]
    assert counted(made, store)["audits"][:2] == (27, 27)
    assert list(make(made, store)) == []
    assert plain(summary(made, store))


def test_copies_of_one_model_are_one_witness(tmp_path: Path) -> None:
    made = audited_plan(methods={"prune": "Zero(Smallest(0.3))"}, protocol="challenge")
    store = carried_out(made, Store(tmp_path / "s"))
    for method in made.methods[1:]:
        first = findings_of(made, store, method)["findings"][0]
        assert (len(first["subject"]), len(first["original"])) == (1, 1)
    assert len(findings_of(made, store, made.retrain)["findings"][0]["subject"]) == AUDITED


def test_too_few_models_are_unscored(tmp_path: Path) -> None:
    made = audited_plan(members=2)
    store = carried_out(made, Store(tmp_path / "s"))
    found = findings_of(made, store, made.retrain)
    assert "at least 2" in found["findings"][0]["reason"]
    assert "is the least" in found["false_alarms"]["reason"]


def test_another_who_measures_is_not_doubled(made: Plan, store: Store, tmp_path: Path) -> None:
    mine, cast = copied(store, tmp_path), AuditRoles(made)
    round_ = AuditRound(SHORT, "oracles")
    shutil.rmtree(mine.folder(cast.number(SHORT, cast.oracles[0])))
    with mine.claim(cast.number(SHORT, cast.oracles[0]).key):
        assert make_round(made, mine, round_, wait=False) == "busy"
    assert len(due(cast, mine, round_)) == 1
    assert make_round(made, mine, round_, wait=False) == "made"
    assert due(cast, mine, round_) == []
    assert round_.title == "Relearn, oracles"


def test_findings_that_are_not_there_are_told(made: Plan, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="retrain has not been audited"):
        findings_of(made, Store(tmp_path / "s"), made.retrain)
    assert findings_of(plan(), Store(tmp_path / "s"), plan().retrain) == {}


def test_the_audits_are_counted_and_forecast(made: Plan, store: Store) -> None:
    models, of, seconds = counted(made, store)["audits"]
    assert (models, of) == (36, 36)
    assert seconds is not None and seconds > 0
    assert counted(plan(), store) == {}
    line = list(cost_lines(made, Timing(0.16, 0.016)))[-1]
    assert (line.what, line.models, line.examples) == ("audits", 12, None)
    assert line.seconds > 0
    assert set(paced(audited_plan(audits=(*AUDITS, Torn())))) == set(AUDITS)


def test_the_forecast_and_the_status_print_a_line(made: Plan, store: Store) -> None:
    from expunge.experiments.progress import print_cost

    text = io.StringIO()
    print_cost(made, store, 2, Console(file=text, width=160))
    (line,) = [line for line in text.getvalue().splitlines() if line.startswith("audits")]
    assert line.split()[1:3] == ["12", "-"]


@pytest.mark.slow  # two processes start
def test_processes_measure_the_same(tmp_path: Path) -> None:
    # A worker reads the problem by its name, so this one is a shipped problem.
    from expunge.experiments.experiment import read
    from expunge.experiments.planning import plan_for

    text = (
        'name = "few"\nforget = "WholeClass(3)"\nmembers = 3\naudited = 2\n'
        'audits = ["ForgetConfidence()"]\n'
        "recipe = \"Train(CE('train'), epochs=1, lr=0.1, batch=128)\"\n[methods]\n"
    )
    made = plan_for(read(text, "here"))
    values = []
    for jobs in (1, 2):
        mine = Store(tmp_path / str(jobs))
        timed(made, mine)
        list(make(made, mine, jobs))
        values.append(findings_of(made, mine, made.retrain))
    assert values[0] == values[1]


def test_a_comparison_takes_audits() -> None:
    told = expunge.compare(
        classwise(), ONE, members=3, audits=["Quantise(bits=4)", "OverUnlearning()"], audited=2
    )
    found = told["finetune"]["audits"]["findings"]
    assert [one["audit"] for one in found] == ["Quantise(bits=4)", repr(OverUnlearning())]
    assert "audits" in str(told)
