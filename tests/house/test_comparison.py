"""Comparing from Python: one's own network, one's own tensors, one line a method."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from house_tools import METHODS, RECIPE, net, pictures, problem
from torch import nn

from expunge.comparison import Comparison, compare, named
from expunge.core.problem import Problem
from expunge.errors import BadData, BadSentence, Diverged, Unsupported
from expunge.methods.published import PUBLISHED
from expunge.methods.sentences import as_method
from expunge.methods.steps.edits import Noise


class Own(nn.Module):
    """A network of the user's own, on vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        answers: torch.Tensor = self.out(torch.relu(self.hidden(inputs)))
        return answers


def vectors(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, 3, (n,), generator=draws)
    inputs = torch.randn(n, 6, generator=draws)
    inputs[torch.arange(n), targets] += 2.0
    return inputs, targets


@pytest.fixture(scope="module")
def own() -> Comparison:
    """Eight oracles, no test set, vectors in the place of pictures."""
    mine = Problem.of(
        forget=vectors(6, 0),
        retain=vectors(40, 1),
        architecture=Own,
        recipe=as_method(RECIPE, "recipe"),
    )
    return compare(mine, {"mine": "Noise(0.1), Train(CE('retain'), lr=0.05)"}, members=8)


def test_ones_own_network_is_compared(own: Comparison) -> None:
    text = str(own)
    for name in ("retrain (control)", "nothing (control)", "mine", "n = 8 models a row"):
        assert name in text
    assert own["mine"]["scores"]["quality"]["n"] == 8
    assert own["nothing"]["verdict"] == "changed nothing"
    assert own.summary["problem"]["sizes"] == {"forget": 6, "retain": 40, "train": 46}


def test_the_report_of_vectors_can_be_written(own: Comparison, tmp_path: Path) -> None:
    path = own.write(tmp_path / "report.html")
    assert "mine" in path.read_text()


def left_in(folder: Path) -> list[str]:
    """What is left but torch's own cache, which whoever compiles first in a process makes."""
    return [p.name for p in folder.iterdir() if not p.name.startswith("torchinductor")]


def test_without_a_store_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    found = compare(problem(), "finetune", members=2)
    assert found["finetune"]["scores"]
    assert left_in(tmp_path) == []


def test_without_a_store_nothing_is_left_after_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(Diverged):
        compare(problem(recipe=as_method("Train(CE('train'), epochs=9, lr=1e12)")), (), members=2)
    assert left_in(tmp_path) == []


def test_a_store_is_kept_and_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = compare(problem(), METHODS, members=2, store=tmp_path / "s")

    def never(*_: object) -> Any:
        raise AssertionError("made twice")

    monkeypatch.setattr("expunge.experiments.make.unlearn_runs", never)
    monkeypatch.setattr("expunge.experiments.classification.score", never)
    again = compare(problem(), METHODS, members=2, store=tmp_path / "s")
    assert again.summary == first.summary


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    compare(problem(), {"noise": "Noise(0.1)"}, members=2)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("missing", ["recipe", "architecture"])
def test_what_cannot_be_retrained_cannot_be_compared(missing: str) -> None:
    with pytest.raises(Unsupported, match="needs an architecture and a recipe"):
        compare(replace(problem(), **{missing: None}), METHODS, members=2)


def test_methods_may_be_said_in_many_ways() -> None:
    step = Noise(0.1)
    said: list[tuple[Any, list[str]]] = [
        ({"a": "Noise(0.1)", "b": step, "c": (step, step), "d": "finetune"}, ["a", "b", "c", "d"]),
        (["finetune", "Noise(0.1)", step], ["finetune", "mine 2", "mine 3"]),
        ("finetune", ["finetune"]),
        ("Noise(0.1), Noise(0.2)", ["mine 1"]),
        (step, ["mine 1"]),
        (PUBLISHED["sham"], ["sham"]),
        ((), []),
    ]
    for methods, names in said:
        assert [method.name for method in named(methods)] == names


@pytest.mark.parametrize(
    ("methods", "told"),
    [
        ({"retrain": "Noise(0.1)"}, "is a control"),
        (["finetune", "finetune"], "is there twice"),
        ({"x": "finetun"}, "Did you mean finetune"),
        ({"x": 3}, "Expected a method"),
        ({"\x1b[31m": "finetune"}, "printable"),
    ],
)
def test_methods_that_cannot_be_compared_are_told(methods: Any, told: str) -> None:
    with pytest.raises(BadSentence, match=told):
        compare(problem(), methods, members=2)


def test_the_arguments_are_checked() -> None:
    for wrong in ({"members": 1}, {"rule": "exat"}, {"protocol": "pared"}, {"seed": 10**18}):
        with pytest.raises(BadSentence):
            compare(problem(), METHODS, **{"members": 2, **wrong})  # type: ignore[arg-type]


def test_the_paired_protocol_has_as_many_originals(tmp_path: Path) -> None:
    compare(problem(), METHODS, members=3, protocol="paired", store=tmp_path / "s")
    assert len(list((tmp_path / "s" / "original").glob("*/*"))) == 3


def test_a_data_set_of_pictures_and_a_network_that_is_a_function() -> None:
    task = Problem.split(
        pictures(30, 1), [0, 5, 9], architecture=net, recipe=as_method(RECIPE, "recipe")
    )
    found = compare(task, {"noise": Noise(0.1)}, members=2)
    assert [row["name"] for row in found.summary["rows"]] == ["retrain", "nothing", "noise"]


def test_a_row_that_is_not_there_is_a_sentence_with_the_nearest() -> None:
    found = Comparison({"rows": [{"name": "finetune"}, {"name": "scrub"}]})
    assert found["scrub"] == {"name": "scrub"}
    with pytest.raises(
        BadData, match=r"No row is called 'scrubb'; there are finetune, scrub\. Did"
    ):
        _ = found["scrubb"]


@pytest.mark.parametrize("name", ["own.csv", "own", "own.html.json"])
def test_a_report_under_another_ending_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"does not end in \.html"):
        Comparison({"rows": []}).write(tmp_path / name)
    assert not any(tmp_path.iterdir())
