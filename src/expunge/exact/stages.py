"""Training one stage of an ensemble: the first slices of one shard, from the checkpoint before."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from expunge.batch import Data
from expunge.descent import Solo
from expunge.errors import BadSentence, OffLimits, Unsupported
from expunge.method import Method
from expunge.problem import Problem
from expunge.steps import Repeat, Step, Train, unrolled
from expunge.unlearn import Run, frozen, perform, refuse_broken


@dataclass(frozen=True, eq=False)
class Stage:
    """What a run may see of a problem while one stage trains: some rows, called "train".

    Args:
        name: what errors call it.
        rows: the rows of the stage.
    """

    name: str
    rows: Data

    def data(self, name: str) -> Data:
        """The rows of the stage; no other set may be seen.

        Raises:
            OffLimits: another set was asked for.
        """
        if name != "train":
            raise OffLimits(f"{self.name} sees its own rows of 'train' alone, not {name!r}.")
        return self.rows


def shortened(problem: Problem, share: float) -> tuple[Step, ...]:
    """The steps of a problem's recipe, every `Train` for a share of its epochs.

    Raises:
        Unsupported: the problem has no recipe.
        BadSentence: the recipe does more than train, has a teacher, or names a set besides "train".
    """
    if problem.recipe is None:
        raise Unsupported(
            f"{problem.name} has no recipe, so no shard can be trained. "
            "Give Problem a recipe: the Method that trains a model on 'train'."
        )
    _check(problem.recipe)
    return tuple(_shorter(step, share) for step in problem.recipe.steps)


def passes(steps: tuple[Step, ...]) -> float:
    """Epochs that the steps take in all."""
    return sum(step.epochs for _, _, step in unrolled(steps) if isinstance(step, Train))


def train_stage(model: nn.Module, steps: tuple[Step, ...], stage: Stage, seed: int) -> int:
    """Train a model in place on the rows of a stage; return the examples that were read.

    Raises:
        Diverged: a loss or a weight became infinite or not a number.
    """
    model.requires_grad_(True)
    # A run of Train steps without teachers asks its problem for data alone.
    run = Run(model, frozen(model), cast(Problem, stage), seed, f"sisa, {stage.name}")
    for _ in perform(steps, Solo(run)):
        continue
    refuse_broken(model, f"After {stage.name}: the model")
    return run.ledger.examples.get("train", 0)


def content(data: Data, rows: Tensor, chunk: int = 512) -> str:
    """A hash of some examples: their rows, inputs and targets."""
    total = hashlib.blake2b(digest_size=16)
    for part in rows.split(chunk):
        batch = data.batch(part)
        for piece in (part, batch.inputs, batch.targets):
            total.update(repr((piece.dtype, tuple(piece.shape))).encode())
            # as plain bytes: NumPy has no bfloat16
            flat = piece.detach().cpu().contiguous().flatten()
            total.update(flat.view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def _check(recipe: Method) -> None:
    steps = [step for _, _, step in unrolled(recipe.steps)]
    plain = all(isinstance(step, Train) and not step.objective.teachers for step in steps)
    if not steps or not plain or set(recipe.sets) != {"train"}:
        raise BadSentence(
            f"recipe = {recipe.sentence!r}: each stage of an ensemble repeats the recipe in short, "
            "so it must consist of Train steps on the set 'train' alone, without a teacher."
        )


def _shorter(step: Step, share: float) -> Step:
    if isinstance(step, Repeat):
        return Repeat(tuple(_shorter(inner, share) for inner in step.steps), step.times)
    assert isinstance(step, Train)
    return replace(step, epochs=step.epochs * share)
