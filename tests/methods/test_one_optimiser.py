"""The methods whose authors take turns with one optimiser, against plain loops with one of torch's.

The loops follow the authors' code (see each method's `source`), not the sentences: which pass comes
when, at which rate and on what loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tiny
from expunge.core.batch import Images
from expunge.core.method import Method, Step
from expunge.core.schedules import SGD, Adam
from expunge.core.view import View
from expunge.engine.checkpoint import Checkpointer
from expunge.engine.loop import ModelGroup, SingleModel, minibatch_edges, minibatches
from expunge.engine.run import Run, run_steps
from expunge.engine.stacking import StackedModels, stackable
from expunge.engine.training import OneOptimiser, Repeat, Reset, Train, unrolled
from expunge.errors import BadSentence, Unsupported
from expunge.methods.losses.answers import CE
from expunge.methods.losses.classes import AnyClass, OneClass
from expunge.methods.published import PUBLISHED
from expunge.methods.selectors.judged import FisherRatio, Salient
from expunge.methods.steps import watched
from expunge.methods.steps.classes import Expand
from expunge.methods.steps.watched import Until
from expunge.unlearn import unlearn

# (the model's answers, the minibatch, progress 0.0 to 1.0) -> the loss
Loss = Callable[[Tensor, Images, float], Tensor]


@dataclass(frozen=True)
class Pass:
    """One pass over a set, or some minibatches of it; equal shares of it at each of the rates."""

    place: str
    turn: tuple[int, int]
    set: str
    batch: int
    rates: tuple[float, ...]
    loss: Loss
    minibatches: int = 0
    inside: dict[str, Tensor] | None = None
    clip: float = 0.0


def carried_out(passes: Iterator[Pass], optimiser: torch.optim.Optimizer, run: Run) -> None:
    """Every pass with the one optimiser; weights outside a part get no gradient and stay."""
    net = run.model.train()
    for one in passes:
        run.place, run.turn = f"/0/shared{one.place}", one.turn
        data, before = run.data(one.set), tiny.state(net)
        count = one.minibatches or len(minibatch_edges(len(data), one.batch))
        orders = minibatches([run], one.set, len(data), one.batch)
        for number in range(count):
            rate = one.rates[number * len(one.rates) // count]
            optimiser.param_groups[0]["lr"] = rate
            optimiser.zero_grad()
            progress = (one.turn[0] + number / count) / one.turn[1]
            batch = data.batch(next(orders)[0])
            one.loss(net(batch.inputs), batch, progress).backward()
            if one.inside:
                for name, weight in net.named_parameters():
                    weight.grad.mul_(one.inside[name])
            if one.clip:
                nn.utils.clip_grad_norm_(net.parameters(), one.clip)
            optimiser.step()
            if one.inside:
                with torch.no_grad():
                    for name, weight in net.named_parameters():
                        weight.copy_(torch.where(one.inside[name], weight, before[name]))


def plain(answers: Tensor, batch: Images, progress: float) -> Tensor:
    return F.cross_entropy(answers, batch.targets)


def random_labels(run: Run) -> Loss:
    """Cross-entropy with labels that the seed draws at each minibatch."""

    def loss(answers: Tensor, batch: Images, progress: float) -> Tensor:
        view = View(lambda inputs: answers, {"forget": batch}, {}, {}, progress, run.seed)
        return AnyClass("forget")(view)

    return loss


def distance(teacher: nn.Module, temperature: float) -> Loss:
    """DistillKL of the authors of SCRUB."""

    def loss(answers: Tensor, batch: Images, progress: float) -> Tensor:
        with torch.no_grad():
            soft = (teacher(batch.inputs) / temperature).softmax(1)
        mine = (answers / temperature).log_softmax(1)
        return F.kl_div(mine, soft, reduction="batchmean") * temperature**2

    return loss


def added(*parts: tuple[float, Loss]) -> Loss:
    return lambda answers, batch, progress: sum(
        (w * loss(answers, batch, progress) for w, loss in parts), start=torch.tensor(0.0)
    )


def sgd(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=0.0, momentum=0.9, weight_decay=0.0005)


def scrub(run: Run) -> Iterator[Pass]:
    apart = distance(run.original, 4.0)
    keep = added((0.99, plain), (0.001, apart))
    for turn in ((0, 2), (1, 2)):
        yield Pass("/0/0", turn, "forget", 32, (0.0005,), added((-1.0, apart)))
        yield Pass("/0/1", turn, "retain", 128, (0.0005,), keep)
    yield Pass("/1", (0, 1), "retain", 128, (0.0005,), keep)


def scrub_small(run: Run) -> Iterator[Pass]:
    apart = distance(run.original, 2.0)
    keep = added((1.0, plain), (0.5, apart))
    for turn in range(3):
        yield Pass("/0/0", (turn, 3), "forget", 64, (0.0005,), added((-1.0, apart)))
        yield Pass("/0/1", (turn, 3), "retain", 32, (0.0005,), keep)
    # seven epochs more: 2, 3, 1 and 1 of them at each rate
    rates = (5e-4,) * 2 + (5e-5,) * 3 + (5e-6, 5e-7)
    yield Pass("/1", (0, 1), "retain", 32, rates, keep, minibatches=7 * 2)


def scrub_r(run: Run) -> Iterator[Pass]:
    apart = distance(run.original, 4.0)
    keep = added((1.0, plain), (0.5, apart))
    for turn in range(3):
        yield Pass("/0/0/0/0", (turn, 3), "forget", 16, (0.0005,), added((-1.0, apart)))
        yield Pass("/0/0/0/1", (turn, 3), "retain", 32, (0.0005,), keep)
    for turn in range(2):
        yield Pass("/0/1/0/0", (turn, 2), "retain", 32, (0.00005,), keep)


def relabelled(run: Run, inside: dict[str, Tensor] | None = None) -> Iterator[Pass]:
    for turn in range(10):
        yield Pass("/0/0", (turn, 10), "forget", 256, (0.013,), random_labels(run), inside=inside)
        yield Pass("/0/1", (turn, 10), "retain", 256, (0.013,), plain, inside=inside)


def salun(run: Run) -> Iterator[Pass]:
    return relabelled(run, run.mask(Salient("forget")))


def adaptive(answers: Tensor, batch: Images, progress: float) -> Tensor:
    """25 times the falling share of the ascent on losses weighed by their own inverse root."""
    each = F.cross_entropy(answers, batch.targets, reduction="none")
    share = each.detach() ** -0.5
    return -25 * (1 + math.cos(math.pi * progress)) / 2 * (share / share.sum() * each).sum()


def sfron(run: Run) -> Iterator[Pass]:
    """Of 300 rounds the first three."""
    inside = run.mask(FisherRatio("forget", "retain", 1.0))
    for turn in range(3):
        rate = 0.01 * (1 + math.cos(math.pi * turn / 3)) / 2
        yield Pass("/0/0", (turn, 3), "forget", 128, (rate,), adaptive, 1, inside=inside, clip=7.0)
        for again in range(5):
            number = turn * 5 + again
            rate = 0.01 * (1 + math.cos(math.pi * number / 15)) / 2
            yield Pass("/0/1/0", (number, 15), "retain", 128, (rate,), plain, 1)


AUTHORS = {
    "scrub": scrub,
    "scrub_small": scrub_small,
    "scrub_r": scrub_r,
    "random_label_sequential": relabelled,
    "salun": salun,
    "sfron": sfron,
}


def method(name: str) -> Method:
    """The published method, and of SFR-on's 300 rounds three."""
    whole = PUBLISHED[name]
    if name != "sfron":
        return whole
    (one,) = whole.steps
    return replace(whole, steps=(OneOptimiser((replace(one.steps[0], times=3),)),))


def apart(ours: nn.Module, theirs: nn.Module) -> float:
    """The largest difference of any weight or statistic."""
    pairs = zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
    return max(float((a.double() - b.double()).abs().max()) for a, b in pairs)


def of_the_authors(name: str, seed: int = 0) -> Run:
    run = tiny.run(seed=seed)
    adam = name == "scrub_small"
    weights = run.model.parameters()
    optimiser = torch.optim.Adam(weights, weight_decay=0.1) if adam else sgd(run.model)
    carried_out(AUTHORS[name](run), optimiser, run)
    return run


def keep_the_last(patch: pytest.MonkeyPatch) -> None:
    """Let `Rewind` measure what makes it keep the last of five turns."""
    told = iter((0.9, 0.8, 0.7, 0.6, 0.5, 0.5))
    patch.setattr(watched, "accuracy", lambda *asked: next(told))


@pytest.mark.parametrize("name", AUTHORS)
def test_the_sentence_is_the_authors_loop(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run, twin = tiny.run(), of_the_authors(name)
    keep_the_last(monkeypatch)
    list(run_steps(method(name).steps, SingleModel(run)))
    assert apart(run.model, twin.model) < 1e-6 < 1e-4 < apart(run.model, run.original)


@pytest.mark.parametrize("name", ["random_label_sequential", "salun", "sfron"])
def test_with_an_optimiser_each_it_is_another_method(name: str) -> None:
    (one,) = method(name).steps
    shared, alone = tiny.run(), tiny.run()
    list(run_steps((one,), SingleModel(shared)))
    for alone.place, alone.turn, step in unrolled((one,)):
        alone.place = alone.place.replace("/shared", "/own")
        step(alone)
    assert apart(shared.model, alone.model) > 1e-4


def test_a_stack_shares_it_as_a_model_alone_does() -> None:
    runs = tiny.runs_of((0, 5, 2**40))
    assert stackable(runs, method("salun")) == ""
    list(run_steps(method("salun").steps, StackedModels(runs)))
    for run in runs:
        assert apart(run.model, of_the_authors("salun", run.seed).model) < 1e-6


def test_no_stack_where_a_step_that_goes_alone_shares_it() -> None:
    train = Train(CE("retain"), batch=24)
    mixed = Method("mixed", (OneOptimiser((train, Until((train,), 2))),))
    assert "one model at a time" in stackable(tiny.runs_of((0, 1)), mixed)


class Killed(Exception):
    """Stands for kill -9."""


class Dying(Checkpointer):
    """Writes a checkpoint before each minibatch, and dies before the n-th."""

    left = 0

    def save_if_due(self, group: ModelGroup, done: int, summed: Tensor) -> None:
        super().save_if_due(group, done, summed)
        self.left -= 1
        if self.left < 0:
            raise Killed


@pytest.mark.parametrize("every", [1, 2, 3, 5])
def test_a_resumed_run_goes_on_with_the_one_optimiser(every: int, tmp_path: Path) -> None:
    forget = Train(AnyClass("forget"), batch=5, lr=0.01, optimiser=Adam())
    retain = Train(CE("retain"), batch=24, lr=0.01, optimiser=Adam())
    steps = OneOptimiser((Repeat((forget, retain), 3), retain))
    whole = unlearn(tiny.made(), steps, tiny.problem(), seed=3)
    for _ in range(40):
        checkpointer = Dying(tmp_path / "kept", every=0)
        checkpointer.left = every
        try:
            done = unlearn(tiny.made(), steps, tiny.problem(), seed=3, checkpointer=checkpointer)
            break
        except Killed:
            continue
    assert tiny.same(done.model, whole.model)
    assert done.receipt.curve == whole.receipt.curve


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ((Reset(),), "expected a Train"),
        ((Train(CE("retain")), Train(CE("forget"), optimiser=Adam())), "share one optimiser"),
        ((Repeat((Train(CE("retain"), optimiser=SGD(0.5)), Train(CE("forget"))), 2),), "the same"),
    ],
)
def test_what_cannot_share_is_refused(steps: tuple[Step, ...], said: str) -> None:
    with pytest.raises(BadSentence, match=said):
        OneOptimiser(steps)


def test_weights_that_are_made_anew_cannot_share() -> None:
    wider = Expand(Train(OneClass("forget"), batch=6))
    with pytest.raises(Unsupported, match="other weights than a step before"):
        unlearn(tiny.made(), OneOptimiser((Train(CE("retain")), wider)), tiny.problem())


def test_the_innermost_train_of_two_shares_with_the_outermost() -> None:
    """Once around all is enough: one around a part of the steps changes nothing."""
    train = Train(CE("retain"), batch=24)
    run = tiny.run()
    list(run_steps((OneOptimiser((train, OneOptimiser((train, train)))),), SingleModel(run)))
    assert list(run.optimisers) == ["/0"]
