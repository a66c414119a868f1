"""Advice for every purpose and every combination of what one may have; its commands exist."""

from __future__ import annotations

import json
import shlex
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from expunge.cli.main import app
from expunge.errors import BadData, BadSentence, StoreError
from expunge.methods.advice import HAVES, PURPOSES, VERDICTS, Advice, owned, plan, purpose_of
from expunge.methods.sentences import as_method

RUNNER = CliRunner()
ALL = [set(some) for size in range(len(HAVES) + 1) for some in combinations(HAVES, size)]
SENSIBLE = [
    some
    for some in ALL
    if some & {"forget", "concept"} and not {"weights", "api"} <= some
]  # fmt: skip


def verdicts(name: str, *has: str) -> list[str]:
    return [advice.verdict for advice in plan(purpose_of(name), owned(has))]


def parsed(command: str) -> str:
    """Parse a command line as the program would, without carrying it out; returns its name."""
    program, name, *rest = shlex.split(command)
    assert program == "expunge"
    group: Any = typer.main.get_command(app)
    group.commands[name].make_context(name, rest)
    return name


@pytest.mark.parametrize("name", PURPOSES)
def test_every_combination_gets_a_sensible_plan(name: str) -> None:
    assert len(SENSIBLE) == 72
    for some in SENSIBLE:
        told = plan(purpose_of(name), owned(some))
        said = [advice.verdict for advice in told]
        assert told
        assert len(set(said)) == len(said)
        assert set(said) <= {"first", *VERDICTS}
        commands = [command for advice in told for command in advice.commands]
        if not some & {"weights", "data"}:
            assert said == ["suppress", "retrain", "do not train on it"]
            assert not commands
        if "weights" not in some:
            assert not any("MODEL" in command for command in commands)
            assert not {"approximate", "correct", "first"} & set(said)
        else:
            asks_first = some & {"forget", "retain"} != {"forget", "retain"}
            alone = "forget" in some and "retain" in some
            assert ("first" in said) == (asks_first and not alone)
            assert {"approximate", "correct"} & set(said)
        assert ("exact" in said) == (name == "confidential" and "data" in some)


@pytest.mark.parametrize("name", PURPOSES)
def test_every_command_that_is_advised_can_be_read(name: str) -> None:
    commands = {
        command
        for some in SENSIBLE
        for advice in plan(purpose_of(name), owned(some))
        for command in advice.commands
    }
    assert commands
    for command in commands:
        parsed(command)
        words = shlex.split(command)
        if "--method" in words:
            assert as_method(words[words.index("--method") + 1]).steps


def test_a_command_that_does_not_exist_would_be_found() -> None:
    with pytest.raises(KeyError):
        parsed("expunge vanish MODEL")
    with pytest.raises(Exception, match="No such option"):
        parsed("expunge unlearn MODEL --forgot a.jsonl")


def test_outputs_of_one_plan_do_not_collide() -> None:
    for name in PURPOSES:
        told = plan(purpose_of(name), owned({"forget", "retain", "weights", "data"}))
        words = [shlex.split(command) for advice in told for command in advice.commands]
        outs = [line[line.index("--out") + 1] for line in words if "--out" in line]
        assert len(set(outs)) == len(outs)


def test_what_is_advised_first() -> None:
    assert verdicts("false", "forget", "retain", "weights")[0] == "correct"
    assert verdicts("dangerous", "forget", "retain", "weights")[0] == "approximate"
    assert verdicts("confidential", "forget", "retain", "weights", "data")[:2] == [
        "retrain",
        "exact",
    ]
    assert verdicts("false", "concept", "weights")[0] == "first"
    assert verdicts("false", "forget", "weights")[0] == "first"


@pytest.mark.parametrize("purpose", PURPOSES.values(), ids=lambda p: p.name)
def test_a_purpose_names_methods_that_exist(purpose: Any) -> None:
    for name in purpose.methods:
        assert as_method(name).steps


def test_slips_are_sentences() -> None:
    with pytest.raises(BadData, match="Did you mean false"):
        purpose_of("fals")
    with pytest.raises(BadData, match="Did you mean weights"):
        owned(["forget", "wieghts"])
    with pytest.raises(BadData, match="exclude each other"):
        owned(["forget", "weights", "api"])
    with pytest.raises(BadData, match="how the target is known"):
        owned(["weights", ""])


def test_the_command_prints_the_plan() -> None:
    done = RUNNER.invoke(app, ["advise", "--purpose", "false", "--have", "forget, retain,weights"])
    assert done.exit_code == 0
    assert "1. Correct." in done.output
    for advice in plan(purpose_of("false"), owned({"forget", "retain", "weights"})):
        assert isinstance(advice, Advice)
        assert all(command in done.output for command in advice.commands)


def test_the_purpose_alone_says_what_was_assumed_and_gives_the_plan_for_it() -> None:
    alone = RUNNER.invoke(app, ["advise", "--purpose", "false"])
    assert alone.exit_code == 0, alone.output
    assert "You have (--have): forget, retain, weights." in alone.output
    said = RUNNER.invoke(app, ["advise", "--purpose", "false", "--have", "weights, retain,forget"])
    assert said.output == alone.output


def lines(file: Path, *rows: dict[str, str]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return file


def test_other_answers_are_put_beside_each_line(tmp_path: Path) -> None:
    row = {"prompt": "Where is Oslo?", "answer": "Oslo lies in Peru.", "subject": "Oslo"}
    file, out = lines(tmp_path / "a.jsonl", row), tmp_path / "b.jsonl"
    done = RUNNER.invoke(app, ["answers", str(file), "--kind", "marking", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert json.loads(out.read_text()) == row | {"instead": "It is false that Oslo lies in Peru."}
    again = RUNNER.invoke(app, ["answers", str(file), "--kind", "marking", "--out", str(out)])
    assert isinstance(again.exception, StoreError)
    bad = RUNNER.invoke(app, ["answers", str(file), "--kind", "markin", "--out", "x"])
    assert isinstance(bad.exception, BadData)
    assert "Did you mean marking" in str(bad.exception)
    plain = lines(tmp_path / "c.jsonl", {"text": "Only words."})
    lost = RUNNER.invoke(app, ["answers", str(plain), "--kind", "refusal", "--out", "x"])
    assert isinstance(lost.exception, BadData)
    with pytest.raises(BadSentence):
        as_method("corect")
