"""Asks image classifiers, and brings their answers back from the store as arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from expunge.core.batch import all_targets
from expunge.core.evidence import Evidence
from expunge.core.problem import Problem
from expunge.core.store import Job, Store
from expunge.experiments.plan import Plan


def collect(model: nn.Module, problem: Problem, names: Sequence[str], chunk: int = 512) -> Tensor:
    """Return what one model answers on whole sets, one after the other: float32 [example, class].

    The model is put into evaluation mode; batches of any size give the same answers up to rounding.
    """
    model.eval()
    device = next(model.parameters()).device
    answers = []
    with torch.inference_mode():
        for name in names:
            data = problem.sets[name]
            for rows in torch.arange(len(data)).split(chunk):
                inputs = data.batch(rows).inputs.to(device)
                answers.append(model(inputs).float().cpu())
    return torch.cat(answers)


def layout(problem: Problem, names: Sequence[str]) -> tuple[np.ndarray, dict[str, slice]]:
    """Return targets and rows of the example axis that `collect` gives for the same names."""
    targets, rows, start = [], {}, 0
    for name in names:
        found = all_targets(problem.sets[name]).numpy()
        targets.append(found)
        rows[name] = slice(start, start + len(found))
        start += len(found)
    return np.concatenate(targets), rows


def evidence_of(models: Sequence[nn.Module], problem: Problem, names: Sequence[str]) -> Evidence:
    """Return what several models answer on whole sets."""
    targets, rows = layout(problem, names)
    answers = torch.stack([collect(model, problem, names) for model in models])
    return Evidence(answers.numpy(), targets, rows)


def gather(
    plan: Plan, store: Store, models: list[Job], read: dict[str, np.ndarray] | None = None
) -> Evidence:
    """Read the answers of many models; a model that serves many members is read once.

    Args:
        plan, store: where the answers are.
        models: whose answers.
        read: what was read before, by key; grows.
    """
    read = {} if read is None else read
    for model in models:
        if model.key not in read:
            found = store.tensors(plan.evidence(model), "evidence")["logits"]
            read[model.key] = found.numpy()
    targets, rows = layout(plan.problem, plan.measured)
    return Evidence(np.stack([read[model.key] for model in models]), targets, rows)
