"""Dampen and Newton: importance against a loop over examples, steps against closed forms."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tiny
from expunge.core.batch import Subset, Tensors
from expunge.core.method import Step
from expunge.core.problem import Problem
from expunge.core.seeds import stream
from expunge.engine.curvature import CHUNK, conjugate_gradient, full_gradient, importance
from expunge.engine.loop import SingleModel
from expunge.engine.run import Run, run_steps
from expunge.engine.training import Train
from expunge.methods.losses.answers import CE, MSE
from expunge.methods.steps import dampening
from expunge.methods.steps.dampening import Dampen
from expunge.methods.steps.edits import Noise
from expunge.methods.steps.influence import Newton


def carry_out(run: Run, *steps: Step) -> Run:
    list(run_steps(steps, SingleModel(run)))
    return run


def importance_by_loop(model: nn.Module, rows: list[int]) -> dict[str, Tensor]:
    """One backward pass an example."""
    data, names = tiny.pictures(), [n for n, _ in model.named_parameters()]
    total = {n: torch.zeros_like(w) for n, w in model.named_parameters()}
    model = copy.deepcopy(model).eval().requires_grad_(True)
    for row in rows:
        loss = F.cross_entropy(model(data.inputs[row : row + 1]), data.targets[row : row + 1])
        for name, slope in zip(
            names, torch.autograd.grad(loss, list(model.parameters())), strict=True
        ):
            total[name] += slope.square() / len(rows)
    return total


def test_dampen_is_the_loop_over_single_examples() -> None:
    run = carry_out(tiny.run(), Dampen(alpha=1.5, strength=0.8))
    ours = importance_by_loop(run.original, list(range(12)))
    theirs = importance_by_loop(run.original, list(range(60)))
    shrunk = 0
    for name, weight in run.original.named_parameters():
        chosen = ours[name] > 1.5 * theirs[name]
        factor = (0.8 * theirs[name] / ours[name]).clamp(max=1.0)
        wanted = torch.where(chosen, weight * factor, weight)
        torch.testing.assert_close(dict(run.model.named_parameters())[name].detach(), wanted)
        shrunk += int(chosen.sum())
    assert 20 < shrunk < 600
    assert run.counts.examples == {"forget": 12, "train": 60}


def test_dampen_by_hand() -> None:
    # importance of two weights: 4 and 1 on forget, 1 and 1 on train; alpha 2 chooses the first
    run = tiny.run(nn.Linear(2, 1, bias=False))
    ratio = {"forget": torch.tensor([[4.0, 1.0]]), "train": torch.tensor([[1.0, 1.0]])}
    chosen = ratio["forget"] > 2 * ratio["train"]
    assert chosen.tolist() == [[True, False]]
    with torch.no_grad():
        run.model.weight.fill_(8.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dampening, "importance", lambda run, name: {"weight": ratio[name]})
        Dampen(alpha=2.0, strength=2.0)(run)
    assert run.model.weight.tolist() == [[4.0, 8.0]]


def test_importance_knows_no_batch_size_and_no_order() -> None:
    data = tiny.pictures()
    order = torch.randperm(60, generator=stream("test"))
    turned = Tensors(data.inputs[order], data.targets[order])
    rest = {
        name: Subset(data, rows)
        for name, rows in zip(("forget", "retain"), order.split(30), strict=True)
    }
    sets = {**rest, "train": turned}
    one = importance(tiny.run(), "train")
    two = importance(tiny.run(task=Problem("x", sets)), "train")
    doubled = Tensors(torch.cat([data.inputs] * 2), torch.cat([data.targets] * 2))
    three = importance(tiny.run(task=Problem("x", {**sets, "train": doubled})), "train")
    for name in one:
        torch.testing.assert_close(one[name], two[name])
        torch.testing.assert_close(one[name], three[name])


def test_importance_is_judged_on_the_original() -> None:
    run = carry_out(tiny.run(), Noise(1.0))
    now, fresh = importance(run, "forget"), importance(tiny.run(), "forget")
    assert all(torch.equal(now[name], fresh[name]) for name in fresh)


def linear_task(n: int = 60, forget: int = 12) -> tuple[nn.Module, Problem]:
    """A linear model without bias in double precision, so that squares have a closed form."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Linear(5, 3, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.randn(3, 5, generator=generator, dtype=torch.float64))
    inputs = torch.randn(n, 5, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, 3, (n,), generator=generator)
    return model, Problem.split((inputs, targets), torch.arange(forget))


class OneHot(MSE):
    """Squared distance of the logits from the true class."""

    def __call__(self, view: Any) -> Tensor:
        right = F.one_hot(view.batch(self.set).targets, 3).double()
        return (view.logits(self.set) - right).square().mean()


@pytest.mark.parametrize("n", [60, CHUNK * 2 + 6])
def test_one_newton_step_solves_least_squares(n: int) -> None:
    model, task = linear_task(n, forget=12)
    retain = task.sets["retain"].batch(torch.arange(n - 12))
    right = F.one_hot(retain.targets, 3).double()
    solution = torch.linalg.lstsq(retain.inputs, right).solution.T
    if n > CHUNK:
        # pieces of 338 examples each: the mean over pieces is the mean over all
        assert (n - 12) % math.ceil((n - 12) / CHUNK) == 0
    run = carry_out(tiny.run(model, task), Newton(OneHot("retain"), damping=0.0))
    torch.testing.assert_close(run.model.weight.detach(), solution, atol=1e-6, rtol=1e-6)
    half = carry_out(tiny.run(model, task), Newton(OneHot("retain"), damping=0.0, scale=0.5))
    middle = (solution + model.weight.detach()) / 2
    torch.testing.assert_close(half.model.weight.detach(), middle, atol=1e-6, rtol=1e-6)


def test_damping_is_a_ridge_around_where_one_stands() -> None:
    model, task = linear_task()
    retain = task.sets["retain"].batch(torch.arange(48))
    right = F.one_hot(retain.targets, 3).double()
    # the mean over 48 * 3 squares: H = 2 X'X / 144 for each row of the weights
    hessian = 2 * retain.inputs.T @ retain.inputs / 144
    slope = 2 * (model(retain.inputs) - right).T @ retain.inputs / 144
    change = torch.linalg.solve(hessian + 0.3 * torch.eye(5).double(), slope.T).T
    run = carry_out(tiny.run(model, task), Newton(OneHot("retain"), damping=0.3))
    torch.testing.assert_close(run.model.weight, model.weight - change, atol=1e-7, rtol=1e-6)


def test_a_small_set_weighs_as_much_beside_a_large_one() -> None:
    # one example to forget beside more than a piece to retain
    n = 2 * CHUNK + 3
    model, task = linear_task(n, forget=1)
    told = full_gradient(tiny.run(model, task), OneHot("retain") - 0.5 * OneHot("forget"))["weight"]
    by_hand = torch.zeros(3, 5, dtype=torch.float64)
    for name, share in (("retain", 1.0), ("forget", -0.5)):
        batch = task.sets[name].batch(torch.arange(len(task.sets[name])))
        gap = model(batch.inputs).detach() - F.one_hot(batch.targets, 3).double()
        by_hand += share * 2 * gap.T @ batch.inputs / gap.numel()
    torch.testing.assert_close(told, by_hand, atol=1e-8, rtol=1e-6)


def test_newton_leaves_unused_weights_where_they_are() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.spare = nn.Linear(64, 10), nn.Linear(2, 2)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.last(inputs.flatten(1))

    run = carry_out(tiny.run(tiny.made(Unused)), Newton(CE("retain"), damping=1.0, iterations=2))
    assert torch.equal(run.model.spare.weight, run.original.spare.weight)
    assert not torch.equal(run.model.last.weight, run.original.last.weight)


def test_newton_moves_no_statistics_and_lowers_the_loss() -> None:
    run = tiny.run()
    before = float(
        F.cross_entropy(run.original(tiny.pictures().inputs[12:]), tiny.pictures().targets[12:])
    )
    carry_out(run, Newton(CE("retain"), damping=1.0, iterations=10))
    assert torch.equal(run.model[1].running_mean, run.original[1].running_mean)
    after = float(
        F.cross_entropy(
            run.model.eval()(tiny.pictures().inputs[12:]).detach(), tiny.pictures().targets[12:]
        )
    )
    assert after < before


def test_newton_after_training_works_in_evaluation_mode() -> None:
    train = Train(CE("retain"), batch=24)
    run, trained = tiny.run(), carry_out(tiny.run(), train)
    carry_out(run, train, Newton(CE("retain"), damping=1.0, iterations=2))
    for name, buffer in run.model.named_buffers():
        assert torch.equal(buffer, dict(trained.model.named_buffers())[name])


def test_conjugate_gradients_solve_and_stop_at_negative_curvature() -> None:
    matrix = torch.tensor([[4.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
    target = {"w": torch.tensor([1.0, 2.0], dtype=torch.float64)}
    found = conjugate_gradient(lambda v: {"w": matrix @ v["w"]}, target, 5)["w"]
    torch.testing.assert_close(found, torch.tensor([1 / 11, 7 / 11], dtype=torch.float64))
    down = conjugate_gradient(lambda v: {"w": -v["w"]}, target, 5)["w"]
    assert torch.equal(down, torch.zeros(2, dtype=torch.float64))
    first = conjugate_gradient(lambda v: {"w": matrix @ v["w"]}, target, 1)["w"]
    assert torch.allclose(first, target["w"] * 5 / 20)  # |b|^2 / b'Ab = 5 / 20
