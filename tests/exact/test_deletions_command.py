"""The command `deletions`, and its mistakes as sentences."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from expunge.cli import main as cli
from expunge.methods.exact.deletions import Layout, deletion_share, forecast_deletions

Called = Callable[..., tuple[int, str, str]]


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Called:
    monkeypatch.delenv("EXPUNGE_DATA", raising=False)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["expunge", "deletions", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return call


def numbers(out: str, row: str) -> list[float]:
    line = next(line for line in out.splitlines() if line.startswith(row))
    return [float(one.replace(",", "")) for one in re.findall(r"[\d.,]+", line[len(row) :])]


def test_the_table_holds_the_forecast(called: Called) -> None:
    code, out, err = called("digits", "--requests", "7", "--shards", "4,9", "--slices", "1,3")
    assert (code, err) == (0, "")
    assert "7 of the 1297 training examples" in out
    assert all(word in out for word in ("expected", "worst case", "retraining"))
    for shards, slices in ((4, 1), (4, 3), (9, 1), (9, 3)):
        cost = forecast_deletions(Layout(1297, shards, slices), 7)
        shares = [100 * share for share in (cost.expected, cost.worst, cost.one_at_a_time)]
        found = numbers(out, f"{shards} shards, {slices} slices")
        assert found == pytest.approx([*shares, shards * slices], abs=0.051)
    assert numbers(out, "retraining")[:2] == [100, 100]


def test_given_rows(called: Called) -> None:
    chosen = ("--rows", "3, 700,12", "--shards", "5", "--slices", "4", "--seed", "2")
    code, out, _ = called("digits", *chosen)
    assert code == 0
    assert "3 of the 1297" in out
    share = 100 * deletion_share(Layout(1297, 5, 4, 2), [3, 12, 700])
    assert numbers(out, "5 shards, 4 slices")[0] == pytest.approx(share, abs=0.051)


def test_without_arguments(called: Called) -> None:
    code, out, _ = called()
    assert code == 0
    assert "10 of the 1297" in out
    assert "20 shards, 5 slices" in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["digit"], 3, "Did you mean digits?"),
        (["--requests", "0"], 4, "needs 1 to 1296 requests"),
        (["--requests", "1297"], 4, "needs 1 to 1296 requests"),
        (["--requests", "many"], 2, "valid int"),
        (["--shards", "0"], 3, "shards must be a whole number of 1 or more, got 0"),
        (["--shards", "-2"], 3, "shards must be"),
        (["--shards", "two"], 3, "--shards: expected whole numbers and commas, got 'two'"),
        (["--shards", ","], 3, "--shards: expected whole numbers"),
        (["--slices", "1.5"], 3, "--slices: expected whole numbers"),
        (["--shards", "9" * 12], 4, "Take fewer shards"),
        (["--slices", "9" * 99], 3, "--slices: expected"),
        (["--shards", "700"], 4, "need 2 examples a slice"),
        (["--rows", "1297"], 4, "names row 1297"),
        (["--rows", "1,1"], 4, "row 1 more than once"),
        (["--rows", "\x1b[31m"], 3, "--rows: expected"),
        (["cifar10"], 4, "--data FOLDER"),
        (["cifar10", "--data", "gone"], 4, "gone"),
    ],
)
def test_mistakes(called: Called, arguments: list[str], code: int, message: str) -> None:
    found, _, err = called(*arguments)
    assert (found, message in err, "Traceback" in err) == (code, True, False), err
    assert "\x1b" not in err


def test_the_help() -> None:
    shown = CliRunner().invoke(cli.app, ["deletions", "--help"], terminal_width=100)
    assert shown.exit_code == 0
    assert "None" not in shown.output
    options = [line for line in shown.output.splitlines() if line.lstrip().startswith("--")]
    assert len(options) >= 6
    assert all(len(line.split()) > 2 for line in options), "an option without words"


def test_the_old_name_works_and_says_the_new_one(
    called: Called, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = ["digits", "--requests", "3", "--shards", "4", "--slices", "2"]
    _, new, _ = called(*chosen)
    monkeypatch.setattr(sys, "argv", ["expunge", "forecast", *chosen])
    with pytest.raises(SystemExit) as end:
        cli.main()
    old = capsys.readouterr()
    assert (end.value.code or 0, old.out) == (0, new)
    assert old.err == "expunge: `expunge forecast` is now called `expunge deletions`.\n"
    shown = CliRunner().invoke(cli.app, ["--help"], terminal_width=100).output
    assert "  deletions " in shown
    assert "  forecast " not in shown
