"""Linear datamodels: what each training example adds to a model's answers, from many small models.

Models are trained by the problem's recipe on random halves of the retain set, each with a random
share of the forget set. A ridge regression of their answers on who was in then tells what the whole
forget set adds to each answer, and so what a model would answer that never saw it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from expunge.core.batch import Joined, Subset, holds_tokens
from expunge.core.receipt import ReceiptCounts
from expunge.core.run import ProblemProtocol, RunProtocol
from expunge.core.seeds import stream
from expunge.engine.curvature import CHUNK
from expunge.engine.loop import SingleModel
from expunge.engine.run import Run, frozen, run_steps
from expunge.engine.training import from_scratch, unrolled

if TYPE_CHECKING:
    from torch import nn


LARGEST = 20_000_000  # examples read in all; about a day of one core on 32x32 images


@dataclass(frozen=True)
class TrainingHalf:
    """Half of the retain set with a random share of the forget set, as positions in each."""

    forget: Tensor
    retain: Tensor


def halves(problem: ProblemProtocol, count: int) -> list[TrainingHalf]:
    """Draw the training halves, the same ones for every seed.

    The share of the forget set runs evenly from none to all: in exact halves the sum of what all
    its examples add, which is what is wanted, would never vary and could not be estimated.
    """
    made = []
    for number in range(count):
        draw = stream("datamodel", number)
        gone, kept = (len(problem.data(name)) for name in ("forget", "retain"))
        share = round(gone * number / (count - 1))
        forget = torch.randperm(gone, generator=draw)[:share]
        made.append(TrainingHalf(forget, torch.randperm(kept, generator=draw)[: (kept + 1) // 2]))
    return made


def half_problem(problem: ProblemProtocol, half: TrainingHalf) -> ProblemProtocol:
    """The same problem with one half as its retain set, on which the recipe trains."""
    kept = [
        Subset(problem.data(name), rows)
        for name, rows in (("retain", half.retain), ("forget", half.forget))
    ]
    return problem.with_sets({**problem.sets, "retain": Joined(*kept)})


def cost(problem: ProblemProtocol, count: int) -> Counter[str]:
    """Count the examples read to train on `count` halves and to ask each model about the set."""
    read: Counter[str] = Counter()
    for half in halves(problem, count):
        inner = half_problem(problem, half)
        plan = unrolled(from_scratch(inner, "retain", "half").steps)
        total = sum(step.reads(inner)["retain"] for _, _, step in plan)
        read.update(divided(total, half))
    return read + Counter({"forget": count * len(problem.data("forget"))})


def divided(total: int, half: TrainingHalf) -> Counter[str]:
    """Examples read of a half, by the set that they come from."""
    both = len(half.forget) + len(half.retain)
    forget = total * len(half.forget) // both
    return Counter({"forget": forget, "retain": total - forget})


def refusal(problem: ProblemProtocol, count: int) -> str:
    """Why a problem can have no datamodels; empty when it can."""
    if holds_tokens(problem.data("forget")):
        return "Datamodels predict one answer an example; on tokens there are many."
    if problem.recipe is None or problem.architecture is None:
        return f"Datamodels train {count} models, so Problem needs an architecture and a recipe."
    reads = cost(problem, count).total()
    if reads <= LARGEST:
        return ""
    return (
        f"Datamodels of {count} models would read {reads:,} examples; {LARGEST:,} is the largest "
        "number allowed. Ask for fewer models, or take a smaller problem."
    )


def outcomes(run: RunProtocol, count: int) -> tuple[Tensor, Tensor]:
    """Train on every half and ask each model about the forget set.

    Returns:
        Which examples each model was trained on, bool [models, n]; its answers, float
        [models, n, k].
    """
    chosen, answered = [], []
    for number, half in enumerate(halves(run.problem, count)):
        inside = torch.zeros(len(run.data("forget")), dtype=torch.bool)
        inside[half.forget] = True
        chosen.append(inside)
        model = trained(run, half, number)
        answered.append(answers(run, model, "forget"))
    return torch.stack(chosen), torch.stack(answered)


@torch.enable_grad()
def trained(run: RunProtocol, half: TrainingHalf, number: int) -> nn.Module:
    """Train a model by the recipe on one half; its seed is the half's, so all runs can share it."""
    problem = half_problem(run.problem, half)
    device = next(run.original.parameters()).device
    model = problem.untrained("datamodel", number).to(device)
    inner = Run(model, frozen(model), problem, number, "datamodel")
    for _ in run_steps(from_scratch(problem, "retain", "half").steps, SingleModel(inner)):
        continue
    count(run.counts, inner.counts, half)
    return model.eval().requires_grad_(False)


def count(ours: ReceiptCounts, theirs: ReceiptCounts, half: TrainingHalf) -> None:
    """Add what was read of a half to a run's receipt counts, by the set that it comes from."""
    read = dict(theirs.examples)
    ours.add(dict(divided(read.pop("retain", 0), half)))
    ours.add(read)


@torch.no_grad()
def answers(run: RunProtocol, model: nn.Module, name: str) -> Tensor:
    """A model's answers on a whole set, [n, k], on the CPU."""
    data, device = run.data(name), next(model.parameters()).device
    run.counts.add({name: len(data)})
    parts = torch.arange(len(data)).split(CHUNK)
    return torch.cat([data.batch(rows).to(device).logits(model).cpu() for rows in parts])


def added_by_all(inside: Tensor, answered: Tensor, ridge: float) -> Tensor:
    """What all examples together add to each answer, by ridge regression, [n, k].

    Only the forget set's own columns are regressed on: their sum alone is wanted, and the halves of
    the retain set are noise that does not depend on them.

    Args:
        inside: which examples each model was trained on, bool [models, n].
        answered: [models, n, k].
        ridge: penalty, as a share of the mean diagonal of the models' Gram matrix.
    """
    who, said = inside.double(), answered.double()
    who, said = who - who.mean(0), said - said.mean(0)
    gram = who @ who.T
    penalty = ridge * float(gram.diagonal().mean()) + 1e-12
    # (X'X + p)^-1 X' = X' (XX' + p)^-1: as many unknowns as models, not as examples
    weights = torch.linalg.solve(gram + penalty * torch.eye(len(gram)).double(), who.sum(1))
    return torch.einsum("m,mnk->nk", weights, said).to(answered.dtype)
