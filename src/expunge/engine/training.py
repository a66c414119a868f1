"""Steps that train: gradient descent, its opposite, and taking turns."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from functools import cache, partial
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from expunge.core.method import Method, Step, renamed, words_of
from expunge.core.schedules import SGD, Optimiser, Schedule, Slowed, value
from expunge.core.seeds import Draw, Own
from expunge.core.selector import Everything, Selector
from expunge.core.term import Term
from expunge.core.vocabulary import word
from expunge.engine import loop
from expunge.engine.loop import SHARED, Epoch, ModelGroup, SingleModel
from expunge.engine.memory import check_microbatches
from expunge.errors import BadSentence, Unsupported

if TYPE_CHECKING:
    from expunge.core.run import ProblemProtocol, RunProtocol


class Descent(Step):
    """A step of gradient descent on the weights of a group: a model's or an adapter's."""

    @property
    @abstractmethod
    def trained(self) -> Train:
        """The training that says which weights move, and how."""

    @abstractmethod
    def train_group(self, group: ModelGroup) -> Iterator[Epoch]:
        """Train the weights of a group; yield a record after each epoch."""

    def __call__(self, run: RunProtocol) -> None:
        for epoch in self.train_group(SingleModel(run)):
            run.counts.curve.append((epoch.place, epoch.number, epoch.losses[run.seed]))


MOST_TURNS = 10_000


# Steps of a sentence, written out.
MOST_STEPS = 100_000


@word
class Train(Descent):
    """Minimise an objective by gradient descent.

    Args:
        objective: terms on named sets.
        epochs: passes over the largest set of the objective, or over the set `over`; may be broken.
        lr: learning rate, a number or a schedule over the step.
        batch: examples of each set in a minibatch; a last minibatch of one joins the one before.
        optimiser: how gradients become changes.
        where: the weights that may move; all others stay as they are, bit for bit, and a module
            with no weight among them works in evaluation mode.
        over: the set that an epoch is a pass over; the largest when empty.
        clip: largest L2 norm of the gradient of the weights that may move, `slowed` ones at their
            slowed size; 0 for none.
        slowed: weights whose gradients are made smaller, chosen when the step begins.
        accumulate: micro-batches that a minibatch is cut into, to save memory. Each term is weighed
            by the share of its scored targets that lie in one, so that the gradient is that of the
            whole minibatch (but for batch normalisation, which sees one at a time).
        precision: "bf16" for mixed precision, with weights in their own precision; empty for none.
        checkpointing: compute activations again in the backward pass, to save memory; for models
            of transformers.
    """

    draws: ClassVar[bool] = True
    sees_original: ClassVar[bool] = False
    objective: Term
    epochs: float = 1.0
    lr: float | Schedule = 0.01
    batch: int = 64
    optimiser: Optimiser = SGD()
    where: Selector = Everything()
    over: str = ""
    clip: float = 0.0
    slowed: Slowed | None = None
    accumulate: int = 1
    precision: str = ""
    checkpointing: bool = False

    def check(self) -> None:
        if self.epochs <= 0 or self.batch < 1 or self.clip < 0:
            raise BadSentence("Train: epochs and batch must be above 0, and clip 0 or more.")
        if any(value(self.lr, place / 100) < 0 for place in range(101)):
            raise BadSentence(
                f"Train: lr must be 0 or more, got {self.lr!r}; to go uphill, negate the objective."
            )
        check_microbatches(self.objective, self.accumulate)
        if self.precision not in ("", "bf16"):
            raise BadSentence(f"Train: precision must be 'bf16' or empty, got {self.precision!r}.")
        if not self.objective.sets:
            raise BadSentence(f"Train: {self.objective!r} reads no set, so there is no minibatch.")
        if self.over and self.over not in self.objective.sets:
            sets = ", ".join(self.objective.sets)
            raise BadSentence(f"Train: over={self.over!r} is not among the objective's: {sets}.")

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        return loop.read_by(self, problem)

    def resumable(self, seed: int) -> bool:
        return True

    @property
    def trained(self) -> Train:
        return self

    def train_group(self, group: ModelGroup) -> Iterator[Epoch]:
        yield from loop.train_group(self, group)

    def __call__(self, run: RunProtocol) -> None:
        for _ in self.train_group(SingleModel(run)):
            pass


@word
class Negate(Step):
    """Train a copy on what is to be forgotten and go the opposite way: a negated task vector.

    Buffers stay as they were: the opposite of a running variance can be negative.

    Source: Ilharco et al., Editing Models with Task Arithmetic, arXiv 2212.04089.
    """

    settled: ClassVar[bool] = True
    sees_original: ClassVar[bool] = False
    train: Train
    scale: float = 1.0

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        return self.train.reads(problem)

    @torch.no_grad()
    def __call__(self, run: RunProtocol) -> None:
        state = (*run.model.named_parameters(), *run.model.named_buffers())
        before = {name: tensor.detach().clone() for name, tensor in state}
        with torch.enable_grad():
            self.train(run)
        for name, buffer in run.model.named_buffers():
            buffer.copy_(before[name])
        for name, weight in run.model.named_parameters():
            weight.copy_(before[name] - self.scale * (weight - before[name]))


@word
class Repeat(Step):
    """Run all steps in order, `times` times.

    A `Train` inside is one training cut into turns: it keeps its optimiser's state, and its
    schedule spans all turns. Two of them have an optimiser each; `OneOptimiser` gives them one.
    """

    sees_original: ClassVar[bool] = False
    steps: tuple[Step, ...]
    times: int

    def check(self) -> None:
        if not 1 <= self.times <= MOST_TURNS or not self.steps:
            raise BadSentence(f"Repeat: expected steps, and times between 1 and {MOST_TURNS}.")
        if (length := _length(self)) > MOST_STEPS:
            raise BadSentence(
                f"Repeat: written out, it has {length:,} steps; at most {MOST_STEPS:,} are run."
            )

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        turns = (step.reads(problem) for _, _, step in unrolled((self,)))
        return sum(turns, start=Counter())

    def __call__(self, run: RunProtocol) -> None:
        for place, turn, step in unrolled((self,), seed=run.seed):
            run.place, run.turn = place, turn
            step(run)


@word
class OneOptimiser(Step):
    """Run all steps in order, with one optimiser for all of them.

    The momentum of one `Train` (and Adam's averages) is carried over into the next, as in code that
    makes its optimiser once and then takes turns between a loss on the forget set and one on the
    retain set. Without it each `Train` has an optimiser of its own. The learning rate is each
    one's own.

    Args:
        steps: each `Train` among them, or within them, has the same `optimiser`.
    """

    sees_original: ClassVar[bool] = False
    steps: tuple[Step, ...]

    def check(self) -> None:
        trains = [step for step in words_of(self.steps) if isinstance(step, Train)]
        if not trains:
            raise BadSentence("OneOptimiser: expected a Train among the steps.")
        kinds = [train.optimiser for train in trains]
        if other := next((kind for kind in kinds if kind != kinds[0]), None):
            raise BadSentence(
                f"OneOptimiser: all its steps share one optimiser, got {kinds[0]!r} and {other!r}; "
                "give each Train the same."
            )

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        return sum((step.reads(problem) for _, _, step in unrolled((self,))), start=Counter())

    def __call__(self, run: RunProtocol) -> None:
        for place, turn, step in unrolled((self,), run.place, run.turn, run.seed):
            run.place, run.turn = place, turn
            step(run)


# 2^64 over the golden ratio, made odd: Knuth, The Art of Computer Programming 3, section 6.4
GOLDEN = 0x9E3779B97F4A7C15


@word
class Mixture(Step):
    """Send each seed one of several ways, in the given shares over all seeds.

    The multiples of the golden ratio by consecutive seeds fall evenly on a line that is cut by the
    shares, so that of 512 seeds in a row, shares (246, 266) send 244 to 248 the first way. Two
    mixtures of the same shares in one sentence send a seed the same way.

    Args:
        shares: how many seeds go each way, each above 0; only their proportions count.
        ways: steps, as many times as there are shares.

    Source: fifth prize of the NeurIPS 2023 challenge (toshi_k & marvelworld), an ensemble over the
    seeds.
    """

    draws: ClassVar[bool] = True
    may_stop_early: ClassVar[bool] = True
    shares: tuple[float, ...]
    ways: tuple[tuple[Step, ...], ...]

    def check(self) -> None:
        if len(self.shares) != len(self.ways) or len(self.shares) < 2:
            raise BadSentence(
                f"Mixture: {len(self.shares)} shares for {len(self.ways)} ways; expected one share "
                "a way, and two ways or more."
            )
        if min(self.shares) <= 0 or not all(self.ways):
            raise BadSentence(f"Mixture: shares must be above 0 and ways not empty: {self!r}.")

    def way(self, seed: int) -> int:
        """The number of the way that a seed goes, from 0 on."""
        place = (seed * GOLDEN % 2**64) / 2**64 * sum(self.shares)
        return sum(place >= edge for edge in itertools.accumulate(self.shares[:-1]))

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        """Count of each set as many examples as the way that reads most of it."""
        most: Counter[str] = Counter()
        for way in self.ways:
            steps = (step.reads(problem) for _, _, step in unrolled(way))
            most |= sum(steps, start=Counter[str]())
        return most

    def __call__(self, run: RunProtocol) -> None:
        way = self.way(run.seed)
        for place, turn, step in unrolled(self.ways[way], f"{run.place}/{way}", run.turn, run.seed):
            run.place, run.turn = place, turn
            step(run)


def _length(step: Step) -> int:
    """How many steps a step is, written out."""
    inner = getattr(step, "steps", None)
    if not isinstance(inner, tuple):
        return 1
    return getattr(step, "times", 1) * sum(_length(each) for each in inner)


def unrolled(
    steps: tuple[Step, ...],
    place: str = "",
    turn: Turn = (0, 1),
    seed: int | None = None,
) -> Plan:
    """List the steps one by one, each with its place and (turn, of how many).

    `Repeat` and `OneOptimiser` are gone; the place of a step inside the latter holds `SHARED`.

    With a seed, without `Mixture` too: the steps of the way that this seed goes.
    """
    plan: Plan = []
    for number, step in enumerate(steps):
        here = f"{place}/{number}"
        if isinstance(step, Mixture) and seed is not None:
            way = step.way(seed)
            plan.extend(unrolled(step.ways[way], f"{here}/{way}", turn, seed))
        elif isinstance(step, Repeat):
            for again in range(step.times):
                inner = (turn[0] * step.times + again, turn[1] * step.times)
                plan.extend(unrolled(step.steps, here, inner, seed))
        elif isinstance(step, OneOptimiser):
            plan.extend(unrolled(step.steps, f"{here}{SHARED}", turn, seed))
        else:
            plan.append((here, turn, step))
    return plan


Turn = tuple[int, int]


Plan = list[tuple[str, Turn, Step]]


@word
class Reset(Step):
    """Initialise some weights again, and the buffers of layers that are wholly among them.

    Buffers matter: running statistics of normalisation layers have seen the forget set.

    Args:
        where: the weights.
        draw: how they are drawn; buffers are always those of a new layer.
    """

    settled: ClassVar[bool] = True
    draws: ClassVar[bool] = True
    sees_original: ClassVar[bool] = False
    where: Selector = Everything()
    draw: Draw = Own()

    @torch.no_grad()
    def __call__(self, run: RunProtocol) -> None:
        mask, fresh = run.mask(self.where), cache(partial(run.fresh, "reset"))
        chosen = {n: w for n, w in run.model.named_parameters() if bool(mask[n].any())}
        drawn = self.draw.weights(run, chosen, fresh)
        for name, weight in chosen.items():
            weight.copy_(torch.where(mask[name], drawn[name], weight))
        for name, buffer in run.model.named_buffers():
            if _owner_is_inside(name, mask):
                buffer.copy_(dict(fresh().named_buffers())[name])


def _owner_is_inside(buffer: str, mask: dict[str, Tensor]) -> bool:
    """Whether all weights of the buffer's module are reset, or all weights if it has none."""
    owner = buffer.rpartition(".")[0] + "."
    own = [inside for name, inside in mask.items() if name.startswith(owner)]
    return all(bool(inside.all()) for inside in own or mask.values())


def from_scratch(problem: ProblemProtocol, on: str, name: str) -> Method:
    """A problem's recipe from fresh weights: on "train" for an original, "retain" for an oracle.

    Raises:
        Unsupported: the problem has no recipe.
    """
    if problem.recipe is None:
        raise Unsupported(
            f"{problem.name} has no recipe, so no oracle can be retrained. "
            "Give Problem a recipe: the Method that trained the original on 'train'."
        )
    steps = renamed(problem.recipe.steps, "train", on)
    return Method(name, (Reset(), *steps), source="retraining from scratch")
