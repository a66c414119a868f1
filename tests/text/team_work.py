"""What a process of a team does; it is imported by name in each of them."""

from __future__ import annotations

import copy
import os
import signal
from pathlib import Path
from typing import Any

import tiny_text
from safetensors.torch import save_file
from torch import Tensor

from expunge import unlearn
from expunge.engine.checkpoint import Checkpointer
from expunge.engine.distributed import Team
from expunge.errors import BadData

Told = tuple[dict[str, Tensor], tuple[Any, ...], dict[str, int]]


def trained(steps: Any, folder: str, team: Team) -> Told:
    """Unlearn together; all processes leave what they got."""
    done = unlearn(copy.deepcopy(tiny_text.taught()), steps, tiny_text.problem(), seed=3, team=team)
    state = dict(done.model.state_dict())
    if folder:
        own = {n: t.contiguous() for n, t in done.model.named_parameters()}
        save_file(own, Path(folder) / f"{team.rank}.safetensors")
    return state, done.receipt.curve, done.receipt.examples


def several(many: tuple[Any, ...], folder: str, team: Team) -> list[Told]:
    """One after another, in the same processes: to start them takes longer than the work."""
    told = []
    for number, steps in enumerate(many):
        own = Path(folder) / str(number)
        own.mkdir(exist_ok=True)
        told.append(trained(steps, str(own), team))
    return told


def kept(steps: Any, folder: str, most: int, team: Team) -> Told:
    """The same, put down before each minibatch, and broken off before the `most`-th."""
    checkpointer = Checkpointer(folder, every=0, writes=team.rank == 0)
    usual = checkpointer.save_if_due
    left = [most]

    def saving(*given: Any) -> None:
        usual(*given)
        left[0] -= 1
        if left[0] < 0:
            raise BadData("broken off")

    checkpointer.save_if_due = saving  # type: ignore[method-assign]
    done = unlearn(
        copy.deepcopy(tiny_text.taught()),
        steps,
        tiny_text.problem(),
        seed=3,
        team=team,
        checkpointer=checkpointer,
    )
    return dict(done.model.state_dict()), done.receipt.curve, done.receipt.examples


def stopping(team: Team) -> str:
    """Every process but the first is killed."""
    if team.rank:
        os.kill(os.getpid(), signal.SIGKILL)
    team.wait()
    return "never"
