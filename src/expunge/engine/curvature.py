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

from expunge.core.batch import Batch, Data, chunk_of, holds_tokens, scored_in
from expunge.core.term import Term
from expunge.core.view import View
from expunge.engine.loop import known_to
from expunge.errors import Unsupported

if TYPE_CHECKING:
    from expunge.core.run import ProblemProtocol, RunProtocol


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


def importance(run: RunProtocol, name: str) -> Weights:
    """Mean over one set of the squared gradient of each example's cross-entropy, on the original.

    One gradient an example, never of a minibatch: the result knows no batch size and no order.
    """
    return mean_over_examples(run, name, F.cross_entropy, torch.square)


@torch.enable_grad()
def mean_over_examples(
    run: RunProtocol,
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
    run.counts.add({name: len(data)})
    return {n: t / len(data) for n, t in total.items()}


def _mean_over_texts(
    run: RunProtocol,
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
    run.counts.add({name: len(data)})
    return {n: t / len(data) for n, t in total.items()}


def chunks(run: RunProtocol | ProblemProtocol, objective: Term) -> list[dict[str, Tensor]]:
    """Cut whole sets into minibatches: sets of more than `CHUNK` examples into equal ones.

    A smaller set is whole in each minibatch, so that its mean is exact and never of nothing.
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


def objective_at(
    run: RunProtocol, objective: Term, weights: Weights, where: dict[str, Tensor]
) -> Tensor:
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
def full_gradient(run: RunProtocol, objective: Term) -> Weights:
    """Gradient of an objective over whole sets at the current model, in evaluation mode."""
    plan = chunks(run, objective)
    leaves = {n: w.detach().clone().requires_grad_() for n, w in run.model.named_parameters()}
    for where in plan:
        loss = objective_at(run, objective, leaves, where) / len(plan)
        loss.backward()
        run.counts.add({name: len(rows) for name, rows in where.items()})
    return {n: torch.zeros_like(w) if w.grad is None else w.grad for n, w in leaves.items()}


def hessian_times(
    run: RunProtocol, objective: Term, damping: float
) -> Callable[[Weights], Weights]:
    """A function v -> (H + damping) v, H the Hessian of the objective over whole sets."""
    plan = chunks(run, objective)

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
            run.counts.add({name: len(rows) for name, rows in where.items()})
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


def sensitivity(run: RunProtocol, name: str) -> Weights:
    """Mean over one set of |gradient of ||f(x)||^2| of each example, on the original; no labels.

    Source: Foster et al., Loss-Free Machine Unlearning, arXiv 2402.19308; absolute
    value, as in pedroandreou/supreme-unlearning@91cd1d6, lfssd_det.py.
    """
    return mean_over_examples(run, name, _squared_length, torch.abs)


def _squared_length(logits: Tensor, target: Tensor) -> Tensor:
    return logits.square().sum()


def fisher_times(
    run: RunProtocol, name: str, rows: Tensor, damping: float
) -> Callable[[Weights], Weights]:
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
        run.counts.add({name: len(rows)})
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
