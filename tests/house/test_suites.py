"""A suite names experiments that are carried out one after the other, each with its ranking."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from house_tools import DIGITS

from expunge.cli import main as cli
from expunge.errors import BadSentence
from expunge.experiments.experiment import load_all, shipped

CLASS = DIGITS.replace('"tiny"', '"tiny-class"').replace("RandomShare(0.01)", "WholeClass(1)")


def suite(folder: Path, said: str) -> str:
    (folder / "a.toml").write_text(DIGITS)
    (folder / "b.toml").write_text(CLASS)
    (folder / "both.toml").write_text(said)
    return str(folder / "both.toml")


def test_a_suite_holds_its_experiments_in_order(tmp_path: Path) -> None:
    found = load_all(suite(tmp_path, 'experiments = ["a.toml", "b.toml", "digits"]'))
    assert [experiment.name for experiment in found] == ["tiny", "tiny-class", "digits"]


def test_a_single_experiment_is_a_suite_of_one(tmp_path: Path) -> None:
    suite(tmp_path, "")
    assert [one.name for one in load_all(str(tmp_path / "a.toml"))] == ["tiny"]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("experiments = []", "a suite holds one key, experiments"),
        ('experiments = "a.toml"', "a suite holds one key, experiments"),
        ('experiments = ["a.toml"]\nname = "x"', "a suite holds one key, experiments"),
        ("experiments = [3]", "experiments must be a sentence in quotes, got 3"),
        ('experiments = ["c.toml"]', "No experiment or file"),
        ('experiments = ["a.toml", "a.toml"]', "two of its experiments are called 'tiny'"),
        ('experiments = ["both.toml"]', "unknown key 'experiments'"),
        ('experiments = ["digit"]', "No experiment or file"),
    ],
)
def test_what_is_wrong_in_a_suite_is_told(tmp_path: Path, said: str, told: str) -> None:
    with pytest.raises(BadSentence, match=told):
        load_all(suite(tmp_path, said))


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_file_reads(name: str) -> None:
    assert load_all(name)


@pytest.mark.slow
def test_a_suite_is_carried_out_and_ranked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = suite(tmp_path, 'experiments = ["a.toml", "b.toml"]')
    monkeypatch.chdir(tmp_path)

    def called(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["expunge", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code
        return capsys.readouterr().out

    said = called("run", source, "--jobs", "1", "--store", "s")
    assert said.count("Report: ") == 2
    for title in ("tiny", "tiny-class"):
        table = called("rank", title, "--store", "s")
        assert "finetune" in table
        assert f"{title}: forget set" in table
    lines = called("rank", "tiny", "--store", "s", "--markdown").splitlines()
    assert lines[0].startswith("| rank | method |")
