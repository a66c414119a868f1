"""What whole sets say of single weights and of directions: sensitivity, and Fisher products."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expunge.batch import Batch, holds_tokens
from expunge.curvature import CHUNK, Weights, mean_over_examples
from expunge.errors import Unsupported

if TYPE_CHECKING:
    from expunge.unlearn import Run


def sensitivity(run: Run, name: str) -> Weights:
    """Mean over one set of |gradient of ||f(x)||^2| of each example, on the original; no labels.

    Source: Foster et al., Loss-Free Machine Unlearning, arXiv 2402.19308; absolute
    value, as in pedroandreou/supreme-unlearning@91cd1d6, lfssd_det.py.
    """
    return mean_over_examples(run, name, _squared_length, torch.abs)


def _squared_length(logits: Tensor, target: Tensor) -> Tensor:
    return logits.square().sum()


def fisher_times(run: Run, name: str, rows: Tensor, damping: float) -> Callable[[Weights], Weights]:
    """A function v -> (F + damping) v at the current model, in evaluation mode.

    F is the mean of g g' over the examples `rows` of one set, g the gradient of one example's
    cross-entropy. It is never written down: g'v is a derivative along v, and the sum of (g'v) g a
    gradient.
    """
    model, data = copy.deepcopy(run.model).eval().requires_grad_(True), run.data(name)
    if holds_tokens(data):
        raise Unsupported("Fisher products need one answer an example; on tokens there are many.")
    device = next(model.parameters()).device

    def times(vector: Weights) -> Weights:
        result = {n: damping * v for n, v in vector.items()}
        for part in rows.split(CHUNK):
            for n, b in _bent(model, data.batch(part).to(device), vector).items():
                result[n] = result[n] + b / len(rows)
        run.ledger.saw({name: len(rows)})
        return result

    return times


@torch.enable_grad()
def _bent(model: nn.Module, batch: Batch, vector: Weights) -> Weights:
    """Sum over a minibatch of (g'v) g."""
    weights: Weights = dict(model.named_parameters())
    losses = F.cross_entropy(batch.logits(model), batch.targets, reduction="none")
    # sum u g is linear in u, so that its slope along v with respect to u is g'v, for any u
    any_u = torch.ones_like(losses, requires_grad=True)
    summed = _pulled(losses, weights, any_u, create_graph=True)
    along = torch.stack([(summed[n] * vector[n]).sum() for n in weights]).sum()
    (slopes,) = torch.autograd.grad(along, any_u, retain_graph=True)
    return _pulled(losses, weights, slopes)


def _pulled(losses: Tensor, weights: Weights, by: Tensor, create_graph: bool = False) -> Weights:
    """Sum of the examples' gradients, each times a number; 0 for a weight that is not used."""
    found = torch.autograd.grad(
        losses, list(weights.values()), by, create_graph=create_graph, materialize_grads=True
    )
    return dict(zip(weights, found, strict=True))
