"""All methods of an experiment before the audits: controls, shared anchors, resuming, the page."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import text_tools
import torch
from rich.console import Console
from typer.testing import CliRunner

from expunge.audits.audit import AuditedModel, Measurement
from expunge.audits.finding import REDACTED
from expunge.audits.text.asking import Prefix, Question
from expunge.audits.text.facts import FactAudit, FactContext, held, measurement
from expunge.audits.text.relearning import Related, RelearnFacts, Unrelated
from expunge.audits.text.transforms import QuantiseLayers
from expunge.cli.main import app
from expunge.core.store import Store
from expunge.core.vocabulary import word
from expunge.errors import BadSentence, StoreError, Unsupported
from expunge.experiments.auditing.experiment_audit import ExperimentAuditRequest
from expunge.experiments.auditing.language_models import read_all, verdicts
from expunge.experiments.auditing.lm_models import seed_models
from expunge.experiments.experiment import load
from expunge.experiments.graph import make
from expunge.experiments.plan import Plan
from expunge.experiments.planning import plan_for
from expunge.report.audit_table import cells, draw, families, markdown, strongest, verdict
from expunge.report.verdicts import render

RUN = CliRunner()


@word
class Counted(FactAudit):
    """What the weights hold, and whose they are written down."""

    family: ClassVar[Any] = "inside"
    unit: ClassVar[str] = "units"
    calls: ClassVar[list[str]] = []

    def __call__(self, subject: AuditedModel, context: FactContext) -> Measurement:
        self.calls.append(subject.name)
        drawn = (("<b>{{ 7 * 7 }}</b>\x1b[31m", "[red]x[/red]"),)
        also = {"layer 0": 0.5, "layer 1": 1.5}
        return measurement(
            context.problem.forget, held(subject, context), examples=drawn, details=also
        )


PANEL = (
    Question(tokens=8),
    Prefix(),
    QuantiseLayers(),
    RelearnFacts(Related(), steps=2, lrs=(0.001,), every=1),
    RelearnFacts(Unrelated(), steps=2, lrs=(0.001,), every=1),
    Counted(),
)
# six facts of three people and two retrained models: so few that little can be said with certainty
ASKED = ExperimentAuditRequest(PANEL, (0,), margin=0.6, alpha=0.2)
MODELS = ("original", "oracle 1", "oracle 2", "guardrail", "retrain", "gibberish", "finetune")


def plan() -> Plan:
    return text_tools.plan(members=3)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The experiment on twelve people, carried out and read; not to be changed."""
    torch.set_num_threads(1)
    store = Store(tmp_path_factory.mktemp("trial") / "store")
    for _ in make(plan(), store):
        continue
    Counted.calls.clear()
    assert [who for who, _ in read_all(plan(), store, ASKED)] == [f"{m}, member 0" for m in MODELS]
    assert tuple(Counted.calls) == MODELS
    return store


@pytest.fixture(scope="module")
def found(done: Store) -> dict[str, Any]:
    return verdicts(plan(), done, ASKED)


@pytest.fixture
def copied(done: Store, tmp_path: Path) -> Iterator[Store]:
    place = tmp_path / "copy"
    shutil.copytree(done.root, place)
    yield Store(place)


def test_each_model_is_read_once_and_anchors_are_shared(done: Store, found: Any) -> None:
    Counted.calls.clear()
    assert all(seconds >= 0 for _, seconds in read_all(plan(), done, ASKED))
    assert not Counted.calls
    assert found["oracles"] == 2
    assert set(found["seconds"]["audits"]) == {repr(audit) for audit in PANEL[:4]} | {"Counted()"}


def test_controls_are_called_by_their_names(found: dict[str, Any]) -> None:
    words = {row["name"]: verdict(row["words"]) for row in found["rows"]}
    assert words["nothing"] == "not forgotten"
    assert words["filter"] == "suppressed"
    assert words["gibberish"] == "collapsed"
    assert words["retrain"] in ("removed", "inconclusive")
    assert [row["name"] for row in found["rows"] if row["control"]] == [
        "retrain", "nothing", "filter", "gibberish",
    ]  # fmt: skip


def test_the_untouched_original_keeps_its_whole_lead(found: dict[str, Any]) -> None:
    row = next(row for row in found["rows"] if row["name"] == "nothing")
    for line in row["members"][0]["lines"]:
        if "left" in line:
            assert line["left"]["value"] == pytest.approx(1.0)
    assert list(families(row["members"]).values()) == pytest.approx([1.0] * 4)
    assert row["left"]["Question(tokens=8)"]["n"] == 1


def test_an_audit_that_does_not_fit_has_no_number(found: dict[str, Any]) -> None:
    lines = found["rows"][0]["members"][0]["lines"]
    line = next(one for one in lines if "Unrelated" in one["audit"])
    assert "nothing to teach" in line["reason"]
    assert "left" not in line
    assert "mean" not in line


def test_what_was_read_is_kept_and_goes_on(copied: Store, found: dict[str, Any]) -> None:
    gone = sorted(copied.root.glob("reading/*/*"))[::2]
    for folder in gone:
        shutil.rmtree(folder)
    before = len(list(copied.root.glob("reading/*/*")))
    again = verdicts(plan(), copied, ASKED)
    assert len(list(copied.root.glob("reading/*/*"))) == before + len(gone)
    assert again["rows"] == found["rows"]
    assert again["anchors"] == found["anchors"]


def test_methods_without_a_model_are_named(copied: Store) -> None:
    other = text_tools.plan(
        {**text_tools.METHODS, "peek": "Train(CE('holdout'))", "late": "Noise(0.1)"}, members=3
    )
    failure = other.failure(other.experiment.methods[2])
    copied.write(failure, about={"reason": "holdout is for measuring only"})
    who = seed_models(other, copied, 0)
    assert who.absent == {
        "peek": "holdout is for measuring only",
        "late": "It has not been carried out in this store.",
    }
    assert seed_models(other, copied, 0, ["finetune"]).names == ("finetune",)


def test_bad_input_is_told(copied: Store, tmp_path: Path) -> None:
    with pytest.raises(BadSentence, match=r"no method 'finetun'.*Did you mean finetune"):
        seed_models(plan(), copied, 0, ["finetun"])
    with pytest.raises(StoreError, match="no original and retrained model of member 7"):
        seed_models(plan(), copied, 7)
    shutil.rmtree(copied.folder(plan().oracle(2)))
    with pytest.raises(StoreError, match=r"1 retrained models beside.*--members 3"):
        seed_models(plan(), copied, 0)
    with pytest.raises(Unsupported, match="on images"):
        seed_models(plan_for(load("digits")), Store(tmp_path / "s"), 0)


def test_several_members_are_counted(found: dict[str, Any]) -> None:
    assert verdict({"removed": 1, "suppressed": 4}) == "suppressed 4 of 5, removed 1 of 5"
    assert verdict({"removed": 1}) == "removed"
    two = [{"lines": [_line(0.2), _line(0.6)]}, {"lines": [_line(0.4), _line(0.9, False)]}]
    # the mean over members of the most: 0.6 and 0.4; what is no evidence does not count
    assert families(two) == {"relearning": pytest.approx(0.5)}
    lines = [_line(0.3), _line(0.8, False), _line(0.7, plain=True), {**_line(0.2), "audit": "b"}]
    best = strongest(lines, {"a": {"mean": 0.3}, "b": {"mean": 0.4}})
    assert best is not None
    assert best["audit"] == "b"
    row = found["rows"][1]
    assert cells(row)[5].startswith("1.00 (")
    left = {name: {"mean": 0.5, "least": 0.4, "most": 0.6, "n": 2} for name in row["left"]}
    twice = {**row, "members": row["members"] * 2, "left": left, "words": {"not forgotten": 2}}
    assert cells(twice)[1] == "not forgotten 2 of 2"
    assert cells(twice)[3] == cells(twice)[5] == "0.50 (0.40 to 0.60)"


def _line(value: float, decisive: bool = True, plain: bool = False) -> dict[str, Any]:
    rest = {
        "audit": "a",
        "family": "relearning",
        "decisive": decisive,
        "powered": True,
        "plain": plain,
    }
    return {**rest, "left": {"value": value}}


def test_table_and_page_say_the_same_and_stay_inert(found: dict[str, Any]) -> None:
    html = render(found)
    for row in found["rows"]:
        assert f"<bdi>{row['name']}</bdi>: {verdict(row['words'])}" in html
        assert row["name"] in markdown(found)
    assert "<b>" not in html
    assert "&lt;b&gt;{{ 7 * 7 }}" in html
    assert "\x1b" not in html
    assert "<script" not in html
    assert "http" not in html.replace("http-equiv", "")
    # the model reads 0.5 in layer 0 where all read 0.5: no lead, and no number
    assert '<tr><th scope="row"><bdi>layer 0</bdi></th><td><svg' in html
    assert "Layer by layer" in html
    assert 'aria-label="-"' in html
    # a share beyond 1 has the ink of 1, 0.7 of all there is
    assert 'fill-opacity="0.7"' in html
    console = Console(width=200, record=True)
    draw(found, console)
    assert "suppressed" in console.export_text()


def test_curves_run_from_the_first_look_to_the_last(found: dict[str, Any]) -> None:
    html = render(found)
    assert "RelearnFacts(Related()" in html
    # three models, two steps: 0, half of the width, all of it
    assert html.count('<path d="M0 ') == 3 * len(found["rows"])
    assert "L150 " in html


def test_redaction_leaves_no_text(done: Store) -> None:
    told = verdicts(plan(), done, ASKED, redact=True)
    said = json.dumps(told)
    assert "lives in" not in said.replace("Where", "")
    assert "7 * 7" not in said + render(told)
    assert REDACTED in render(told)


def test_the_command_refuses_half_of_a_request(tmp_path: Path) -> None:
    said = lambda *more: str(RUN.invoke(app, ["audit", *more]).exception)  # noqa: E731
    assert "Expected the folder of a model" in said()
    assert "takes its models and facts from --store" in said(
        "--original", "mine", "--experiment", "people"
    )
    assert "There is no store" in said("--experiment", "people", "--store", str(tmp_path / "no"))
    Store(tmp_path / "s")
    at = ["--experiment", "people", "--store", str(tmp_path / "s")]
    assert "expected 0 or more" in said(*at, "--seed", "-1")
    assert "people is on texts" in said("mine", *at)
    assert "Carry the experiment out first" in said(*at)


@pytest.mark.slow
def test_the_command_audits_an_experiment_in_two_processes(tmp_path: Path) -> None:
    file, store, out = tmp_path / "few.toml", str(tmp_path / "s"), tmp_path / "found.json"
    file.write_text(text_tools.PEOPLE.replace("members = 2", "members = 3"), "utf-8")
    assert RUN.invoke(app, ["run", str(file), "--store", store, "--jobs", "1"]).exit_code == 0
    told = ["audit", "--experiment", str(file), "--store", store, "--only", "sampling"]
    done = RUN.invoke(app, [*told, "--jobs", "2", "--methods", "nothing,filter,finetune"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "s" / "reports" / "few-audit.html").is_file()
    assert RUN.invoke(app, [*told, "--jobs", "1", "--out", str(out)]).exit_code == 0
    rows = json.loads(out.read_text("utf-8"))["rows"]
    assert [row["name"] for row in rows] == ["retrain", "nothing", "filter", "finetune"]
