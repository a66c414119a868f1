"""The smallest problems that a test of the core can do with."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from expunge.core.batch import Images, Tensors
from expunge.core.method import Method
from expunge.core.problem import Problem
from expunge.core.seeds import isolated
from expunge.core.view import View
from expunge.engine.check import needs
from expunge.engine.run import Run, frozen
from expunge.engine.training import Train
from expunge.methods.losses.answers import CE
from expunge.problems.images.loaders import digits

RECIPE = Method("recipe", (Train(CE("train"), epochs=1, lr=0.05, batch=16),))


def net() -> nn.Sequential:
    """A convolution with batch normalisation, and a linear layer: 36 + 8 + 650 weights."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def plain() -> nn.Sequential:
    """The same without batch normalisation."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10)
    )


def dropping() -> nn.Sequential:
    """A linear model with dropout."""
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))


@cache
def pictures(n: int = 60) -> Tensors:
    train = digits().train
    return Tensors(train.inputs[:n], train.targets[:n])


@cache
def unseen(n: int = 40) -> Tensors:
    """Digits that no tiny problem trains on."""
    train = digits().train
    return Tensors(train.inputs[-n:], train.targets[-n:])


def problem(forget: int = 12, n: int = 60, **rest: Any) -> Problem:
    """The first `forget` of `n` digits are to be forgotten."""
    rest = {"architecture": net, "recipe": RECIPE, "val": unseen(), **rest}
    return Problem.split(pictures(n), torch.arange(forget), name="tiny", **rest)


def classwise(forget: int = 12, n: int = 60, **rest: Any) -> Problem:
    """All examples of the digits 3 and 5 are to be forgotten, `forget` of them at the most."""
    targets = pictures(n).targets
    gone = torch.isin(targets, torch.tensor([3, 5])).nonzero().flatten()[:forget]
    left = (~torch.isin(targets, targets[gone])).nonzero().flatten()
    rows = torch.cat([gone, left])
    data = Tensors(pictures(n).inputs[rows], targets[rows])
    rest = {"architecture": net, "recipe": RECIPE, "val": unseen(), **rest}
    return Problem.split(data, torch.arange(len(gone)), name="tiny classes", **rest)


def fitting(method: Method, forget: int = 12, **rest: Any) -> Problem:
    """The tiny problem, or the one of whole classes for a method that forgets nothing else."""
    return (classwise if needs(method).class_wise else problem)(forget, **rest)


def made(architecture: Any = net, seed: int = 0) -> Any:
    """A model with statistics that are not those of a fresh one."""
    with isolated("test", seed):
        model = architecture()
        model.train()
        with torch.no_grad():
            for _ in range(3):
                model(pictures().inputs)
    return model.eval()


def run(model: nn.Module | None = None, task: Problem | None = None, seed: int = 0) -> Run:
    original = frozen(made() if model is None else model)
    mine = copy.deepcopy(original).requires_grad_(True)
    return Run(mine, original, problem() if task is None else task, seed)


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def same(a: nn.Module, b: nn.Module) -> bool:
    """Whether two models agree in every bit."""
    there, here = a.state_dict(), b.state_dict()
    return there.keys() == here.keys() and all(torch.equal(there[n], here[n]) for n in there)


def view(
    logits: dict[str, Tensor],
    targets: dict[str, Tensor] | None = None,
    teachers: dict[str, dict[str, Tensor]] | None = None,
    **rest: Any,
) -> View:
    """A view whose model answers with given logits: the inputs are the logits themselves."""
    targets = targets or {}
    batches = {}
    for name, answer in logits.items():
        right = targets.get(name, torch.zeros(answer.shape[:-1], dtype=torch.int64))
        batches[name] = Images(answer, right, torch.arange(len(answer)))
    told = {
        who: _answering([(logits[name], answer) for name, answer in answers.items()])
        for who, answers in (teachers or {}).items()
    }
    rest = {"weights": {}, "progress": 0.0, "seed": 0, **rest}
    return View(lambda inputs: inputs, batches, told, **rest)


def _answering(pairs: list[tuple[Tensor, Tensor]]) -> Any:
    return lambda inputs: next(answer for asked, answer in pairs if asked is inputs)


def runs_of(
    seeds: Sequence[int], task: Problem | None = None, originals: Sequence[nn.Module] | None = None
) -> list[Run]:
    """Runs of one method by members of these seeds, that share what does not differ."""
    task = problem() if task is None else task
    shared: dict[Any, Any] = {}
    first, found = frozen(made()), []
    for place, seed in enumerate(seeds):
        original = first if originals is None else originals[place]
        memo = shared if originals is None else None
        mine = copy.deepcopy(original).requires_grad_(True)
        found.append(Run(mine, original, task, seed, memo=memo))
    return found
