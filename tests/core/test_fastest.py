"""Stacked or alone: both are timed, the faster one is taken, and why there was no stack is told."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor, nn

import tiny
from expunge.engine.run import Run, frozen
from expunge.engine.stacking import Looped, Timing, Vmapped, fastest
from expunge.engine.training import Train
from expunge.methods.losses.answers import CE, Repel
from expunge.methods.sentences import as_method

RETAIN = Train(CE("retain"), batch=24)


@pytest.mark.parametrize("over", ["", "forget", "retain"])
def test_fastest_times_as_many_steps_as_it_says(over: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []

    def noting(self: Looped, runs: list[Run], method: Any) -> Any:
        before = dict(runs[0].counts.examples)
        yield from original(self, runs, method)
        read = runs[0].counts.examples["forget"] - before.get("forget", 0)
        counted.append(read)

    original = Looped.__call__
    monkeypatch.setattr(Looped, "__call__", noting)
    train = Train(Repel("forget", "retain"), batch=4, over=over)
    timing = fastest(lambda n: tiny.runs_of(range(n)), as_method(train), 2)
    # minibatches of 4 of the 12 forget examples: 1, 1 and 13 steps
    assert counted == [4, 4, 52]
    assert timing.looped > 0
    assert timing.vmapped is not None


def test_fastest_says_why_it_did_not_stack() -> None:
    timing = fastest(lambda n: tiny.runs_of(range(n)), as_method(RETAIN), 1)
    assert timing.vmapped is None
    assert timing.reason == "one model is not a stack"
    assert timing.engine == Looped()


class Branching(nn.Module):
    """Asks a tensor for its value, which vmap cannot tell."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(64, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        logits = self.last(inputs.flatten(1))
        return logits * 2 if float(logits.detach().sum()) > 0 else logits


def test_fastest_makes_no_stack_of_large_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """The forecast of 512 ResNet-18 was killed for memory, since 64 of them were tried stacked."""
    made: list[int] = []

    def make(count: int) -> list[Run]:
        made.append(count)
        return tiny.runs_of(range(count))

    monkeypatch.setattr("expunge.engine.stacking.LARGE", 0.0)
    timing = fastest(make, as_method(RETAIN), 64)
    assert timing.vmapped is None and "too large to try" in timing.reason
    assert max(made) == 2


def test_fastest_goes_on_alone_where_vmap_refuses() -> None:
    original = frozen(tiny.made(Branching))

    def make(n: int) -> list[Run]:
        return tiny.runs_of(range(n), originals=[original] * n)

    timing = fastest(make, as_method(RETAIN), 2)
    assert timing.vmapped is None
    assert "vmap refused" in timing.reason


def test_the_faster_way_is_taken() -> None:
    assert Timing(2.0, 1.0).engine == Vmapped()
    assert Timing(1.0, 2.0).engine == Looped()
    assert Timing(1.0, None).engine == Looped()
