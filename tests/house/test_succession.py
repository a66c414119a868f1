"""Requests one after another, as a command: what is asked, kept, and said."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from house_tools import timed

from expunge.audits.images.answers import ForgetConfidence
from expunge.audits.images.probe import IllusionGap
from expunge.cli import main as cli
from expunge.core.store import Store
from expunge.errors import BadData, BadSentence
from expunge.experiments.experiment import Experiment, read
from expunge.experiments.planning import plan_for
from expunge.experiments.sequential import Requests, answer, asked_of, later_rows, recovered
from expunge.metrics.agreement import Unscored
from expunge.statistics.result import Interval

TINY = """
name = "requests"
problem = "digits"
forget = "WholeClass(3)"
members = 3
recipe = "Train(CE('train'), epochs=2, lr=0.1, batch=128)"
[methods]
finetune = "Train(CE('retain'), epochs=0.5, lr=0.1, batch=128)"
"""
MADE = read(TINY, "here")
ASKED = Requests(MADE.methods[0], ForgetConfidence(), 2, 3)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("requests") / "s")


@pytest.fixture(scope="module")
def found(store: Store) -> dict[str, Any]:
    timed(plan_for(MADE), store)
    return asked_of(MADE, ASKED, store)


def test_the_first_request_is_asked_about_after_each(found: dict[str, Any]) -> None:
    assert len(found["after"]) == 2
    assert (found["size"], found["members"], found["oracles"]) == (132, 3, 3)
    for each in found["after"]:
        # one of the oracles is the yardstick
        assert [len(each[group]) for group in ("subject", "oracle", "original")] == [3, 2, 3]
    first, second = found["after"]
    assert first["original"] == second["original"]
    assert first["oracle"] != second["oracle"] and first["subject"] != second["subject"]
    assert found["method"]["sentence"] == MADE.methods[0].sentence


def test_what_was_found_is_kept_and_originals_are_made_once(
    found: dict[str, Any], store: Store
) -> None:
    before = sorted(path for path in store.root.glob("*/*/*"))
    assert len(list((store.root / "original").glob("*/*"))) == 3
    assert asked_of(MADE, ASKED, store) == found
    assert sorted(path for path in store.root.glob("*/*/*")) == before


def test_later_requests_are_disjoint_random_rows_of_what_is_left() -> None:
    plan = plan_for(replace(MADE, forget="RandomShare(0.1)"))
    rows = later_rows(plan, 4)
    assert [len(each) for each in rows] == [130, 130, 130]
    together = [int(row) for each in rows for row in each]
    assert len(set(together)) == 390
    assert max(together) < len(plan.problem.sets["retain"])
    assert together != sorted(together)
    assert [r.tolist() for r in rows] == [r.tolist() for r in later_rows(plan, 4)]
    whole = plan_for(replace(MADE, forget="RandomShare(0.5)"))
    assert len(whole.problem.sets["retain"]) == 1297 - 648
    assert len(later_rows(whole, 2)[0]) == 648
    with pytest.raises(BadData, match="3 requests of 648 examples each leave nothing of 1297"):
        later_rows(whole, 3)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"count": 1}, "Got 1 requests; expected 2 to 100"),
        ({"count": 101}, "expected 2 to 100"),
        ({"oracles": 2}, "Got 2 oracles; 3 are the least"),
        ({"audit": IllusionGap()}, "has no anchor in the original"),
        ({"method": replace(MADE.methods[0], steps=())}, "has no steps"),
    ],
)
def test_requests_that_cannot_be(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(BadSentence, match=told):
        replace(ASKED, **changes)


def each(word: str, more: bool = True, kept: float = 0.9) -> dict[str, Any]:
    return {"word": word, "more": more, "reason": "why.", "kept": kept, "kept_retrained": 0.95}


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ([each("unscored")] * 2, "It cannot be asked here: why."),
        ([each("found"), each("excluded")], "was not forgotten to begin with"),
        ([each("excluded"), each("inconclusive"), each("found")], "No: after request 3"),
        ([each("excluded")] * 3, "Yes, by A() and its margin, after each of 3 requests."),
        ([each("excluded"), each("inconclusive")], "Not shown:"),
        # a broken model is not said to forget
        ([each("excluded"), each("excluded", kept=0.2)], "after request 2 the models give what is"),
        ([each("excluded"), each("found", kept=0.2)], "No: after request 2"),
        # less than retrained models have is no memory of the request
        ([each("found", more=False)] * 2, "Not shown:"),
    ],
)
def test_the_answer_says_no_more_than_was_seen(after: list[dict[str, Any]], said: str) -> None:
    assert said in answer({"after": after, "audit": "A()"})


def test_a_share_without_a_finite_interval_has_a_reason() -> None:
    assert recovered(Unscored("so.")) == {"reason": "so."}
    assert "no finite interval" in recovered(Interval(0.5, float("-inf"), 1.0, 0.05, 3))["reason"]
    assert recovered(Interval(0.5, 0.25, 0.75, 0.05, 3))["high"] == 0.75


def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["expunge", "sequential", "my.toml", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capsys.readouterr()
    return int(end.value.code or 0), said.out, said.err


def test_the_command_reads_what_was_found(
    store: Store,
    found: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "my.toml").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    usual = ("--requests", "2", "--members", "3", "--oracles", "3", "--store", str(store.root))
    code, out, err = call(monkeypatch, capsys, *usual)
    assert (code, err) == (0, "")
    text = " ".join(out.split())
    assert "Does the first stay forgotten? " + answer(found) in text
    assert "first request WholeClass(3) (132 of 1297 examples)" in text
    for arguments, told in (
        (("--audit", "Noise(0.1)"), "is no audit"),
        (("--method", "finetun"), "Did you mean finetune?"),
        (("--requests", "20"), "leave nothing of 1297"),
        (("--members", "1"), "expected 2 to"),
    ):
        code, out, err = call(monkeypatch, capsys, *usual, *arguments)
        assert code in (3, 4) and not out
        assert told in err


def test_the_experiment_s_own_method_comes_before_a_published_one() -> None:
    from expunge.cli.sequential import chosen_method

    assert chosen_method(MADE, "finetune") is MADE.methods[0]
    assert chosen_method(MADE, "mine=Noise(0.1)").name == "mine"
    other: Experiment = replace(MADE, methods=())
    assert chosen_method(other, "finetune").sentence != MADE.methods[0].sentence
