"""A run may be killed at any moment, be taken up again, and share its store with others."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from house_tools import DIGITS, LOOPED, ONE, STACKED, bits, environment, plan, timed, torn

from expunge.core.store import Store
from expunge.experiments.graph import make

CALL = "from expunge.cli.main import main\nif __name__ == '__main__':\n    main()\n"
# Members enough that a kill lands in the middle.
LONGER = DIGITS.replace("members = 2", "members = 6").replace(
    "[methods]", "[methods]\nnoise = \"Noise(0.1), Train(CE('retain'), epochs=0.3, batch=64)\""
)


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """The command line as a process of its own, in a group of its own."""
    (folder / "expunge_command.py").write_text(CALL)
    command = [sys.executable, str(folder / "expunge_command.py"), *arguments]
    return subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment(),
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def ran(folder: Path, *arguments: str) -> tuple[int, str, str]:
    return ended(started(folder, *arguments))


def await_products(root: Path, pattern: str, count: int, process: subprocess.Popen[str]) -> None:
    """Wait until that many products are there, or the process has ended."""
    for _ in range(6000):
        if len(list(root.glob(pattern))) >= count or process.poll() is not None:
            return
        time.sleep(0.01)


def workers(process: int) -> list[int]:
    """The processes below one."""
    found: list[int] = []
    for task in Path(f"/proc/{process}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *workers(child)]
    return found


def alive(processes: Sequence[int]) -> list[int]:
    """Those that run: not gone, and no zombies that wait for their parent."""
    states = {}
    for process in processes:
        try:
            states[process] = (
                Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
            )
        except (FileNotFoundError, ProcessLookupError):
            continue
    return [process for process, state in states.items() if state != "Z"]


@pytest.mark.parametrize(("engine", "seed"), [("looped", 0), ("stacked", 1)])
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits(
    tmp_path: Path, engine: str, seed: int
) -> None:
    script = Path(__file__).with_name("killed.py")
    root = tmp_path / "killed"
    command = [sys.executable, str(script), str(root), engine, str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 0, done.stderr
    deaths, found, left, grown = json.loads(done.stdout)
    assert deaths >= 4
    assert found == []
    assert left == []
    assert grown == sorted(grown)
    whole = Store(tmp_path / "whole")
    made = plan(methods=ONE, members=2)
    timed(made, whole, {"looped": LOOPED, "stacked": STACKED}[engine])
    list(make(made, whole))
    assert bits(root) == bits(whole.root)
    assert torn(root) == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The longer experiment, carried out undisturbed in one process."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "my.toml").write_text(LONGER)
    code, _, err = ran(folder, "run", "my.toml", "--store", "s", "--jobs", "1")
    assert code == 0, err
    return folder / "s"


def beside(folder: Path, whole: Path) -> Path:
    """A store where members will be trained in the way in which the whole one's were."""
    (folder / "my.toml").write_text(LONGER)
    Store(folder / "s")
    shutil.copytree(whole / "timing", folder / "s" / "timing")
    return folder / "s"


@pytest.mark.slow
def test_two_jobs_make_the_same_bits_as_one(tmp_path: Path, whole: Path) -> None:
    root = beside(tmp_path, whole)
    code, out, err = ran(tmp_path, "run", "my.toml", "--store", "s", "--jobs", "2")
    assert code == 0, err
    assert "Traceback" not in err
    assert bits(root) == bits(whole)
    assert out.count("\n") > 5
    assert torn(root) == []


def killed_in_the_middle(folder: Path, root: Path, kind: str, count: int) -> list[int]:
    """Kill a run of two jobs once so many products are there; the workers that it had."""
    for _ in range(5):
        process = started(folder, "run", "my.toml", "--store", "s", "--jobs", "2")
        await_products(root, f"{kind}/*/*", count, process)
        os.kill(process.pid, signal.SIGSTOP)
        below = workers(process.pid)
        process.kill()
        process.communicate()
        if len(below) >= 2:
            return below
        # A fast machine was through before the kill: once more, from where such products begin.
        shutil.rmtree(root / kind)
        shutil.rmtree(root / "score", ignore_errors=True)
    raise AssertionError(f"the run always ended before {count} of {kind} were seen")


@pytest.mark.slow
def test_a_run_of_two_jobs_that_is_killed_leaves_no_orphans_and_goes_on(
    tmp_path: Path, whole: Path
) -> None:
    root = beside(tmp_path, whole)
    for kind, count in (("oracle", 1), ("unlearned", 1), ("unlearned", 7)):
        below = killed_in_the_middle(tmp_path, root, kind, count)
        for _ in range(100):
            if not alive(below):
                break
            time.sleep(0.1)
        assert alive(below) == []
        assert torn(root) == []
    code, _, err = ran(tmp_path, "run", "my.toml", "--store", "s", "--jobs", "2")
    assert code == 0, err
    assert bits(root) == bits(whole)
    assert list((root / "tmp").iterdir()) == []


@pytest.mark.slow
def test_two_processes_on_one_store_both_end_well(tmp_path: Path, whole: Path) -> None:
    root = beside(tmp_path, whole)
    both = [started(tmp_path, "run", "my.toml", "--store", "s", "--jobs", "1") for _ in range(2)]
    for code, out, err in map(ended, both):
        assert code == 0, err
        assert "finetune" in out
    assert bits(root) == bits(whole)
    assert torn(root) == []
    assert list((root / "tmp").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_says_so_tears_nothing_and_goes_on(tmp_path: Path, whole: Path, jobs: str) -> None:
    root = beside(tmp_path, whole)
    process = started(tmp_path, "run", "my.toml", "--store", "s", "--jobs", jobs)
    await_products(root, "oracle/*/*", 1, process)
    # As a terminal does: to the whole group, workers too.
    os.killpg(process.pid, signal.SIGINT)
    code, _, err = ended(process)
    assert code == 130
    assert err.strip().endswith(
        "expunge: stopped. Finished work is kept; run the same command to resume."
    )
    assert "Traceback" not in err
    assert torn(root) == []
    code, _, err = ran(tmp_path, "run", "my.toml", "--store", "s", "--jobs", jobs)
    assert code == 0, err
    assert bits(root) == bits(whole)


@pytest.mark.slow
def test_a_worker_that_dies_is_told_and_the_next_run_goes_on(tmp_path: Path, whole: Path) -> None:
    root = beside(tmp_path, whole)
    process = started(tmp_path, "run", "my.toml", "--store", "s", "--jobs", "2")
    await_products(root, "oracle/*/*", 1, process)
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in workers(process.pid)}
    victim = next(pid for pid, said in commands.items() if "spawn_main" in said)
    os.kill(victim, signal.SIGKILL)
    code, _, err = ended(process)
    assert code == 10
    assert "A worker process died" in err
    assert "Traceback" not in err
    assert torn(root) == []
    code, _, err = ran(tmp_path, "run", "my.toml", "--store", "s", "--jobs", "1")
    assert code == 0, err
    assert bits(root) == bits(whole)
