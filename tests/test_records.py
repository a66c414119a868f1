"""The README's ranking is made from the records by a command, and says what they say."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("records_tool", ROOT / "tools" / "records.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(name: str, value: float, **rest: Any) -> dict[str, Any]:
    score = {"value": value, "low": value - 0.001, "high": value + 0.001, "n": 64, "unit": "F"}
    scores = {"score": score, "quality": score}
    cost = {"examples_share": 0.1, "time_share": 0.1}
    said = {"name": name, "sentence": "Noise(0.1)", "control": False, "verdict": "partly"}
    return {**said, "scores": scores, "cost": cost, **rest}


def summary(best: float = 0.1) -> dict[str, Any]:
    experiment = {
        "name": "ranking-small",
        "forget": "RandomShare(0.1)",
        "members": 64,
        "protocol": "challenge",
        "rule": "released",
    }
    anchors = [row("retrain", 0.2, control=True), row("nothing", 0.0, control=True)]
    broken = {"name": "broken", "sentence": "Noise(9.0)", "control": False, "unscored": "diverged"}
    return {
        "experiment": experiment,
        "hardware": {"processor": "a processor", "cores": 2},
        "versions": {"expunge": "0.1.0", "torch": "2.13.0"},
        "rows": [*anchors, row("best", best), broken],
        "gallery": ["heavy"],
        "not_shown": ["That it is gone."],
    }


def test_the_readme_is_current(tool: ModuleType) -> None:
    text = (ROOT / "README.md").read_text()
    assert tool.with_table(text) == text, "run: python tools/records.py readme"


def test_a_page_holds_the_ranking_the_sentences_and_what_failed(tool: ModuleType) -> None:
    page = tool.page("2026-01-01_small", [summary()])
    assert page.startswith("# 2026-01-01_small\n")
    for said in ("| 1 | best |", "n = 64", "`broken` is unscored: diverged", "torch 2.13.0"):
        assert said in page
    assert "`best`: `Noise(0.1)`" in page
    assert "- That it is gone." in page


def test_the_newest_record_of_a_title_is_shown(tool: ModuleType, tmp_path: Path) -> None:
    for name, best in (("2026-01-01_a", 0.05), ("2026-02-01_a", 0.1)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ranking-small.json").write_text(json.dumps(summary(best)))
    marks = f"before\n{tool.BEGIN}\nold\n{tool.END}\nafter\n"
    made = tool.with_table(marks, tmp_path)
    assert made.startswith("before\n")
    assert made.endswith("after\n")
    assert "old" not in made
    assert "0.1000 [0.0990, 0.1010]" in made
    assert "0.0500" not in made
    assert "records/2026-02-01_a" in made
    assert tool.with_table(made, tmp_path) == made


def test_a_readme_without_marks_is_refused(tool: ModuleType) -> None:
    with pytest.raises(SystemExit, match="must hold the marks"):
        tool.with_table("no marks here")
    with pytest.raises(SystemExit, match="must hold the marks"):
        tool.with_table(f"{tool.END} {tool.BEGIN}")


def test_the_gallery_stays_out(tool: ModuleType) -> None:
    assert "gallery" not in tool.without_gallery(summary())


def test_a_page_of_several_holds_how_retrain_free_signals_rank(tool: ModuleType) -> None:
    spearman = {"value": 0.5, "low": 0.25, "high": 0.75, "alpha": 0.05, "n": 8}
    told = {"signal": "zrf", "against": "quality", "spearman": spearman, "methods": 8}
    several = [{**summary(), "retrain_free": [told]} for _ in range(3)]
    for number, each in enumerate(several):
        each["experiment"] = {**each["experiment"], "name": f"e{number}"}
    lines = tool.page("2026-01-01_small", several).splitlines()
    said = next(line for line in lines if line.startswith("| e1 |"))
    assert said.split("|")[2].strip() == "0.50 [0.25, 0.75], n 8"
    assert said.split("|")[3].strip() == "it was not measured."
    mean = next(line for line in lines if line.startswith("| mean of the experiments |"))
    assert mean.split("|")[2].strip() == "0.50 [0.50, 0.50], n 3"
    assert "Retrain-free" not in tool.page("2026-01-01_small", several[:1])
