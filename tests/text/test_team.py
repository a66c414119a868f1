"""Processes that train together give what one gives, and leave nothing behind."""

from __future__ import annotations

import multiprocessing
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import team_work
import tiny_text
import torch
from safetensors.torch import load_file

from expunge.core.schedules import SGD, AdamW
from expunge.engine.distributed import LOOPBACK, Team, together
from expunge.engine.training import Train
from expunge.errors import BadData, BadSentence, Unsupported
from expunge.methods.losses.answers import KL
from expunge.methods.losses.classes import WeightedCE
from expunge.methods.losses.likelihood import NPO
from expunge.methods.steps.adapter import LoRA

BOTH = NPO("forget") + 0.5 * KL("retain")


def train(**rest: Any) -> Train:
    rest = {"epochs": 2, "lr": 0.1, "batch": 5, "optimiser": SGD(), **rest}
    return Train(rest.pop("objective", BOTH), **rest)


def close(a: team_work.Told, b: team_work.Told) -> None:
    for name in b[0]:
        assert torch.allclose(a[0][name], b[0][name], atol=2e-5), name
    for (_, _, x), (_, _, y) in zip(a[1], b[1], strict=True):
        assert x == pytest.approx(y, rel=1e-4)
    assert a[2] == b[2]


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 4])
def test_processes_together_give_what_one_gives(size: int, tmp_path: Path) -> None:
    """Minibatches of 5 and 3 texts: with 4 processes some have none of the forget set."""
    many = (train(accumulate=2, clip=1.0), LoRA((train(),)))
    alone = [together(1, partial(team_work.trained, steps, "")) for steps in many]
    done = together(size, partial(team_work.several, many, str(tmp_path)))
    for number, told in enumerate(done):
        close(told, alone[number])
        # and all processes have the very same weights
        folder = tmp_path / str(number)
        first, *others = (load_file(folder / f"{rank}.safetensors") for rank in range(size))
        for other in others:
            assert all(torch.equal(first[name], other[name]) for name in first)
    assert not multiprocessing.active_children()
    assert LOOPBACK not in os.environ


@pytest.mark.slow
def test_a_team_goes_on_where_it_was_broken_off(tmp_path: Path) -> None:
    steps = train(optimiser=AdamW(), batch=2, lr=0.01)
    plain = together(2, partial(team_work.trained, steps, ""))
    with pytest.raises(BadData, match="broken off"):
        together(2, partial(team_work.kept, steps, str(tmp_path / "kept"), 3))
    done = together(2, partial(team_work.kept, steps, str(tmp_path / "kept"), 1000))
    assert all(torch.equal(done[0][name], plain[0][name]) for name in plain[0])
    assert done[1:] == plain[1:]


@pytest.mark.parametrize("size", [0, -1, 9999])
def test_no_more_processes_than_a_machine_takes(size: int) -> None:
    def never(team: object) -> None:
        raise AssertionError("work was begun")

    with pytest.raises(BadSentence, match=f"Got {size} processes; expected 1 to"):
        together(size, never)


@pytest.mark.slow
def test_a_process_that_dies_is_told() -> None:
    with pytest.raises(Unsupported, match="broke off"):
        together(2, team_work.stopping)
    assert not multiprocessing.active_children()


def test_a_team_of_one_is_a_run_alone() -> None:
    from expunge.unlearn import unlearn

    alone = together(1, partial(team_work.trained, train(), ""))
    plain = unlearn(tiny_text.taught(), train(), tiny_text.problem(), seed=3)
    assert all(torch.equal(alone[0][n], t) for n, t in plain.model.state_dict().items())


def test_what_cannot_be_shared_out_is_refused() -> None:
    def refused(step: Any) -> Any:
        return lambda team: team_work.trained(step, "", Team(0, 2))

    with pytest.raises(BadSentence, match="no mean"):
        together(1, refused(train(objective=WeightedCE("forget"))))


def test_pieces_are_dealt_in_turn() -> None:
    dealt = [list(Team(rank, 3).share(range(7))) for rank in range(3)]
    assert dealt == [[0, 3, 6], [1, 4], [2, 5]]


def test_a_weight_without_a_gradient_gets_none() -> None:
    """Else weight decay would move what the objective does not reach."""

    def work(team: Team) -> list[Any]:
        weights = [torch.ones(2, requires_grad=True) for _ in range(2)]
        weights[0].grad = torch.full((2,), 3.0)
        told = team.gather(weights, torch.tensor([2.0]))
        return [weights[0].grad.tolist(), weights[1].grad, told.tolist()]

    assert together(1, work) == [[3.0, 3.0], None, [2.0]]
