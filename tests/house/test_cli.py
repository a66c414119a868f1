"""The command line: every mistake of a user is a sentence and an exit code, never a traceback."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from house_tools import DIGITS, environment
from torch import nn
from typer.testing import CliRunner

from expunge import errors
from expunge.audits.images.answers import NoisyInputs
from expunge.audits.panel import STANDARD
from expunge.cli import main as cli
from expunge.cli import options
from expunge.cli.explain import explanation
from expunge.core.store import Store
from expunge.experiments.experiment import load, read, shipped
from expunge.experiments.planning import plan_for
from expunge.methods.published import PUBLISHED

COMMANDS = (
    "demo", "run", "rank", "status", "report", "methods", "show", "deletions", "sequential",
)  # fmt: skip
CALL = [sys.executable, "-c", "from expunge.cli.main import main; main()"]
Result = tuple[int, str, str]


@pytest.fixture
def called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> object:
    """Call the command in this process, in an empty folder: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EXPUNGE_DATA", raising=False)
    (tmp_path / "my.toml").write_text(DIGITS)

    def call(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["expunge", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return call


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A run of the tiny experiment by a real process, its output piped."""
    folder = tmp_path_factory.mktemp("done")
    (folder / "my.toml").write_text(DIGITS)
    return folder, child(folder, "run", "my.toml", "--jobs", "1")


def child(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CALL, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**environment(), **more},
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_reads_well(command: str) -> None:
    shown = CliRunner().invoke(cli.app, [command, "--help"], terminal_width=100)
    assert shown.exit_code == 0
    assert shown.output.startswith("Usage:")
    purpose = next(line for line in shown.output.splitlines()[1:] if line.strip())
    assert purpose.strip()[0].isupper()
    assert "None" not in shown.output
    options = [line for line in shown.output.splitlines() if line.lstrip().startswith("--")]
    assert all(len(line.split()) > 2 for line in options), "an option without words"


def test_the_help_lists_all_commands_each_in_a_line() -> None:
    shown = CliRunner().invoke(cli.app, ["--help"], terminal_width=80)
    lines = {line.split()[0]: line for line in shown.output.splitlines() if line.strip()}
    assert [name for name in COMMANDS if not lines[name].endswith((".", "?"))] == []
    assert [name for name in COMMANDS if lines[name].endswith("...")] == []


def test_no_argument_at_all_gives_the_help(called: object) -> None:
    code, out, err = called()  # type: ignore[operator]
    assert "Usage:" in out + err
    assert code in (0, 2)


def test_each_mistake_has_a_code_of_its_own() -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.ExpungeError)
    ]
    codes = [kind.exit_code for kind in kinds]
    assert len(set(codes)) == len(kinds) == 11
    assert set(codes) == set(range(2, 13))


# Arguments -> exit code and a piece of the sentence.
MISTAKES: dict[str, tuple[list[str], int, str]] = {
    "unknown experiment": (["run", "digit"], 3, "Did you mean digits?"),
    "missing file": (["run", "missing.toml"], 3, "No experiment or file 'missing.toml'"),
    "a folder": (["run", "."], 3, "No experiment or file"),
    "misspelt --only": (["run", "my.toml", "--only", "finetun"], 3, "Did you mean finetune?"),
    "one member": (["run", "my.toml", "--members", "1"], 3, "expected 2 to"),
    "members below 0": (["run", "my.toml", "--members", "-3"], 3, "expected 2 to"),
    "huge seed": (["run", "my.toml", "--seed", "9" * 18], 3, "seed ="),
    "no rule": (["run", "my.toml", "--rule", "exat"], 3, "Did you mean exact?"),
    "no protocol": (["run", "my.toml", "--protocol", "x"], 3, "expected one of challenge"),
    "misspelt method": (["run", "my.toml", "--method", "finetun"], 3, "Did you mean finetune?"),
    "misspelt word": (["run", "my.toml", "--method", "a=Nois(0.1)"], 3, "Did you mean Noise?"),
    "code": (["run", "my.toml", "--method", "__import__('os')"], 3, "__import__"),
    "a control": (["run", "my.toml", "--method", "retrain=Noise(0.1)"], 3, "is a control"),
    "a name twice": (["run", "my.toml", "--method", "finetune=Noise(0.1)"], 3, "there twice"),
    "signs in a name": (["run", "my.toml", "--method", "\x1b[31m=Noise(0.1)"], 3, "\\x1b[31m"),
    "forget by a term": (["run", "my.toml", "--forget", "CE('forget')"], 4, "is no forget set"),
    "forget by a part": (["run", "my.toml", "--forget", "Convs()"], 4, "is no forget set"),
    "forget misspelt": (["run", "my.toml", "--forget", "WholClass(3)"], 3, "Did you mean WholeC"),
    "forget a class that is not there": (["run", "my.toml", "--forget", "WholeClass(99)"], 4, "99"),
    "misspelt audit": (["run", "my.toml", "--audit", "Relern()"], 3, "Did you mean Relearn?"),
    "two at once": (["run", "my.toml", "--audit", "Prune(), Relearn()"], 3, "write each by itself"),
    "one audited": (["run", "my.toml", "--audited", "1"], 3, "audited = 1: expected 2 models"),
    "audits of texts": (["demo", "--lm", "--audit", "Prune()"], 3, "is on language models"),
    "no data": (["run", "cifar10"], 4, "--data FOLDER"),
    "missing data": (["run", "cifar10", "--data", "gone"], 4, "gone"),
    "missing pictures": (["run", "image-folder", "--data", "gone"], 4, "gone"),
    "a size below 0": (["run", "my.toml", "--train-size", "-5"], 3, "train_size = -5"),
    "a size of what is taken whole": (["run", "my.toml", "--train-size", "99"], 3, "taken whole"),
    "status without a store": (["status"], 10, "There is no store at expunge-store"),
    "report without a store": (["report"], 10, "There is no store at expunge-store"),
    "a store that is a file": (["run", "my.toml", "--store", "my.toml"], 10, "is a file"),
    "a store that is none": (["run", "my.toml", "--store", "."], 10, "is not a store"),
    "a store in the kernel": (["run", "my.toml", "--store", "/proc/x"], 10, "could not be used"),
    "show nothing": (["show", "finetun"], 3, "Did you mean finetune?"),
    "show on nothing": (["show", "finetune", "--on", "x"], 3, "No experiment or file"),
    "show a term": (["show", "CE('forget')"], 3, "Expected a method"),
    "show a set that is not there": (["show", "Train(CE('forgot'))"], 4, "Did you mean forget"),
    "show what is off limits": (["show", "Train(CE('test'))"], 7, "for measuring only"),
    "a misspelt method": (["methods", "winner", "scurb"], 3, "Did you mean scrub?"),
    "methods on nothing": (["methods", "--on", "digit"], 3, "Did you mean digits?"),
    "jobs below 0": (["run", "my.toml", "--jobs", "-1"], 2, "--jobs"),
    "an unknown option": (["run", "my.toml", "--member", "4"], 2, "--members"),
    "an unknown command": (["rum"], 2, "No such command 'rum'"),
    "members in words": (["demo", "--members", "many"], 2, "valid int"),
}


@pytest.mark.parametrize(("arguments", "code", "told"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_a_sentence_and_a_code(
    called: object, arguments: list[str], code: int, told: str
) -> None:
    found, out, err = called(*arguments)  # type: ignore[operator]
    assert (found, out) == (code, "")
    assert told in err
    assert "Traceback" not in err
    assert "\x1b" not in err
    if code != 2:
        assert err.startswith("expunge: ")
        assert err.endswith((".\n", "?\n"))


def test_signs_of_a_foreign_file_do_not_reach_the_terminal(called: object, tmp_path: Path) -> None:
    text = 'name = "a"\nrecipe = "Train(CE(\'train\'))"\n[methods]\n"\\u001b[2Jx" = 3\n'
    (tmp_path / "evil.toml").write_text(text)
    code, _, err = called("run", "evil.toml")  # type: ignore[operator]
    assert code == 3
    assert "\\x1b[2Jx" in err
    assert "\x1b" not in err


def test_a_name_or_a_number_is_given_to_a_method_of_ones_own() -> None:
    said = ("a=Noise(0.1)", " b-c = Noise(0.2)", "Train(CE('retain'), lr=0.1)", "finetune")
    found = [options.own_method(text, n) for n, text in enumerate(said, start=1)]
    assert [method.name for method in found] == ["a", "b-c", "mine_3", "mine_4"]
    assert found[0].sentence == "Noise(0.1)"
    assert found[2].sentence == "Train(CE('retain'), lr=0.1)"
    assert found[3].steps == PUBLISHED["finetune"].steps


def test_only_keeps_the_order_asked_for() -> None:
    whole = load("digits")
    chosen = options.adjusted(whole, " winner, sham", ["x=Noise(0.1)"], members=4)
    assert [method.name for method in chosen.methods] == ["winner", "sham", "x"]
    assert chosen.members == 4
    assert options.adjusted(whole, "", None) == whole


def test_audits_of_the_command_line_take_the_place_of_the_experiment_s() -> None:
    whole = load("digits-class")
    said = options.told_audits(["Relearn(share=0.2)", " Quantise(bits=5)"])
    chosen = options.adjusted(whole, "", None, audits=said, audited=3)
    assert [repr(audit) for audit in chosen.audits] == ["Relearn(share=0.2)", "Quantise(bits=5)"]
    assert (chosen.audited, whole.audited) == (3, 16)
    assert options.told_audits(["standard", "NoisyInputs()"]) == (*STANDARD, NoisyInputs())
    assert (
        options.adjusted(whole, "", None, audits=options.told_audits(None)).audits == whole.audits
    )


def test_a_run_asks_the_audits_of_the_command_line(called: object, tmp_path: Path) -> None:
    said = "run my.toml --audit Prune(share=0.5) --audit ForgetConfidence() --audited 2"
    code, out, err = called(*said.split())  # type: ignore[operator]
    assert code == 0, err
    told = Store(tmp_path / "expunge-store").named("summary", "tiny")
    assert told["experiment"]["audited"] == 2
    found = [one["audit"] for one in told["rows"][0]["audits"]["findings"]]
    assert found == ["Prune(share=0.5)", "ForgetConfidence()"]
    assert "audits" in out.splitlines()[0]


def test_a_run_that_is_piped_is_plain_and_wide(
    done: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, ran = done
    assert ran.returncode == 0, ran.stderr
    assert "\x1b" not in ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    lines = ran.stdout.splitlines()
    assert lines[0].split()[0] == "method"
    assert lines[0].rstrip().endswith("verdict")
    for name in ("retrain (control)", "nothing (control)", "finetune"):
        assert sum(line.startswith(name) for line in lines) == 1
    path = folder / lines[-1].removeprefix("Report: ")
    assert path == folder / "expunge-store" / "reports" / "tiny.html"
    assert "finetune" in path.read_text()
    assert "scores: 3 made" in ran.stderr


def test_the_same_command_again_says_the_same_and_makes_nothing(
    done: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, ran = done
    again = child(folder, "run", "my.toml", "--jobs", "1", NO_COLOR="1", COLUMNS="60")
    assert (again.returncode, again.stdout) == (0, ran.stdout)
    assert "made" not in again.stderr


def test_status_and_report_after_a_run(
    done: tuple[Path, subprocess.CompletedProcess[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(done[0])
    for arguments, code, told in (
        (["status"], 0, "scores: 3 of 3"),
        (["status", "tiny"], 0, "oracles"),
        (["status", "tniy"], 10, "Did you mean tiny?"),
        (["report", "--out", str(tmp_path / "r.html")], 0, "r.html"),
        (["report", "tiny", "--out", str(tmp_path / "gone" / "r.html")], 10, "No such file"),
        (["report", "tiny", "--out", str(tmp_path)], 10, "directory"),
        (["report", "x"], 10, "knows tiny, not 'x'"),
    ):
        monkeypatch.setattr(sys, "argv", ["expunge", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        assert (int(end.value.code or 0), told in said.out + said.err) == (code, True)
    assert "tiny" in (tmp_path / "r.html").read_text()
    assert os.listdir(tmp_path) == ["r.html"]


def test_status_before_anything_is_made_counts_all_and_makes_nothing(
    called: object, tmp_path: Path
) -> None:
    from expunge.core.store import Job
    from expunge.experiments.experiment import to_toml

    store = Store(tmp_path / "expunge-store")
    text = to_toml(read(DIGITS, "x"))
    job = Job("experiment", text)
    store.write(job, about={"text": text})
    store.name("tiny", job)
    code, out, _ = called("status")  # type: ignore[operator]
    assert code == 0
    rows = {line.split()[0]: line.split()[1:3] for line in out.splitlines() if line}
    assert rows["originals"] == ["0", "1"]
    assert rows["oracles"] == rows["finetune"] == rows["retrain"] == ["0", "2"]
    assert "scores: 0 of 3" in out
    kinds = {kind.name for kind in store.root.iterdir() if kind.is_dir()}
    assert kinds == {"experiment", "locks", "reports", "tmp"}


def test_a_report_before_anything_is_made_is_refused(called: object, tmp_path: Path) -> None:
    Store(tmp_path / "expunge-store")
    code, _, err = called("report")  # type: ignore[operator]
    assert (code, "holds no finished experiment yet" in err) == (10, True)


def test_a_foreign_title_writes_no_report_elsewhere(called: object, tmp_path: Path) -> None:
    store = Store(tmp_path / "expunge-store")
    entries = [["summary", "../../planted", "spec"]]
    (store.root / "titles.json").write_text(json.dumps(entries))
    code, _, err = called("report")  # type: ignore[operator]
    assert (code, "holds no finished experiment" in err) == (10, True)
    assert not list(tmp_path.rglob("*.html"))


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_method_is_shown(name: str) -> None:
    method = PUBLISHED[name]
    lines = list(explanation(method, plan_for(load("digits"))))
    steps = f"{len(method.steps)} step{'' if len(method.steps) == 1 else 's'}"
    assert lines[0].startswith(f"{name}: {steps}, on a network of ")
    assert method.source in lines[1]
    assert sum("touches" in line or "in all" in line for line in lines) >= len(method.steps)


def test_what_a_step_reads_and_touches_is_counted() -> None:
    from expunge.methods.sentences import as_method

    said = "Noise(0.1, Last(1)), Repeat((Train(CE('retain'), epochs=2, batch=100),), times=3)"
    plan = plan_for(read(DIGITS, "x"))
    network = plan.problem.untrained("x")
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    share = sum(w.numel() for w in last.parameters()) / sum(w.numel() for w in network.parameters())
    lines = list(explanation(as_method(said), plan))
    text = "\n".join(lines)
    assert f"reads no examples; touches {share:.1%} of the weights" in text
    assert "\n  2. Repeat, 3 times\n" in text
    assert "reads retain (2,568 examples); touches 100.0% of the weights" in text
    # 1,284 examples in hundreds: 13 minibatches a pass, two passes.
    assert "26 minibatches of 100 a set; an epoch is a pass over retain (1284" in text


def test_methods_are_listed_with_needs_and_source(called: object) -> None:
    code, out, _ = called("methods", "--on", "my.toml")  # type: ignore[operator]
    assert code == 0
    assert "epochs: its cost on tiny (1,284 retain and 13 forget examples)" in " ".join(out.split())
    rows = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert set(PUBLISHED) < set(rows)
    assert "forget (no labels), retain" in rows["winner"]
    assert "article, item 9; first prize of the NeurIPS 2023 challenge" in rows["winner"]


def test_methods_that_are_named_are_explained_as_show_does(called: object) -> None:
    def told(*arguments: str) -> str:
        code, out, _ = called(*arguments, "--on", "my.toml")  # type: ignore[operator]
        assert code == 0
        return out

    alone = told("show", "retrain"), told("show", "winner")
    assert told("methods", "retrain", "winner") == "\n".join(alone)


def test_show_prints_what_explain_says(called: object) -> None:
    code, out, _ = called("show", "finetune", "--on", "my.toml")  # type: ignore[operator]
    assert code == 0
    assert out.startswith("finetune: 1 step, on a network of ")


def test_a_pipe_that_closes_is_no_traceback(tmp_path: Path) -> None:
    command = f"{' '.join(CALL[:1])} -c '{CALL[2]}' methods | head -1"
    said = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, env=environment()
    )
    assert said.stdout.startswith("The controls of every experiment")
    assert said.stdout.count("\n") == 1
    assert "Traceback" not in said.stderr


def test_ctrl_c_before_work_is_told(called: object, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "load_all", interrupted)
    code, _, err = called("run", "my.toml")  # type: ignore[operator]
    assert code == 130
    assert err == "\nexpunge: stopped. Finished work is kept; run the same command to resume.\n"


def test_progress_in_a_terminal_draws_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    from expunge.experiments.graph import Progress
    from expunge.experiments.progress import _bars, lines

    pieces = [Progress("models", "[red]mine", 2, 4), Progress("models", "[red]mine", 4, 4)]
    terminal, log = io.StringIO(), io.StringIO()
    _bars(iter(pieces), Console(file=terminal, force_terminal=True, width=100))
    assert "4/4" in terminal.getvalue()
    assert "[red]mine" in terminal.getvalue()
    lines(iter(pieces), Console(file=log, width=100))
    assert log.getvalue() == "models: 4 made\n"


def test_shipped_names_are_offered(called: object) -> None:
    _, _, err = called("run", "zzz")  # type: ignore[operator]
    assert all(name in err for name in shipped())


def test_the_version_is_said(called: object) -> None:
    from expunge.core.machine import __version__

    assert called("--version") == (0, f"expunge {__version__}\n", "")  # type: ignore[operator]
