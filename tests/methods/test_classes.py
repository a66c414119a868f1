"""Methods that think in classes: boundaries, centroids, and classes forgotten whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tiny
from expunge.core.batch import Images
from expunge.core.schedules import SGD
from expunge.core.view import View, last_linear
from expunge.engine.loop import SingleModel, known_to
from expunge.engine.run import Run, run_steps
from expunge.engine.training import Repeat, Train
from expunge.errors import BadSentence, Unsupported
from expunge.methods.cost import forecast
from expunge.methods.losses.answers import CE
from expunge.methods.losses.classes import Centroid, Nearest, OneClass
from expunge.methods.published import PUBLISHED
from expunge.methods.selectors.places import Last
from expunge.methods.sentences import as_method
from expunge.methods.steps.classes import Expand, Impair
from expunge.unlearn import unlearn


def view_of(run: Run, objective: Any) -> View:
    """What an objective sees of whole sets."""
    batches = {n: run.data(n).batch(torch.arange(len(run.data(n)))) for n in objective.sets}
    teachers = {name: run.teacher(name) for name in objective.teachers}
    return View(run.model, batches, teachers, {}, 0.0, 0, known_to(objective, run))


# Features.


def test_features_are_what_the_last_linear_layer_reads() -> None:
    run = tiny.run()
    run.model.eval()
    with torch.no_grad():
        run.model[4].weight.mul_(1.5)
        run.model[0].weight.add_(0.1)
    passes: list[str] = []
    run.model.register_forward_hook(lambda *seen: passes.append("model"))
    run.original.register_forward_hook(lambda *seen: passes.append("original"))
    objective = Centroid("forget") + CE("forget")
    view = view_of(run, objective)
    passes.clear()  # the centroids took passes of their own
    objective(view)
    assert sorted(passes) == ["model", "original"]
    inputs = view.batch("forget").inputs
    assert torch.equal(view.features("forget"), run.model[:4](inputs))
    assert torch.equal(view.features("forget", "original"), run.original[:4](inputs))
    assert not run.model[4]._forward_pre_hooks
    assert view.features("forget").requires_grad


def test_without_a_linear_layer_there_are_no_features() -> None:
    convolution = nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten())
    with pytest.raises(Unsupported, match="no linear layer"):
        unlearn(convolution, Train(Centroid("forget")), tiny.problem())
    assert last_linear(tiny.net()).out_features == 10


# Centroids.


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return 1 - float(a @ b) / float(np.sqrt(a @ a) * np.sqrt(b @ b))


def centroid_by_loops(run: Run) -> float:
    """Each class's middle by loops, and the nearest that is not the example's own."""
    rows = {n: run.data(n).batch(torch.arange(len(run.data(n)))) for n in ("forget", "retain")}
    run.model.eval()
    with torch.no_grad():
        kept = run.original[:4](rows["retain"].inputs).double().numpy()
        before = run.original[:4](rows["forget"].inputs).double().numpy()
        now = run.model[:4](rows["forget"].inputs).double().numpy()
    targets = rows["retain"].targets.numpy()
    middle = {k: kept[targets == k].mean(0) for k in set(targets.tolist())}
    total = 0.0
    for then, here, true in zip(before, now, rows["forget"].targets.tolist(), strict=True):
        wrong = {k: cosine(then, m) for k, m in middle.items() if k != true}
        total += cosine(here, middle[min(wrong, key=lambda k: wrong[k])])
    return total / len(before)


@pytest.mark.parametrize("task", [tiny.problem(), tiny.classwise()], ids=["random", "classes"])
def test_centroid_by_loops(task: Any) -> None:
    run = tiny.run(task=task)
    with torch.no_grad():
        run.model[0].weight.add_(0.3 * torch.randn(4, 1, 3, 3, generator=torch.manual_seed(0)))
    term = Centroid("forget")
    run.model.eval()
    assert float(term(view_of(run, term)).detach()) == pytest.approx(centroid_by_loops(run), 1e-4)


def test_centroids_are_worked_out_once_and_read_the_retain_set() -> None:
    run = tiny.run()
    term = Centroid("forget")
    first = run.facts(term)
    assert run.facts(term) is first
    assert run.counts.examples == {"retain": 48}
    assert first["centroids"].shape == (10, 64)


def test_classes_that_are_gone_have_no_centroid() -> None:
    found = tiny.run(task=tiny.classwise()).facts(Centroid("forget"))
    assert found["there"].nonzero().flatten().tolist() == [0, 1, 2, 4, 6, 7, 8, 9]


def test_a_centroid_needs_another_class_to_go_to() -> None:
    both = tiny.pictures()
    nines = (both.targets == 9).nonzero().flatten()
    task = tiny.Problem.of(forget=(both.inputs[nines], both.targets[nines]), retain=_only(9))
    assert "no example of another class" in Centroid("forget").unfit(task)
    assert Centroid("forget").unfit(tiny.problem()) == ""


def _only(label: int) -> tuple[Tensor, Tensor]:
    rows = (tiny.unseen().targets == label).nonzero().flatten()
    return tiny.unseen().inputs[rows], tiny.unseen().targets[rows]


# Boundaries.


def test_nearest_steps_across_the_boundary() -> None:
    # logits (x, 1 - x, 2 y): the loss of class 0 rises towards lower x and higher y
    weight = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    offset = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    inputs = torch.tensor([[0.6, 0.2], [0.6, 0.1], [2.0, 0.0]], dtype=torch.float64)
    logits = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    batch = Images(inputs, torch.tensor([0, 0, 0]), torch.arange(3))

    def teacher(x: Tensor) -> Tensor:
        return x @ weight.T + offset

    view = View(lambda x: logits, {"s": batch}, {"original": teacher}, {}, 0.0, 0)
    Nearest("s", bound=0.1)(view).backward()
    taught = (1 / 3 - 3 * logits.grad).argmax(1)
    # at (0.5, 0.3) 0.6 of class 2 beats 0.5; at (0.5, 0.2) 0.4 does not; (1.9, 0.1) is far away
    assert taught.tolist() == [2, 1, 2]


def test_nearest_never_names_the_true_class() -> None:
    run = tiny.run()
    term = Nearest("forget", bound=0.0)  # no move: the model is right about some of them
    run.model.eval()
    logits = run.model(run.data("forget").batch(torch.arange(12)).inputs)
    targets = run.data("forget").batch(torch.arange(12)).targets
    best_wrong = logits.scatter(1, targets[:, None], -torch.inf).argmax(1)
    wanted = F.cross_entropy(logits, best_wrong)
    torch.testing.assert_close(term(view_of(run, term)), wanted)


def test_expand_is_training_with_one_class_more() -> None:
    run, twin = tiny.run(tiny.made(tiny.plain)), tiny.made(tiny.plain).train()
    run.place = "/0"
    Expand(Train(OneClass("forget"), epochs=3, lr=0.1, batch=12, optimiser=SGD(0.0)))(run)
    wide = nn.Linear(64, 11)
    with torch.no_grad():
        nn.init.xavier_normal_(wide.weight, generator=tiny.run().stream("unused"))
        fresh = tiny.run()
        fresh.place = "/0"
        nn.init.xavier_normal_(wide.weight, generator=fresh.stream("expand"))
        wide.bias.zero_()
        wide.weight[:10], wide.bias[:10] = twin[3].weight, twin[3].bias
    twin[3] = wide
    optimiser = torch.optim.SGD(twin.parameters(), lr=0.1)
    inputs = run.data("forget").batch(torch.arange(12)).inputs
    for _ in range(3):
        optimiser.zero_grad()
        F.cross_entropy(twin(inputs), torch.full((12,), 10)).backward()
        optimiser.step()
    torch.testing.assert_close(run.model[3].weight, wide.weight[:10], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(run.model[3].bias, wide.bias[:10], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(run.model[0].weight, twin[0].weight, atol=1e-5, rtol=1e-4)
    assert run.model[3].out_features == 10
    assert run.model(inputs).shape == (12, 10)


def test_expand_can_take_turns() -> None:
    step = Expand(Train(OneClass("forget"), lr=0.01))
    done = unlearn(tiny.made(), Repeat((step, Train(CE("retain"))), 2), tiny.problem())
    assert done.model[4].weight.shape == (10, 64)
    assert done.receipt.examples == {"forget": 24, "retain": 96}


def test_expand_refuses_what_it_cannot_do() -> None:
    with pytest.raises(BadSentence, match="leave out where"):
        Expand(Train(OneClass("forget"), where=Last(1)))
    flat = tiny.problem().sets["forget"].batch(torch.arange(12))
    task = tiny.Problem.of(
        forget=(flat.inputs.flatten(1), flat.targets),
        retain=(flat.inputs.flatten(1) + 1, flat.targets),
    )
    with pytest.raises(Unsupported, match="one linear layer"):
        unlearn(nn.Linear(64, 10), Expand(Train(OneClass("forget"))), task)


# UNSIR.


def shown_to(run: Run, step: Impair) -> list[Tensor]:
    """The training minibatches of a step."""
    seen: list[Tensor] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if module.training:
            seen.append(inputs[0].detach().clone())

    run.model.register_forward_pre_hook(note)
    list(run_steps((step,), SingleModel(run)))
    return seen


def test_unsir_shows_every_noise_image_and_each_sampled_example() -> None:
    run = tiny.run(task=tiny.classwise())
    step = Impair(batch=16, copies=3, rounds=2, sample=2)
    seen = torch.cat(shown_to(run, step)).flatten(1)
    different, counts = seen.unique(dim=0, return_counts=True)
    # 16 noise images of each of 2 classes three times each, and 2 examples of each of 8 classes
    assert len(different) == 32 + 16
    assert sorted(counts.tolist()) == [1] * 16 + [3] * 32
    assert run.counts.examples == {"forget": len(run.data("forget")), "retain": 16}
    assert forecast(as_method(step), tiny.classwise()).examples == run.counts.examples


def test_unsir_labels_noise_with_its_own_class() -> None:
    run = tiny.run(task=tiny.classwise())
    pool = Impair(batch=4, copies=2, sample=1)._pool(run, torch.zeros(8, 1, 8, 8), [3, 5])
    labels = pool.batch(torch.arange(16)).targets.tolist()
    assert labels == [3, 3, 3, 3, 5, 5, 5, 5] * 2
    assert sorted(pool.batch(torch.arange(16, 24)).targets.tolist()) == [0, 1, 2, 4, 6, 7, 8, 9]


def test_unsir_s_noise_raises_the_loss_and_moves_no_weight() -> None:
    run = tiny.run(task=tiny.classwise())
    before = tiny.state(run.model)
    start = torch.randn((8, 1, 8, 8), generator=run.stream("noise"))
    learned = Impair(rounds=30, penalty=0.0)._learned(run, start, 3)
    labels = torch.full((8,), 3)
    with torch.no_grad():
        first, last = (F.cross_entropy(run.model(x), labels) for x in (start, learned))
    assert last > first + 1
    assert all(torch.equal(before[n], t) for n, t in run.model.state_dict().items())
    heavy = Impair(rounds=30, penalty=10.0)._learned(run, start, 3)
    assert heavy.square().mean() < learned.square().mean()


def test_unsir_is_refused_where_classes_are_not_forgotten_whole() -> None:
    reason = Impair().unfit(tiny.problem())
    assert "whole classes" in reason
    assert "of 'forget' occur in 'retain'" in reason
    assert Impair().unfit(tiny.classwise()) == ""
    with pytest.raises(Unsupported, match="whole classes"):
        unlearn(tiny.made(), PUBLISHED["unsir"], tiny.problem())
