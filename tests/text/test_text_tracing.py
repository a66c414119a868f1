"""How likely answers are while a method works, measured aside: training does not notice."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import text_tools
import torch
from torch import nn

from expunge.core import receipt
from expunge.core.receipt import Spent
from expunge.core.store import Store
from expunge.engine.inference import likelihoods
from expunge.engine.stacking import Looped, unlearn_runs
from expunge.experiments.make import STACK, blocks, make_block, run_block, runs_of
from expunge.experiments.plan import Plan
from expunge.experiments.text.evidence import FEW, path, trace_of
from expunge.experiments.text.normalised_metrics import MetricRow, RecordedAnswers
from expunge.metrics.text.likelihood import probability

TUNE = "Train(CE('retain'), epochs=3, lr=0.005, batch=16, optimiser=AdamW())"


def brief() -> Plan:
    return text_tools.plan({"tune": TUNE})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The originals alone; not to be changed."""
    torch.set_num_threads(1)
    made = Store(tmp_path_factory.mktemp("trace") / "store")
    for block in [one for one in blocks(brief(), STACK) if one.kind == "original"]:
        make_block(brief(), made, block, Looped(), True)
    return made


def the_block(plan: Plan) -> Any:
    return next(one for one in blocks(plan, STACK) if one.method.name == "tune")


def test_each_epoch_is_asked_and_training_does_not_notice(store: Store) -> None:
    plan = brief()
    block = the_block(plan)
    made, seen = run_block(plan, runs_of(plan, store, block), block, Looped())
    *_, apart = unlearn_runs(runs_of(plan, store, block), block.method, Looped())
    assert isinstance(apart, list)
    for one, other in zip(made, apart, strict=True):
        for name, weight in one.model.state_dict().items():
            assert torch.equal(weight, other.model.state_dict()[name])
        assert one.receipt.curve == other.receipt.curve
    assert list(seen) == list(plan.experiment.seeds)
    assert [(place, number) for place, number, _ in seen[0]] == [("/0", 1), ("/0", 2), ("/0", 3)]
    assert seen[0][-1][2] == pytest.approx(trace_of(made[0].model, plan.task.setting.asked))
    assert seen[0][0][2]["forget"] != seen[0][-1][2]["forget"]


def test_only_methods_are_asked_all_along(store: Store) -> None:
    plan = brief()
    first = blocks(plan, STACK)[0]
    short = replace(first, method=the_block(plan).method)
    assert first.kind == "original"
    _, seen = run_block(plan, runs_of(plan, store, the_block(plan)), short, Looped())
    assert seen == {}


def test_the_trace_is_kept_with_the_model(store: Store, tmp_path: Path) -> None:
    plan, place = brief(), tmp_path / "copy"
    shutil.copytree(store.root, place)
    make_block(plan, Store(place), the_block(plan), Looped(), True)
    about = Store(place).about(plan.unlearned(the_block(plan).method, 1))
    assert [number for _, number, _ in about["trace"]] == [1, 2, 3]
    assert "trace" not in Store(place).about(plan.original(0))


class Modes(nn.Module):
    """A model that answers evenly; one of its parts stands still while the other trains."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.table, self.still = nn.Embedding(size, 2), nn.Dropout(0.9)
        self.train()
        self.still.eval()

    device = torch.device("cpu")

    def get_output_embeddings(self) -> None:
        return None

    def forward(self, input_ids: torch.Tensor, **rest: Any) -> Any:
        assert not self.training
        shape = (*input_ids.shape, self.table.num_embeddings)
        return SimpleNamespace(logits=self.table.weight.sum() * 0 + torch.zeros(shape))


def test_modes_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = text_tools.setting()
    model = Modes(len(setting.tokenizer))
    found = trace_of(model, setting.asked)
    assert found == pytest.approx(dict.fromkeys(found, 1 / len(setting.tokenizer)))
    assert (model.training, model.table.training, model.still.training) == (True, True, False)
    monkeypatch.setattr("expunge.experiments.text.evidence.likelihoods", lambda *rest: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trace_of(model, setting.asked)
    assert model.training


def test_what_is_asked_agrees_with_the_evidence() -> None:
    """The first texts of a set, as the whole set is asked."""
    setting = text_tools.setting()
    model = text_tools.plan().problem.untrained("y")
    for asked in setting.asked[:2]:
        told = likelihoods([model], asked.texts).answers(0)
        mean = float(probability(told)[:FEW].mean())
        assert trace_of(model, setting.asked)[asked.side] == pytest.approx(mean, abs=1e-5)


def at(chance: float) -> RecordedAnswers:
    names = {"forget": range(6), "retain": range(12), "holdout": range(6)}
    return RecordedAnswers(
        {n: text_tools.answers(chance, index=index) for n, index in names.items()}
    )


def level(witness: RecordedAnswers, name: str) -> float:
    return float(np.mean(witness.values(probability, name)))


def told(forget: float, retain: float) -> list[Any]:
    return ["/0", 1.0, {"forget": forget, "retain": retain}]


def test_a_path_by_hand() -> None:
    sides = {"subject": (at(0.3), at(0.3)), "oracle": (at(0.2), at(0.2)), "original": (at(0.9),)}
    row = MetricRow(text_tools.setting().asked, **sides)
    found = path(row, [[told(0.8, 0.7), told(0.4, 0.5)], [told(0.6, 0.5)]])
    assert [one["forget"] for one in found["records"]] == pytest.approx(
        [level(at(0.9), "forget"), 0.7, level(at(0.3), "forget")]
    )
    assert found["records"][1]["retain"] == pytest.approx(0.6)
    assert found["epochs"] == 1
    assert found["retrained"]["forget"] == pytest.approx(level(at(0.2), "forget"))
    assert found["sets"] == {"forget": "forget", "retain": "retain"}
    assert found["questions"] == {"forget": 6, "retain": 12}


def test_an_end_that_is_the_last_epoch_stands_once() -> None:
    sides = {"subject": (at(0.3),), "oracle": (at(0.2),), "original": (at(0.9),)}
    row = MetricRow(text_tools.setting().asked, **sides)
    end = told(level(at(0.3), "forget"), level(at(0.3), "retain"))
    assert len(path(row, [[told(0.8, 0.7), end]])["records"]) == 3
    assert len(path(row, [[]])["records"]) == 2
    assert path(row, [[]])["epochs"] == 0


def test_what_a_caller_does_between_epochs_costs_the_method_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    clock = SimpleNamespace(perf_counter=lambda: now[0], process_time=lambda: 2 * now[0])
    monkeypatch.setattr(receipt, "time", clock)
    assert Spent(1.0, 2.0).plus(Spent(0.5, 0.25)) == Spent(1.5, 2.25)
    plan = brief()
    block = the_block(plan)
    made: list[Any] = []
    for one in unlearn_runs(runs_of(plan, store, block), block.method, Looped()):
        now[0] += 0 if isinstance(one, list) else 100.0
        made = one if isinstance(one, list) else made
    assert now[0] == 600
    assert [one.receipt.seconds for one in made] == [0.0, 0.0]
    assert [one.receipt.processor_seconds for one in made] == [0.0, 0.0]
