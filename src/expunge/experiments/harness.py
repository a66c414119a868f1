"""Runs tasks of EleutherAI's lm-evaluation-harness on a model's folder, in a child process.

The harness is not a dependency: it brings some twenty packages, and its tasks download data.
Nothing of it is imported here; its own command line is called, and its JSON is read.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from expunge.core.machine import device
from expunge.errors import BadData, BadEvidence, Unsupported

# A named task, and never a file or folder: a task's YAML may name Python code to run.
TASK = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")


INSTALL = "pip install 'lm_eval[hf]'"


MISSING = re.compile(r"No module named '?lm_eval\b")


# The exception itself, and not the line of source above it; older versions go on to give advice.
UNKNOWN = re.compile(r"^\w*Error: Tasks not found: (.*?)(?:\. |$)", re.MULTILINE)


# Of what the harness wrote before it failed, so many signs are shown.
SHOWN = 600


Z95 = 1.959964


@dataclass(frozen=True)
class TaskScore:
    """One number of one task, as the harness computed it.

    Args:
        task: the task, or a group of tasks.
        metric: such as "acc" or "acc_norm".
        filter: what was done to answers before they were scored; "none" as a rule.
        value: the number, on the metric's own scale.
        stderr: its standard error over questions; None where the harness gives none.
        n: questions; 0 where the harness does not say.
        version: of the harness; empty where it does not say.
    """

    task: str
    metric: str
    filter: str
    value: float
    stderr: float | None
    n: int
    version: str = ""

    @property
    def interval(self) -> tuple[float, float] | None:
        """A normal 95 % interval over questions; None without a standard error."""
        if self.stderr is None:
            return None
        return self.value - Z95 * self.stderr, self.value + Z95 * self.stderr


def evaluate(
    folder: str | Path,
    tasks: Sequence[str],
    *,
    shots: int | None = None,
    limit: int | None = None,
    batch: int = 8,
    python: str = sys.executable,
    seconds: float | None = None,
) -> tuple[TaskScore, ...]:
    """Run tasks of lm-evaluation-harness on a model, and return all its numbers.

    Args:
        folder: as `save_pretrained` or `expunge unlearn` writes it; loaded in float32.
        tasks: names as `python -m lm_eval ls tasks` lists them, such as "mmlu_virology".
        shots: examples before each question; None for the task's own number.
        limit: questions of each task, the first ones; None for all. For trying out.
        batch: questions at once.
        python: of the environment that the harness is installed in.
        seconds: after which the child is ended; None to wait for ever.

    Raises:
        Unsupported: the harness is not installed, failed, or took too long.
        BadData: no such folder, or no such task.
        BadEvidence: results that are missing, broken, or not finite.

    Source: EleutherAI/lm-evaluation-harness@4e7e0d4, lm_eval/_cli/run.py (the command line, which
    also takes the older form without a subcommand), loggers/evaluation_tracker.py (the file).
    """
    place = checked(folder, tasks)
    model = {"pretrained": str(place), "dtype": "float32"}
    with tempfile.TemporaryDirectory() as out:
        # -P: not even a file beside us may stand in for a module
        said = [python, "-P", "-m", "lm_eval", "--model", "hf"]
        said += ["--model_args", ",".join(f"{key}={value}" for key, value in model.items())]
        said += ["--tasks", ",".join(tasks), "--batch_size", str(batch), "--output_path", out]
        said += ["--device", device().type]
        said += [] if shots is None else ["--num_fewshot", str(shots)]
        said += [] if limit is None else ["--limit", str(limit)]
        _run(said, out, seconds)
        return scores_of(_results(Path(out)))


def checked(folder: str | Path, tasks: Sequence[str]) -> Path:
    """Refuse what the harness would misread.

    Raises:
        BadData: as for `evaluate`.
    """
    place = Path(folder).resolve()
    if not (place / "config.json").is_file():
        raise BadData(f"There is no model in {folder}; expected a folder with config.json.")
    if "," in str(place):
        raise BadData(f"{place} has a comma, at which the harness would cut it; rename it.")
    wrong = [name for name in tasks if not TASK.fullmatch(name) or name.endswith(".yaml")]
    if wrong or not tasks:
        raise BadData(f"Got tasks {wrong or 'none'}; expected names such as mmlu_virology.")
    return place


def _run(said: Sequence[str], out: str, seconds: float | None) -> None:
    """Run the child; its output is shown if it fails."""
    try:
        done = subprocess.run(
            said, cwd=out, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=seconds, check=False,
        )  # fmt: skip
    except OSError as fault:
        raise Unsupported(f"Cannot start {said[0]}: {fault.strerror}.") from None
    except subprocess.TimeoutExpired:
        raise Unsupported(
            f"lm-evaluation-harness was ended after {seconds:g} s. Allow more, or give a limit."
        ) from None
    output = done.stdout.decode("utf-8", errors="replace")
    if done.returncode == 0:
        return
    if MISSING.search(output):
        raise Unsupported(
            f"lm-evaluation-harness is not installed for {said[0]}. Install it with: {INSTALL}; "
            "an environment of its own will do: name its python."
        )
    if unknown := UNKNOWN.search(output):
        raise BadData(
            f"lm-evaluation-harness knows no task {unknown[1].strip()[:SHOWN]}; "
            "`python -m lm_eval ls tasks` lists what it knows (in older versions --tasks list)."
        )
    raise Unsupported(
        f"lm-evaluation-harness failed with exit code {done.returncode}. Its last words: "
        f"{output.strip()[-SHOWN:] or 'none'}"
    )


def _results(folder: Path) -> Any:
    """What the harness wrote; it warns and goes on where it cannot write."""
    found = sorted(folder.rglob("results*.json"))
    if not found:
        raise BadEvidence(
            "lm-evaluation-harness ended well and wrote no results; is the disk full?"
        )
    try:
        return json.loads(found[-1].read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as fault:
        raise BadEvidence(f"The harness's {found[-1].name} is no JSON: {fault}.") from None


def scores_of(results: Any) -> tuple[TaskScore, ...]:
    """All numbers of a results file of the harness, task by task, groups of tasks last.

    Args:
        results: the file as JSON: "results" and, where there are any, "groups" map a task to
            "METRIC,FILTER" and "METRIC_stderr,FILTER".

    Raises:
        BadEvidence: a file of another form, or a number that is not finite.
    """
    tables = [_table(results, "results"), _table(results, "groups")]
    counts, version = _table(results, "n-samples"), _table(results, "").get("lm_eval_version", "")
    merged = {name: told for table in tables for name, told in table.items()}
    found = tuple(
        score
        for name, told in merged.items()
        for score in _scores(name, told, _count(counts.get(name), told), str(version))
    )
    if not found:
        raise BadEvidence("The harness's results hold no number; expected a metric of each task.")
    return found


def _table(results: Any, key: str) -> Mapping[str, Any]:
    """A part of the file; empty where there is none, the whole file for no key."""
    if not isinstance(results, dict):
        raise BadEvidence("The harness's results are no JSON object; expected task by task.")
    found = results.get(key, {}) if key else results
    if not isinstance(found, dict):
        raise BadEvidence(f"The harness's {key!r} is no JSON object; expected task by task.")
    return found


def _count(told: Any, scored: Any) -> int:
    """How many questions: of the counts, or of the task's own length."""
    found = told.get("effective") if isinstance(told, dict) else None
    if found is None and isinstance(scored, dict):
        found = scored.get("sample_len")
    return found if isinstance(found, int) else 0


def _scores(task: str, told: Any, n: int, version: str) -> Iterator[TaskScore]:
    if not isinstance(told, dict):
        raise BadEvidence(f"The harness's results of {task} are no JSON object.")
    for key, value in told.items():
        metric, comma, used = key.partition(",")
        if not comma or metric.endswith("_stderr") or not _is_number(value):
            continue
        if not math.isfinite(value):
            raise BadEvidence(f"The harness's {metric} of {task} is {value}, which is no number.")
        spread = told.get(f"{metric}_stderr,{used}")
        # "N/A" where the harness knows none
        known = spread if _is_number(spread) and math.isfinite(spread) else None
        yield TaskScore(task, metric, used, value, known, n, version)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def line(score: TaskScore) -> str:
    """A number as a line of text, with its interval and n."""
    held = score.interval
    said = f" [{held[0]:.4f}, {held[1]:.4f}]" if held else " (no standard error)"
    name = score.metric if score.filter == "none" else f"{score.metric}, {score.filter}"
    return f"{score.task}: {name} {score.value:.4f}{said}, n = {score.n or 'unknown'}"


def main(words: Sequence[str] | None = None) -> None:
    """Print the numbers of one model, a line each."""
    parser = argparse.ArgumentParser(prog="python -m expunge.experiments.harness")
    parser.add_argument("folder")
    parser.add_argument("tasks", nargs="+")
    parser.add_argument("--shots", type=int)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--python", default=sys.executable)
    given = parser.parse_args(words)
    found = evaluate(
        given.folder, given.tasks, shots=given.shots, limit=given.limit, python=given.python
    )
    sys.stdout.writelines(f"{line(score)}\n" for score in found)


if __name__ == "__main__":
    main()
