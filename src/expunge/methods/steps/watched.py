"""Steps that measure the model's accuracy between turns, and stop, go back or adapt."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from expunge.core.batch import Data, Subset, all_targets, chunk_of, classes_in, scored_in
from expunge.core.method import Step
from expunge.core.schedules import AdamW, Optimiser
from expunge.core.term import Pooled
from expunge.core.vocabulary import word
from expunge.engine.training import MOST_TURNS, Repeat, Train, Turn, unrolled
from expunge.errors import BadSentence
from expunge.methods.losses.teachers import Gumbel, without_shared_class

if TYPE_CHECKING:
    from expunge.core.run import ProblemProtocol, RunProtocol


CHUNK = 512


@word
class Until(Step):
    """Repeat steps until a set is forgotten: until its accuracy falls below a mark.

    Args:
        steps: one turn.
        times: turns, at most.
        set: the set whose accuracy is measured after each turn.
        against: the original's accuracy on this set is the mark; 0 if empty.
        margin: added to the mark.

    Source: stop rule of Cotogni et al., DUCK, arXiv 2312.02052; OcraM17/DUCK@0961e3a: 0.01 for a
    whole class, the original's accuracy on unseen examples for random ones.
    """

    draws: ClassVar[bool] = True
    may_stop_early: ClassVar[bool] = True

    steps: tuple[Step, ...]
    times: int
    set: str = "forget"
    against: str = ""
    margin: float = 0.01

    def check(self) -> None:
        if not 1 <= self.times <= MOST_TURNS or not self.steps:
            raise BadSentence(f"Until: expected steps, and times between 1 and {MOST_TURNS}.")

    def __call__(self, run: RunProtocol) -> None:
        place, turn = run.place, run.turn
        base = accuracy(run, run.original, self.against) if self.against else 0.0
        for again in range(self.times):
            take_turn(run, self.steps, place, turn_within(turn, again, self.times))
            if accuracy(run, run.model, self.set) < base + self.margin:
                return

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        once = sum((step.reads(problem) for step in self.steps), start=Counter[str]())
        once[self.set] += len(problem.data(self.set))
        total = Counter({name: self.times * count for name, count in once.items()})
        if self.against:
            total[self.against] += len(problem.data(self.against))
        return total


@word
class Rewind(Step):
    """Go back to the turn at which the set was about as hard as unseen examples of its classes.

    The model is kept after each turn: after each step, and within a `Repeat` after each repetition.
    In the end the error on the examples of `against` that are of the classes of `set` is measured;
    the first kept model whose error on `set` is nearest to it is taken.

    Args:
        steps: what is done.
        set: the set to be forgotten.
        against: unseen examples.

    Source: Kurmanji et al., SCRUB+R, arXiv 2302.09880; meghdadk/SCRUB@98ffb11,
    MIA_experiments.ipynb.
    """

    draws: ClassVar[bool] = True

    steps: tuple[Step, ...]
    set: str = "forget"
    against: str = "val"

    def check(self) -> None:
        if not self.steps:
            raise BadSentence("Rewind: expected at least one step to go back from.")

    def __call__(self, run: RunProtocol) -> None:
        kept: list[tuple[float, dict[str, Tensor]]] = []
        for plan in self._turns(run.place, run.turn):
            for place, turn, step in plan:
                run.place, run.turn = place, turn
                step(run)
            right = accuracy(run, run.model, self.set)
            kept.append((right, {n: t.clone() for n, t in run.model.state_dict().items()}))
        unseen = _of_classes(run.data(self.against), classes_in(run.data(self.set)))
        wanted = accuracy(run, run.model, self.against, unseen)
        _, state = min(kept, key=lambda one: abs(one[0] - wanted))
        with torch.no_grad():
            for name, tensor in run.model.state_dict().items():
                tensor.copy_(state[name])

    def _turns(self, place: str, turn: Turn) -> list[list[tuple[str, Turn, Step]]]:
        """List the steps one by one, cut after each repetition."""
        cut = []
        for number, step in enumerate(self.steps):
            plan = unrolled((step,), f"{place}/{number}", turn)
            length = len(plan) // (step.times if isinstance(step, Repeat) else 1)
            cut += [plan[first : first + length] for first in range(0, len(plan), length)]
        return cut

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        total = sum((step.reads(problem) for step in self.steps), start=Counter[str]())
        total[self.set] += len(self._turns("", (0, 1))) * len(problem.data(self.set))
        classes = classes_in(problem.data(self.set))
        total[self.against] += len(_of_classes(problem.data(self.against), classes))
        return total

    def unfit(self, problem: ProblemProtocol) -> str:
        return without_shared_class(problem, self.set, self.against)


@word
class Lotus(Step):
    """Make the model as unsure of a set as the original's accuracy on unseen examples asks for.

    Each epoch measures by how much the model is more accurate on `a` than the original is on
    `against`. Then `a` is trained on answers of the original, softened by a Gumbel-softmax at the
    temperature exp(alpha times that gap), and `b` on classes sampled from the original's
    answers. It ends when the gap is at or below -`margin`.

    Args:
        alpha: how fast the temperature rises with the gap.
        epochs: at most; each is a pass over `share` of `b`.
        lr, batch, optimiser: of the training.
        share: of `b` that each epoch samples.
        margin: how much less accurate it has to become.
        a: the set to be forgotten.
        b: the set to be retained.
        against: unseen examples; empty for whole classes, where the accuracy aimed at is 0.

    Source: Spartalis et al., LoTUS, arXiv 2503.18314; cspartalis/LoTUS@35ae25e, lotus_class.py and
    reproduce_results.sh (ResNet-18: alpha 8 on CIFAR-10, 2 on CIFAR-100 and MUFAC; classes: 32).
    """

    draws: ClassVar[bool] = True
    may_stop_early: ClassVar[bool] = True

    alpha: float = 8.0
    epochs: int = 10
    lr: float = 0.0001
    batch: int = 128
    optimiser: Optimiser = AdamW(weight_decay=0.0005)
    share: float = 0.3
    margin: float = 0.01
    a: str = "forget"
    b: str = "retain"
    against: str = "val"

    def check(self) -> None:
        self._train(1.0)
        if not 1 <= self.epochs <= MOST_TURNS:
            raise BadSentence(f"Lotus: epochs must lie between 1 and {MOST_TURNS}.")

    def __call__(self, run: RunProtocol) -> None:
        place, turn = run.place, run.turn
        wanted = accuracy(run, run.original, self.against) if self.against else 0.0
        for epoch in range(self.epochs):
            gap = accuracy(run, run.model, self.a) - wanted
            if gap <= -self.margin:
                return
            step = self._train(math.exp(self.alpha * gap))
            take_turn(run, (step,), place, turn_within(turn, epoch, self.epochs))

    @property
    def teachers(self) -> tuple[str, ...]:
        """The fixed models that it compares with."""
        return ("original",)

    @property
    def reads_labels(self) -> tuple[str, ...]:
        """The sets whose accuracy is measured."""
        return (self.a, self.against) if self.against else (self.a,)

    def _train(self, temperature: float) -> Train:
        """One epoch at one temperature."""
        return Train(
            Pooled(Gumbel(self.a, temperature), Gumbel(self.b, 0.0), self.share),
            epochs=self.share,
            lr=self.lr,
            batch=self.batch,
            optimiser=self.optimiser,
            over=self.b,
        )

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        once = self._train(1.0).reads(problem)
        once[self.a] += len(problem.data(self.a))
        total = Counter({name: self.epochs * count for name, count in once.items()})
        if self.against:
            total[self.against] += len(problem.data(self.against))
        return total


def take_turn(run: RunProtocol, steps: tuple[Step, ...], place: str, turn: Turn) -> None:
    """Run steps inside another step, each `Train` with the optimiser that its place keeps."""
    for here, now, step in unrolled(steps, place, turn):
        run.place, run.turn = here, now
        step(run)


def turn_within(turn: Turn, again: int, times: int) -> Turn:
    """Number the turn `again` of `times` inside another step's turn: which turn, of how many."""
    return turn[0] * times + again, turn[1] * times


@torch.no_grad()
def accuracy(run: RunProtocol, model: nn.Module, name: str, data: Data | None = None) -> float:
    """Return the share of a set's answers that are right, 0 to 1; the receipt counts what it reads.

    Args:
        data: read in the place of the set, a part of it.
    """
    seen = run.data(name) if data is None else data
    device = next(model.parameters()).device
    model.eval()
    right = 0
    for rows in torch.arange(len(seen)).split(chunk_of(seen, CHUNK)):
        batch = seen.batch(rows).to(device)
        right += int((batch.logits(model).argmax(-1) == batch.targets).sum())
    run.counts.add({name: len(seen)})
    return right / scored_in(seen, torch.arange(len(seen)))


def _of_classes(data: Data, classes: frozenset[int]) -> Subset:
    """Return the examples of some classes."""
    rows = torch.isin(all_targets(data), torch.tensor(sorted(classes))).nonzero().flatten()
    return Subset(data, rows)
