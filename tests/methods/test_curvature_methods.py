"""Dampening, influence and Fisher noise: hand-worked numbers, dense twins, and warnings."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tiny
from expunge.core.batch import Tensors
from expunge.core.method import Step
from expunge.core.problem import Problem
from expunge.core.seeds import stream
from expunge.engine.curvature import Weights, fisher_times, full_gradient, sensitivity
from expunge.engine.loop import SingleModel
from expunge.engine.run import Run, run_steps
from expunge.errors import BadSentence, Unsupported
from expunge.methods.losses.answers import CE
from expunge.methods.published import PUBLISHED
from expunge.methods.published.weights import CURVATURE
from expunge.methods.selectors.judged import FisherRatio
from expunge.methods.selectors.places import Last
from expunge.methods.steps import dampening
from expunge.methods.steps.dampening import AdaptiveDampen, Dampen, FisherNoise
from expunge.methods.steps.influence import WoodFisher
from expunge.unlearn import unlearn


def carry_out(run: Run, *steps: Step) -> Run:
    list(run_steps(steps, SingleModel(run)))
    return run


def flat(weights: Any) -> Tensor:
    return torch.cat([w.detach().flatten() for w in weights])


def single_gradients(model: nn.Module, data: Tensors, rows: range) -> Tensor:
    """The gradient of each example's cross-entropy, [n, weights], one backward pass each."""
    model = copy.deepcopy(model).eval().requires_grad_(True)
    found = []
    for row in rows:
        loss = F.cross_entropy(model(data.inputs[row : row + 1]), data.targets[row : row + 1])
        found.append(flat(torch.autograd.grad(loss, list(model.parameters()))))
    return torch.stack(found)


def small(n: int = 40, forget: int = 10) -> tuple[nn.Module, Problem]:
    """A linear model on five numbers in double precision: 18 weights."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Linear(5, 3).double()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator))
    inputs = torch.randn(n, 5, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, 3, (n,), generator=generator)
    return model, Problem.split((inputs, targets), torch.arange(forget))


def shuffled(task: Problem) -> Problem:
    """The same sets, each in another order."""
    turned = {}
    for name, data in task.sets.items():
        batch = data.batch(torch.randperm(len(data), generator=stream("test", name)))
        turned[name] = Tensors(batch.inputs, batch.targets)
    return Problem("turned", turned)


def by_rank_one_updates(v: Tensor, gradients: Tensor, damping: float) -> Tensor:
    """(damping + 1/N sum g g')^-1 v by Woodbury, one example after the other, as written down."""
    inverse, n = torch.eye(len(v), dtype=v.dtype) / damping, len(gradients)
    for g in gradients:
        side = inverse @ g
        inverse = inverse - torch.outer(side, side) / (n + g @ side)
    return inverse @ v


@pytest.mark.parametrize("damping", [1.0, 0.05])
def test_woodfisher_is_the_woodbury_recursion_and_the_dense_inverse(damping: float) -> None:
    model, task = small()
    run = tiny.run(model, task)
    gradients = single_gradients(model, task.sets["train"], range(40))
    ours, theirs = gradients[:10].mean(0), gradients[10:].mean(0)
    away = 10 / 40 * (ours - theirs)
    fisher = gradients[10:].T @ gradients[10:] / 30
    dense = torch.linalg.solve(fisher + damping * torch.eye(18).double(), away)
    torch.testing.assert_close(by_rank_one_updates(away, gradients[10:], damping), dense)
    carry_out(run, WoodFisher(alpha=0.7, damping=damping))
    moved = flat(run.model.parameters()) - flat(run.original.parameters())
    torch.testing.assert_close(moved, 0.7 * dense, atol=1e-8, rtol=1e-6)
    assert torch.linalg.vector_norm(dense - away) > 0.01 * torch.linalg.vector_norm(away)


def test_woodfisher_is_not_the_recursion_that_stays_parallel_to_one_gradient() -> None:
    # in the authors' code the vector o is only ever scaled, so their step is v - c g for one g
    model, task = small()
    gradients = single_gradients(model, task.sets["train"], range(40))
    run = carry_out(tiny.run(model, task), WoodFisher(alpha=1.0))
    moved = flat(run.model.parameters()) - flat(run.original.parameters())
    bent = moved - 10 / 40 * (gradients[:10].mean(0) - gradients[10:].mean(0))
    assert torch.cosine_similarity(gradients[10:], bent[None]).abs().max() < 0.95


def test_woodfisher_takes_as_many_examples_as_it_is_told() -> None:
    model, task = small()
    run = carry_out(tiny.run(model, task), WoodFisher(examples=7, iterations=2))
    assert run.counts.examples == {"forget": 10, "retain": 30 + 2 * 7}
    assert WoodFisher(examples=7, iterations=2).reads(task) == run.counts.examples
    other = carry_out(tiny.run(model, task, seed=1), WoodFisher(examples=7))
    assert not tiny.same(run.model, other.model)  # each member draws its own


def test_fisher_products_are_those_of_the_matrix() -> None:
    run = tiny.run()
    gradients = single_gradients(run.model, tiny.pictures(), range(12, 60))
    vector: Weights = {n: torch.randn(w.shape) for n, w in run.model.named_parameters()}
    told = fisher_times(run, "retain", torch.arange(48), 0.3)(vector)
    v = flat(vector.values())
    wanted = gradients.T @ (gradients @ v) / 48 + 0.3 * v
    torch.testing.assert_close(flat(told.values()), wanted, atol=1e-5, rtol=1e-4)
    assert not any(w.grad is not None for w in run.model.parameters())


def test_the_output_importance_reads_no_labels_and_no_order() -> None:
    data = tiny.pictures()
    wrong = Tensors(data.inputs, (data.targets + 1) % 10)
    one = sensitivity(tiny.run(), "train")
    two = sensitivity(tiny.run(task=Problem.split(wrong, torch.arange(12))), "train")
    three = sensitivity(tiny.run(task=shuffled(tiny.problem())), "train")
    model = tiny.made().requires_grad_(True)
    total = 0.0
    for row in range(60):
        answer = model(data.inputs[row : row + 1]).square().sum()
        total += flat(torch.autograd.grad(answer, list(model.parameters()))).abs() / 60
    torch.testing.assert_close(flat(one.values()), total, atol=1e-5, rtol=1e-4)
    assert all(torch.equal(one[name], two[name]) for name in one)
    for name in one:
        torch.testing.assert_close(one[name], three[name], atol=1e-6, rtol=1e-4)
    assert Dampen(importance="output").reads_labels == ()
    assert Dampen().reads_labels == ("forget", "train")


STEPS = [
    Dampen(alpha=0.7),
    Dampen(alpha=0.7, importance="output"),
    AdaptiveDampen(),
    WoodFisher(alpha=0.5),
    FisherNoise(alpha=1e-6),
]


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_the_order_of_the_data_changes_nothing(step: Step) -> None:
    # fault of the dampening code and its descendants: importances of whole minibatches
    one = carry_out(tiny.run(), step)
    two = carry_out(tiny.run(task=shuffled(tiny.problem())), step)
    for a, b, before in zip(
        one.model.parameters(), two.model.parameters(), one.original.parameters(), strict=True
    ):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
        assert a.shape == before.shape
    assert not tiny.same(one.model, one.original)


def test_a_fisher_ratio_knows_no_order_and_moves_no_statistics() -> None:
    run, other = tiny.run(), tiny.run(task=shuffled(tiny.problem()))
    before = tiny.state(run.original)
    one, two = run.mask(FisherRatio()), other.mask(FisherRatio())
    disagree = sum(int((one[n] != two[n]).sum()) for n in one)
    assert disagree <= 2  # of 694, by rounding
    assert all(torch.equal(before[n], t) for n, t in run.original.state_dict().items())
    assert run.counts.examples == {"forget": 12, "retain": 48}


def test_a_fisher_ratio_is_that_of_mean_squares() -> None:
    run = tiny.run()
    squares = single_gradients(run.original, tiny.pictures(), range(60)).square()
    ours, theirs = squares[:12].mean(0) + 1e-15, squares[12:].mean(0) + 1e-15
    for ratio in (0.5, 2.0):
        told = torch.cat([m.flatten() for m in run.mask(FisherRatio(ratio=ratio)).values()])
        assert ((told != (ours >= ratio * theirs)).sum()) <= 1
        assert 20 < int(told.sum()) < 600


def test_dampening_by_output_shrinks_where_the_output_says_so() -> None:
    run = carry_out(tiny.run(), Dampen(alpha=1.1, strength=0.5, importance="output"))
    ours, theirs = sensitivity(run, "forget"), sensitivity(run, "train")
    shrunk = 0
    for name, weight in run.original.named_parameters():
        chosen = ours[name] > 1.1 * theirs[name]
        factor = (0.5 * theirs[name] / ours[name]).clamp(max=1)
        wanted = torch.where(chosen, weight * factor, weight)
        torch.testing.assert_close(dict(run.model.named_parameters())[name].detach(), wanted)
        shrunk += int(chosen.sum())
    assert 10 < shrunk < 690


def test_the_adaptive_threshold_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    # 200 weights with ratios 1 to 200; half of the data is forgotten: ln 51 = 3.93 % of 200 are 8
    n = 200
    ratio = {"forget": torch.arange(1.0, n + 1)[:, None].T, "train": torch.ones(1, n)}
    monkeypatch.setattr(dampening, "importance", lambda run, name: {"weight": ratio[name]})
    run = tiny.run(nn.Linear(n, 1, bias=False), tiny.problem(30))
    with torch.no_grad():
        run.model.weight.fill_(1.0)
    carry_out(run, AdaptiveDampen())
    changed = (run.model.weight[0] != 1).nonzero().flatten().tolist()
    assert len(changed) == math.floor(200 * math.log(51) / 100 + 0.5)
    assert changed == list(range(192, 200))
    assert run.model.weight[0, -1].item() == pytest.approx(1 / 200)


def test_the_adaptive_threshold_needs_a_weight_that_matters() -> None:
    dead = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    nothing = Tensors(torch.zeros(20, 1, 8, 8), torch.zeros(20).long())
    with torch.no_grad():
        dead[1].weight.zero_()
        dead[1].bias.copy_(torch.tensor([1e9] + [0.0] * 9))
    task = Problem.split(nothing, torch.arange(5))
    with pytest.raises(Unsupported, match="No weight matters"):
        carry_out(tiny.run(dead, task), AdaptiveDampen())


def test_fisher_noise_has_its_variance(monkeypatch: pytest.MonkeyPatch) -> None:
    n = 4000
    information = torch.full((3, n), 4.0)
    information[1], information[2] = 0.25, 0.0  # the last is held by the limit of 100
    monkeypatch.setattr(dampening, "importance", lambda run, name: {"weight": information})
    run = tiny.run(nn.Linear(n, 3, bias=False))
    carry_out(run, FisherNoise(alpha=0.01, largest=100.0))
    moved = run.model.weight.detach() - run.original.weight
    for row, std in enumerate((math.sqrt(0.01 / 4), math.sqrt(0.01 / 0.25), math.sqrt(0.01 * 100))):
        assert float(moved[row].std()) == pytest.approx(std, rel=0.05)
        assert abs(float(moved[row].mean())) < 4 * std / math.sqrt(n)


def test_fisher_noise_keeps_to_its_part() -> None:
    run = carry_out(tiny.run(), FisherNoise(alpha=0.01, where=Last()))
    before = run.original.state_dict()
    moved = {n for n, t in run.model.state_dict().items() if not torch.equal(t, before[n])}
    assert moved == {"4.weight", "4.bias"}


def spread(*counts: int) -> Tensor:
    return torch.cat([torch.full((n,), c) for c, n in enumerate(counts)])


@pytest.mark.parametrize(
    ("gone", "there", "alike"),
    [
        (spread(10, 10), spread(100, 100), True),
        (spread(20, 0), spread(100, 100), False),
        # chi-square of (15, 5) against (10, 10) is 5, p = 0.025; of (16, 4) 7.2, p = 0.0073
        (spread(15, 5), spread(100, 100), True),
        (spread(16, 4), spread(100, 100), False),
        (spread(30, 10), spread(300, 100), True),
        (spread(5), spread(50), False),  # one class: nothing can be said
        (spread(0, 5, 5), spread(0, 50, 50), True),  # a class that does not occur
        (spread(0, 0, 0, 5), spread(50, 50), False),  # a class that the other does not have
    ],
)
def test_spread_alike_is_a_chi_square_test(gone: Tensor, there: Tensor, alike: bool) -> None:
    assert dampening.spread_alike(gone, there) is alike


@pytest.mark.parametrize("step", [Dampen(), AdaptiveDampen()], ids=str)
def test_random_forget_sets_are_doubted_and_whole_classes_are_not(step: Any) -> None:
    rows = torch.arange(300)
    task = Problem.split((torch.zeros(300, 2), rows % 3), rows[:30])
    assert "random draw" in step.doubt(task)
    assert step.doubt(Problem.split((torch.zeros(300, 2), rows % 3), rows[::3])) == ""


def test_dampening_that_can_choose_nothing_is_refused() -> None:
    # the forget set is a fifth, so that no weight matters more than five times as much to it
    assert "5 times" in Dampen(alpha=5.0).unfit(tiny.problem())
    assert Dampen(alpha=4.9).unfit(tiny.problem()) == ""
    assert Dampen(alpha=50.0, against="retain").unfit(tiny.problem()) == ""
    with pytest.raises(Unsupported, match=r"alpha=10.*smaller alpha"):
        unlearn(tiny.made(), "ssd", tiny.problem())


def test_no_ratio_passes_the_bound_that_the_refusal_rests_on() -> None:
    run = tiny.run()
    ours, theirs = run.importance("forget"), run.importance("train")
    assert all((ours[n] <= 5 * theirs[n] * (1 + 1e-4) + 1e-20).all() for n in ours)


WRONG: list[Any] = [
    lambda: Dampen(importance="losses"),
    lambda: AdaptiveDampen(importance=""),
    lambda: FisherNoise(alpha=-1.0),
    lambda: FisherNoise(largest=0.0),
    lambda: WoodFisher(examples=0),
    lambda: WoodFisher(damping=0.0),
    lambda: FisherRatio(ratio=0.0),
]


@pytest.mark.parametrize("make", WRONG)
def test_words_refuse_arguments_that_make_no_sense(make: Any) -> None:
    with pytest.raises(BadSentence):
        make()


def test_the_recipes_are_the_authors() -> None:
    assert {m.name: m.sentence for m in CURVATURE} == {
        "ssd": "Dampen()",
        "lf_ssd": "Dampen(importance='output')",
        "assd": "AdaptiveDampen()",
        "influence": "WoodFisher()",
        "fisher_forgetting": "FisherNoise()",
    }
    assert (Dampen().alpha, Dampen().strength, WoodFisher().examples) == (10.0, 1.0, 1000)
    assert all(PUBLISHED[m.name] is m and "arXiv" in m.source for m in CURVATURE)


def test_the_gradient_away_is_weighed_by_the_share_of_the_forget_set() -> None:
    model, task = small()
    run = tiny.run(model, task)
    ours = full_gradient(run, CE("forget"))["weight"]
    theirs = full_gradient(run, CE("retain"))["weight"]
    # with a damping that drowns F, the step is the gradient over the damping
    carry_out(run, WoodFisher(alpha=1e6, damping=1e6))
    moved = run.model.weight.detach() - run.original.weight
    torch.testing.assert_close(moved, 0.25 * (ours - theirs), atol=1e-5, rtol=1e-4)
