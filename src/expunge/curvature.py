"""Gradients and curvature over whole sets, in evaluation mode, so that no statistics move."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from expunge.batch import Data, chunk_of, holds_tokens, scored_in
from expunge.descent import known_to
from expunge.terms import Term
from expunge.view import View

if TYPE_CHECKING:
    from expunge.problem import Problem
    from expunge.unlearn import Run

Weights = dict[str, Tensor]
CHUNK = 512


@torch.enable_grad()
def mean_gradient(model: nn.Module, data: Data, positions: Tensor) -> Weights:
    """Gradient of the mean cross-entropy over some examples, in evaluation mode."""
    twin = copy.deepcopy(model).eval().requires_grad_(True)
    device = next(twin.parameters()).device
    count = scored_in(data, positions)
    for part in positions.split(chunk_of(data, CHUNK)):
        batch = data.batch(part).to(device)
        logits, targets = batch.logits(twin).flatten(0, -2), batch.targets.flatten()
        loss = F.cross_entropy(logits, targets, reduction="sum") / count
        loss.backward()
    pairs = twin.named_parameters()
    return {n: torch.zeros_like(w) if w.grad is None else w.grad for n, w in pairs}


def importance(run: Run, name: str) -> Weights:
    """Mean over one set of the squared gradient of each example's cross-entropy, on the original.

    One gradient an example, never of a minibatch: the result knows no batch size and no order.
    """
    return mean_over_examples(run, name, F.cross_entropy, torch.square)


@torch.enable_grad()
def mean_over_examples(
    run: Run,
    name: str,
    of: Callable[[Tensor, Tensor], Tensor],
    size: Callable[[Tensor], Tensor],
) -> Weights:
    """Mean over one set of the size of each example's own gradient, on the original.

    Args:
        of: logits [1, k] and target [1] of one example -> the scalar whose gradient is taken.
        size: made of each gradient before the mean: its square, or its absolute value.
    """
    model, data = copy.deepcopy(run.original).eval(), run.data(name)
    if holds_tokens(data):
        return _mean_over_texts(run, model, name, of, size)
    weights = {n: w.detach() for n, w in model.named_parameters()}
    buffers = dict(model.named_buffers())
    device = next(model.parameters()).device

    def scalar(weights: Weights, inputs: Tensor, target: Tensor) -> Tensor:
        logits = functional_call(model, (weights, buffers), (inputs[None],))
        return of(logits, target[None])

    single = vmap(grad(scalar), in_dims=(None, 0, 0))
    total = {n: torch.zeros_like(w) for n, w in weights.items()}
    for part in torch.arange(len(data)).split(64):
        batch = data.batch(part).to(device)
        for n, g in single(weights, batch.inputs, batch.targets).items():
            total[n] += size(g).sum(0)
    run.ledger.saw({name: len(data)})
    return {n: t / len(data) for n, t in total.items()}


def _mean_over_texts(
    run: Run,
    model: nn.Module,
    name: str,
    of: Callable[[Tensor, Tensor], Tensor],
    size: Callable[[Tensor], Tensor],
) -> Weights:
    """The same for token sequences, one after another: of all answers of one sequence together."""
    data, device = run.data(name), next(model.parameters()).device
    weights = dict(model.requires_grad_(True).named_parameters())
    total = {n: torch.zeros_like(w) for n, w in weights.items()}
    for row in torch.arange(len(data)).split(1):
        batch = data.batch(row).to(device)
        scalar = of(batch.logits(model).flatten(0, -2), batch.targets.flatten())
        found = torch.autograd.grad(scalar, list(weights.values()), materialize_grads=True)
        for slope, sum_ in zip(found, total.values(), strict=True):
            sum_ += size(slope)
    run.ledger.saw({name: len(data)})
    return {n: t / len(data) for n, t in total.items()}


def pieces(run: Run | Problem, objective: Term) -> list[dict[str, Tensor]]:
    """Whole sets as minibatches: sets of more than `CHUNK` examples in equal pieces.

    A smaller set stands whole beside each piece, so that its mean is exact and never of nothing.
    """
    sizes = {name: len(run.data(name)) for name in objective.sets}
    count = -(-max(sizes.values()) // CHUNK)
    cut = {
        name: torch.arange(n).tensor_split(count)
        if n > max(CHUNK, count)
        else [torch.arange(n)] * count
        for name, n in sizes.items()
    }
    return [{name: cut[name][i] for name in cut} for i in range(count)]


def objective_at(run: Run, objective: Term, weights: Weights, where: dict[str, Tensor]) -> Tensor:
    """The objective of the current model with other weights, in evaluation mode."""
    buffers = dict(run.model.named_buffers())
    run.model.eval()

    def model(*inputs: Tensor, **named: Any) -> Any:
        return functional_call(run.model, (weights, buffers), inputs, named)

    device = next(run.model.parameters()).device
    batches = {name: run.data(name).batch(rows).to(device) for name, rows in where.items()}
    teachers = {name: run.teacher(name) for name in objective.teachers}
    known = known_to(objective, run)
    return objective(View(model, batches, teachers, weights, 0.0, run.seed, known))


@torch.enable_grad()
def full_gradient(run: Run, objective: Term) -> Weights:
    """Gradient of an objective over whole sets at the current model, in evaluation mode."""
    plan = pieces(run, objective)
    leaves = {n: w.detach().clone().requires_grad_() for n, w in run.model.named_parameters()}
    for where in plan:
        loss = objective_at(run, objective, leaves, where) / len(plan)
        loss.backward()
        run.ledger.saw({name: len(rows) for name, rows in where.items()})
    return {n: torch.zeros_like(w) if w.grad is None else w.grad for n, w in leaves.items()}


def hessian_times(run: Run, objective: Term, damping: float) -> Callable[[Weights], Weights]:
    """A function v -> (H + damping) v, H the Hessian of the objective over whole sets."""
    plan = pieces(run, objective)

    @torch.enable_grad()
    def times(vector: Weights) -> Weights:
        leaves = {n: w.detach().clone().requires_grad_() for n, w in run.model.named_parameters()}
        result = {n: damping * v for n, v in vector.items()}
        for where in plan:
            # of the kinds of attention in torch, this one alone has a second derivative
            with sdpa_kernel(SDPBackend.MATH):
                loss = objective_at(run, objective, leaves, where) / len(plan)
            slopes = torch.autograd.grad(
                loss, list(leaves.values()), create_graph=True, materialize_grads=True
            )
            pairs = zip(slopes, vector.values(), strict=True)
            along = torch.stack([(g * v).sum() for g, v in pairs]).sum()
            bent = torch.autograd.grad(along, list(leaves.values()), materialize_grads=True)
            for n, h in zip(result, bent, strict=True):
                result[n] = result[n] + h
            run.ledger.saw({name: len(rows) for name, rows in where.items()})
        return result

    return times


def conjugate_gradient(
    times: Callable[[Weights], Weights], target: Weights, iterations: int
) -> Weights:
    """Solve `times(x) = target`; stops early where the residual is gone or curvature negative.

    Source: Hestenes and Stiefel 1952; Nocedal and Wright, Numerical Optimization, algorithm 5.2.
    """
    solution = {n: torch.zeros_like(t) for n, t in target.items()}
    residual, direction = dict(target), dict(target)
    size = first = _dot(residual, residual)
    for _ in range(iterations):
        if size <= 1e-20 * first:
            break
        image = times(direction)
        bend = _dot(direction, image)
        if bend <= 0:
            break
        solution = _plus(solution, direction, size / bend)
        residual = _plus(residual, image, -size / bend)
        size, before = _dot(residual, residual), size
        direction = _plus(residual, direction, size / before)
    return solution


def _dot(a: Weights, b: Weights) -> float:
    return float(sum((a[n].double() * b[n].double()).sum() for n in a))


def _plus(a: Weights, b: Weights, factor: float) -> Weights:
    return {n: a[n] + factor * b[n] for n in a}
