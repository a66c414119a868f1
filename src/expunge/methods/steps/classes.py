"""Steps that forget whole classes, or the hardest examples apart from the easiest."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from expunge.core.batch import Data, Joined, Subset, Tensors, all_targets, classes_in
from expunge.core.method import Step
from expunge.core.schedules import Adam, Optimiser
from expunge.core.seeds import isolated
from expunge.core.selector import Everything
from expunge.core.view import last_linear
from expunge.core.vocabulary import word
from expunge.engine import loop
from expunge.engine.curvature import CHUNK
from expunge.engine.loop import SingleModel, minibatch_edges
from expunge.engine.memory import MADE
from expunge.engine.training import Train, unrolled
from expunge.errors import BadSentence, Unsupported

if TYPE_CHECKING:
    from expunge.core.run import ProblemProtocol, RunProtocol


@word
class Expand(Step):
    """Train with one output more than there are classes, and cut it off again.

    The last linear layer gets a further row, from Xavier's normal distribution with a bias of 0.
    Trained to give that output (`OneClass`), the model leaves the classes that it had.

    Args:
        train: what is trained with the wider layer; it moves all weights.

    Source: Chen et al., Boundary Unlearning, arXiv 2303.11570 (Boundary Expanding);
    TY-LEE-KR/Boundary-Unlearning-Code@19f9f23.
    """

    draws: ClassVar[bool] = True

    train: Train

    def check(self) -> None:
        if not isinstance(self.train.where, Everything):
            raise BadSentence("Expand: its Train moves all weights, so leave out where.")

    def __call__(self, run: RunProtocol) -> None:
        narrow = last_linear(run.model)
        wide = _widened(narrow, run.stream("expand"))
        _replace(run.model, narrow, wide)
        run.optimisers.pop(run.place, None)  # one of an earlier turn holds that turn's wide layer
        try:
            self.train(run)
        finally:
            _replace(run.model, wide, narrow)
        with torch.no_grad():
            for name, weight in narrow.named_parameters():
                weight.copy_(wide.get_parameter(name)[:-1])

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        return self.train.reads(problem)


@torch.no_grad()
def _widened(narrow: nn.Linear, stream: torch.Generator) -> nn.Linear:
    """Return the same layer with one output more, initialised from a stream."""
    outputs, bias = narrow.out_features + 1, narrow.bias is not None
    wide = skip_init(nn.Linear, narrow.in_features, outputs, bias=bias)
    nn.init.xavier_normal_(wide.weight, generator=stream)
    if bias:
        nn.init.zeros_(wide.bias)
    wide.to(narrow.weight)
    for name, weight in narrow.named_parameters():
        wide.get_parameter(name)[:-1] = weight
    return wide


def _replace(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put one layer in the place of another, wherever the model uses it.

    Raises:
        Unsupported: the model is nothing but that layer.
    """
    if model is old:
        raise Unsupported("The model is one linear layer; put it into an nn.Sequential.")
    for parent in model.modules():
        for name, child in parent.named_children():
            if child is old:
                setattr(parent, name, new)


@word
class Impair(Step):
    """Train noise that is least like a forgotten class as that class, beside retained examples.

    For each class of `set`, noise images are learned that maximise the model's loss for the class,
    with an L2 penalty. Then the model is trained for one epoch on all of them, each labelled with
    its own class, and on `sample` examples of each class of `against`. Of `set` itself only the
    classes are read. Follow it by a `Train` on the retain set, the authors' repair.

    Args:
        lr: of the training, by `optimiser`.
        batch: noise images of each class, and minibatch of the training.
        copies: how often each noise image is shown.
        rounds: steps in which the noise is learned, by Adam.
        speed: learning rate of the noise.
        penalty: on the mean squared L2 norm of the noise images.
        sample: examples of each retained class.
        optimiser: of the training.
        set: to be forgotten: all training examples of its classes.
        against: to be retained.

    Source: Tarun et al., UNSIR, arXiv 2111.08947; vikram2000b/Fast-Machine-Unlearning
    @252bc92 (ResNet-18, CIFAR-10), whose loop shows only 3 noise images of each batch, as many as
    an image has channels, and labels all noise as class 0.
    """

    draws: ClassVar[bool] = True
    class_wise: ClassVar[bool] = True

    lr: float = 0.02
    batch: int = 256
    copies: int = 20
    rounds: int = 40
    speed: float = 0.1
    penalty: float = 0.1
    sample: int = 1000
    optimiser: Optimiser = Adam()
    set: str = "forget"
    against: str = "retain"

    def check(self) -> None:
        if min(self.batch, self.copies, self.rounds, self.sample) < 1:
            raise BadSentence("Impair: batch, copies, rounds and sample must be 1 or more.")

    def __call__(self, run: RunProtocol) -> None:
        forget = run.data(self.set)
        shape = forget.batch(torch.zeros(1, dtype=torch.int64)).inputs.shape[1:]
        classes = sorted(classes_in(forget))
        stream = run.stream("noise")
        first = [torch.randn((self.batch, *shape), generator=stream) for _ in classes]
        noise = [self._learned(run, *pair) for pair in zip(first, classes, strict=True)]
        run.counts.add({self.set: len(forget)})
        self._train(run, self._pool(run, torch.cat(noise), classes))

    def _learned(self, run: RunProtocol, noise: Tensor, label: int) -> Tensor:
        """Learn noise that raises the current model's loss for a class, [batch, *shape]."""
        run.model.eval()
        noise = noise.to(next(run.model.parameters()), copy=True).requires_grad_()
        labels = torch.full((len(noise),), label, device=noise.device)
        optimiser = torch.optim.Adam([noise], lr=self.speed)
        for _ in range(self.rounds):
            size = noise.square().flatten(1).sum(1).mean()
            loss = self.penalty * size - F.cross_entropy(run.model(noise), labels)
            (noise.grad,) = torch.autograd.grad(loss, noise)
            optimiser.step()
        return noise.detach().cpu()

    def _pool(self, run: RunProtocol, noise: Tensor, classes: list[int]) -> Joined:
        """Join the noise images, `copies` times, with the sample of retained examples."""
        labels = torch.tensor(classes).repeat_interleave(self.batch)
        shown = torch.arange(len(noise)).repeat(self.copies)
        retain = run.data(self.against)
        order = torch.randperm(len(retain), generator=run.stream("sample"))
        chosen = order[_first_of_each(all_targets(retain)[order], self.sample)]
        run.counts.add({self.against: len(chosen)})
        return Joined(Subset(Tensors(noise, labels), shown), Subset(retain, chosen))

    def _train(self, run: RunProtocol, pool: Data) -> None:
        """Train one epoch of cross-entropy on the pool."""
        weights = list(run.model.requires_grad_(True).train().parameters())
        optimiser = self.optimiser.over(weights)
        optimiser.param_groups[0]["lr"] = self.lr
        order = torch.randperm(len(pool), generator=run.stream("order of the pool"))
        with isolated(run.role, run.seed, run.place, run.turn, "dropout"):
            for first, last in minibatch_edges(len(pool), self.batch):
                batch = pool.batch(order[first:last]).to(weights[0].device)
                optimiser.zero_grad()
                F.cross_entropy(batch.logits(run.model), batch.targets).backward()
                optimiser.step()

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        counts = all_targets(problem.data(self.against)).bincount().clamp_max(self.sample)
        ours = problem.data(self.set)
        noise = (self.rounds + self.copies) * self.batch * len(classes_in(ours))
        read = Counter({self.set: len(ours)}) + Counter({self.against: int(counts.sum())})
        return read + Counter({MADE: noise})

    def unfit(self, problem: ProblemProtocol) -> str:
        ours, theirs = (classes_in(problem.data(name)) for name in (self.set, self.against))
        if not ours & theirs:
            return ""
        return (
            f"it forgets whole classes, and {len(ours & theirs)} of the {len(ours)} classes of "
            f"{self.set!r} occur in {self.against!r} too"
        )


def _first_of_each(targets: Tensor, most: int) -> Tensor:
    """Return the positions of the first `most` examples of each class."""
    picked = [(targets == one).nonzero().flatten()[:most] for one in targets.unique()]
    return torch.cat(picked)


STRATA = ("high", "middle", "low")


@word
class Strata(Step):
    """Unlearn the forget set in three thirds, by how strongly each example is memorised.

    The proxy of memorisation is the original's confidence in the true class: the lower, the more
    an example is memorised; ties go by position, and a remainder to high first. Low comes first
    and high last, as with the authors. Within a stratum's steps, "forget" is that stratum,
    "retain" stays the retain set, and "train" is both: examples of other strata are neither
    forgotten nor repaired, since no retrained model sees them. The steps inside run for one seed at
    a time.

    Args:
        low: steps for what the model would answer without having seen it; nothing by default.
        middle: steps for what lies between.
        high: steps for what only the training set explains.
        set: the set that is split.

    Source: Zhao et al., What makes unlearning hard and what to do about it (RUM), arXiv 2406.01257;
    kairanzhao/RUM@fe2df07, main_rum_proxy.py. Proxies: Zhao and Triantafillou, arXiv 2410.16516.
    """

    draws: ClassVar[bool] = False
    low: tuple[Step, ...] = ()
    middle: tuple[Step, ...] = ()
    high: tuple[Step, ...] = ()
    set: str = "forget"

    def check(self) -> None:
        if not (self.low or self.middle or self.high):
            raise BadSentence("Strata: give steps for low, middle or high; there are none.")

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        data = problem.data(self.set)
        read = Counter({self.set: len(data)})
        for name, rows in zip(STRATA, torch.arange(len(data)).tensor_split(3), strict=True):
            if len(rows):
                part = stratum(problem, self.set, rows)
                for _, _, step in unrolled(getattr(self, name)):
                    read.update(step.reads(part))
        return read

    def __call__(self, run: RunProtocol) -> None:
        order = confidence(run, self.set).sort(stable=True).indices
        parts = dict(zip(STRATA, order.tensor_split(3), strict=True))
        for name in reversed(STRATA):
            if len(parts[name]):
                self._treat(run, name, parts[name])

    def _treat(self, run: RunProtocol, name: str, rows: Tensor) -> None:
        """Run one stratum's steps on the run's model, as if no other were to be forgotten."""
        inner = run.on(stratum(run.problem, self.set, rows.sort().values))
        steps, place = getattr(self, name), f"{run.place}/{name}"
        for inner.place, inner.turn, step in unrolled(steps, place, run.turn, run.seed):
            if not isinstance(step, Train):
                step(inner)
                continue
            for epoch in loop.train_group(step, SingleModel(inner)):
                loss = epoch.losses[run.seed]
                run.counts.curve.append((epoch.place, epoch.number, loss))


def confidence(run: RunProtocol, name: str) -> Tensor:
    """Return the original's probability of the true class of each example of a set, [n].

    Raises:
        Unsupported: the examples have more than one answer each.
    """
    data, found = run.data(name), []
    device = next(run.original.parameters()).device
    for rows in torch.arange(len(data)).split(CHUNK):
        batch = data.batch(rows).to(device)
        sure = batch.logits(run.original).softmax(-1)
        if sure.ndim != 2:
            raise Unsupported("Strata needs one answer an example; on tokens there are many.")
        found.append(sure.gather(-1, batch.targets[:, None])[:, 0].cpu())
    run.counts.add({name: len(data)})
    return torch.cat(found)


def stratum(problem: ProblemProtocol, name: str, rows: Tensor) -> ProblemProtocol:
    """Make the problem of forgetting some rows of one set alone."""
    part = Subset(problem.data(name), rows)
    train = Joined(problem.data("retain"), part)
    return problem.with_sets({**problem.sets, name: part, "train": train})
