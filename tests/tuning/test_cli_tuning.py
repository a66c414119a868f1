"""The commands `tune` and `search`, and a run of them that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tuning_tools import TINY, verdicts
from typer.testing import CliRunner

import expunge
from expunge.cli import main as cli
from expunge.core.store import Store
from expunge.experiments.experiment import load

Call = Callable[..., tuple[int, str, str]]
CALL = "from expunge.cli.main import main\nif __name__ == '__main__':\n    main()\n"
TUNE = ("tune", "my.toml", "--trials", "3", "--members", "2", "--oracles", "2", "--cost", "0.5")
SEARCH = ("search", "my.toml", "--budget", "4", "--members", "2", "--oracles", "2", "--cost", "0.5")


@pytest.fixture
def called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Call:
    """Call the command in this process, in an empty folder: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.toml").write_text(TINY)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["expunge", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return call


def test_tuning_prints_a_table_and_writes_an_experiment(called: Call) -> None:
    own = "mine=Zero(Smallest(0.3)), Train(CE('retain'), epochs=0.1)"
    code, out, err = called(*TUNE, "--jobs", "1", "--method", own, "--write", "t.toml")
    assert code == 0, err
    assert "tuned: mine, 3 of 3" in err
    assert all(name in out for name in ("finetune", "noise", "mine", "optimism"))
    assert "0 of its examples are scored by the ranking" in out
    tuned = load("t.toml")
    assert [method.name for method in tuned.methods] == ["finetune", "noise", "mine"]
    assert tuned.methods[0].source.startswith("a paper; ")


@pytest.mark.slow
def test_a_search_prints_what_it_found(called: Call) -> None:
    code, out, err = called(*SEARCH, "--jobs", "1", "--rank-members", "2", "--write", "s.toml")
    assert code == 0, err
    assert "never seen by the search, N = 2" in out
    assert "the best published" in out
    assert len(load("s.toml").methods) > 2


@pytest.mark.parametrize("command", ["tune", "search"])
def test_every_option_has_words(command: str) -> None:
    shown = CliRunner().invoke(cli.app, [command, "--help"], terminal_width=100)
    assert shown.exit_code == 0
    assert "None" not in shown.output
    options = [line for line in shown.output.splitlines() if line.lstrip().startswith("--")]
    assert len(options) > 10
    assert all(len(line.split()) > 2 for line in options), "an option without words"


MISTAKES = {
    "a budget of one": (["tune", "my.toml", "--trials", "1"], 3, "each method twice"),
    "unknown experiment": (["tune", "digit"], 3, "Did you mean digits?"),
    "misspelt --only": (["tune", "my.toml", "--only", "finetun"], 3, "Did you mean finetune?"),
    "misspelt --hold": (["tune", "my.toml", "--hold", "std[Nois]"], 3, "Did you mean std[Noise]?"),
    "misspelt word": (["tune", "my.toml", "--method", "a=Nois(0.1)"], 3, "Did you mean Noise?"),
    "no forget set": (["tune", "my.toml", "--held-out", "Convs()"], 4, "is no forget set"),
    "no cost": (["search", "my.toml", "--cost", "0"], 3, "share of retraining"),
    "no words": (["search", "my.toml", "--words", "none.toml"], 4, "could not be read"),
    "no further experiment": (["search", "my.toml", "--then", "digit"], 3, "Did you mean digits?"),
}


@pytest.mark.parametrize(("arguments", "code", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_a_sentence(called: Call, arguments: list[str], code: int, said: str) -> None:
    ended, _, err = called(*arguments, "--jobs", "1")
    assert (ended, said in err) == (code, True), err
    assert "Traceback" not in err


def test_an_unknown_word_in_a_list_of_words_is_refused(called: Call, tmp_path: Path) -> None:
    (tmp_path / "words.toml").write_text('steps = ["Resett()"]')
    code, _, err = called("search", "my.toml", "--words", "words.toml")
    assert code == 3
    assert "Did you mean Reset?" in err


def test_without_optuna_it_says_how_to_get_it(
    called: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    code, _, err = called("tune", "my.toml", "--jobs", "1")
    assert code != 0
    assert "pip install 'expunge[tune]'" in err


def test_the_package_and_the_command_line_do_without_optuna() -> None:
    imported = "import sys, expunge.cli.main, expunge.experiments.tuning.tune\n"
    script = imported + "print('optuna' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", script], env=environment()) == b"False\n"


def environment() -> dict[str, str]:
    source = str(Path(expunge.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}


def first_population(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    (folder / "my.toml").write_text(TINY)
    (folder / "call.py").write_text(CALL)
    return subprocess.Popen(
        [sys.executable, "call.py", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )


def ended(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def killed(folder: Path, count: int, *arguments: str) -> None:
    """Start a command and kill it -9 once so many sentences have been evaluated."""
    process = first_population(folder, *arguments)
    for _ in range(6000):
        if process.poll() is not None or len(list(folder.glob("s/verdict/*/*"))) >= count:
            break
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, int]:
    """What an undisturbed run prints, and how many sentences it judges."""
    folder = tmp_path_factory.mktemp("whole")
    out = ended(first_population(folder, *TUNE, "--store", "s", "--jobs", "1"))
    return out, verdicts(Store(folder / "s"))


@pytest.mark.slow
def test_a_run_that_is_killed_ends_with_the_same_table(
    tmp_path: Path, whole: tuple[str, int]
) -> None:
    for count in (1, 4):
        killed(tmp_path, count, *TUNE, "--store", "s", "--jobs", "1")
    assert 1 <= verdicts(Store(tmp_path / "s")) < whole[1]
    assert ended(first_population(tmp_path, *TUNE, "--store", "s", "--jobs", "1")) == whole[0]
    assert verdicts(Store(tmp_path / "s")) == whole[1]


@pytest.mark.slow
def test_two_processes_on_one_store_do_not_exceed_the_budget(
    tmp_path: Path, whole: tuple[str, int]
) -> None:
    both = [first_population(tmp_path, *TUNE, "--store", "s", "--jobs", "1") for _ in range(2)]
    assert [ended(each) for each in both] == [whole[0]] * 2
    assert verdicts(Store(tmp_path / "s")) == whole[1]


@pytest.mark.slow
def test_two_jobs_find_what_one_finds(tmp_path: Path, whole: tuple[str, int]) -> None:
    assert ended(first_population(tmp_path, *TUNE, "--store", "s", "--jobs", "2")) == whole[0]
    budget = Store(tmp_path / "s").named("tuning", "tiny")["budget"]
    assert budget == {"trials": 3, "members": 2, "oracles": 2, "cost": 0.5, "hold": []}
