"""Unlearning: a private copy, seeded streams, checks, and a receipt that the frame writes.

The author of a method says what is done; what it took and what it moved is measured here.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from expunge.batch import Data
from expunge.curvature import importance, mean_gradient
from expunge.descent import Crew, Epoch, Solo, descend
from expunge.errors import BadData, BadSentence, Diverged, NothingChanged
from expunge.method import Method
from expunge.needs import check_fit
from expunge.parts import Mask, Part
from expunge.problem import Problem, reinitialised
from expunge.steps import Step, Train, unrolled
from expunge.streams import stream
from expunge.terms import Term


@dataclass
class Ledger:
    """What one run was seen to do: examples read by set (each pass over an example counts one)."""

    examples: dict[str, int] = field(default_factory=dict)
    curve: list[tuple[str, float, float]] = field(default_factory=list)

    def saw(self, counts: dict[str, int]) -> None:
        """Add the examples of one minibatch."""
        for name, count in counts.items():
            self.examples[name] = self.examples.get(name, 0) + count


@dataclass(frozen=True)
class Spent:
    """Time on two clocks, seconds: the wall's, and the processor's over all threads."""

    seconds: float
    processor_seconds: float

    @classmethod
    def until_now(cls) -> Spent:
        """What both clocks show."""
        return cls(time.perf_counter(), time.process_time())

    def to_now(self, members: int = 1) -> Spent:
        """The time since then, in equal shares for so many members."""
        now = Spent.until_now()
        processor = now.processor_seconds - self.processor_seconds
        return Spent((now.seconds - self.seconds) / members, processor / members)


@dataclass(frozen=True)
class Receipt:
    """What a run cost and changed, as measured by the frame.

    Args:
        method: the sentence that was carried out.
        seed: the member.
        engine: how it was trained ("alone", or "stacked of m").
        seconds: wall-clock seconds; of a stack, this member's equal share.
        processor_seconds: the same in processor time of all threads, which other work on the
            machine does not lengthen.
        examples: name of a set -> examples read, counted once for each pass.
        moved: L2 norm of the change of all weights, as a share of their norm before.
        touched: share of the weights that are no longer what they were.
        largest: largest absolute change of any weight or statistic.
        curve: (place of the step, epoch, mean loss) for each epoch of each `Train`.
    """

    method: str
    seed: int
    engine: str
    seconds: float
    processor_seconds: float
    examples: dict[str, int]
    moved: float
    touched: float
    largest: float
    curve: tuple[tuple[str, float, float], ...]

    def __str__(self) -> str:
        read = ", ".join(f"{count} of {name}" for name, count in self.examples.items()) or "none"
        return (
            f"{self.method}\n  took {self.seconds:.2f} s ({self.engine}); examples read: {read}; "
            f"weights moved by {self.moved:.2%} of their norm, {self.touched:.1%} of them touched"
        )


@dataclass(frozen=True, eq=False)
class Unlearned:
    """The model that unlearning gave, in evaluation mode, and what it cost."""

    model: nn.Module
    receipt: Receipt


Judged = tuple[Mask, dict[str, int]]
Memo = dict[Part | Term, Judged]


class Run:
    """One member on its way: a private model, the original to look at, sets, and streams.

    Args:
        model: the model that is changed, in place; private to the run.
        original: the model before unlearning, in evaluation mode; never changed.
        problem: gives the sets.
        seed: the member.
        role: "original", "oracle" or "unlearned": equal seeds in two roles draw different numbers.
        memo: deterministic parts and facts of this original, worked out once for all members.
    """

    def __init__(
        self,
        model: nn.Module,
        original: nn.Module,
        problem: Problem,
        seed: int,
        role: str = "unlearned",
        memo: Memo | None = None,
    ) -> None:
        self.model, self.original, self.problem = model, original, problem
        self.seed, self.role = seed, role
        self.memo: Memo = {} if memo is None else memo
        self._counted: set[Part | Term] = set()
        self.place, self.turn = "", (0, 1)
        self.ledger = Ledger()
        self.optimisers: dict[str, torch.optim.Optimizer] = {}
        self._teachers: dict[str, nn.Module] = {"original": original}

    def stream(self, name: str) -> torch.Generator:
        """A generator for one purpose of the step at hand."""
        return stream(self.role, self.seed, self.place, self.turn, name)

    def turn_stream(self, name: str) -> torch.Generator:
        """A generator that all steps of a `Repeat`'s turn share; outside, all of the sentence."""
        around = self.place.rpartition("/")[0]
        return stream(self.role, self.seed, around, self.turn, name)

    def data(self, name: str) -> Data:
        """A set that methods may see; test and holdout are off limits."""
        return self.problem.data(name)

    def mask(self, part: Part) -> Mask:
        """The weights of a part; worked out once unless the part draws anew."""
        return part.mask(self) if part.redraws else self._once(part, part.mask)

    def facts(self, term: Term) -> dict[str, Tensor]:
        """What a term works out from whole sets; worked out once."""
        return self._once(term, term.facts)

    def _once(self, word: Part | Term, make: Callable[[Run], Mask]) -> Mask:
        if word not in self.memo:
            self.memo[word] = self._judged(make)
        found, read = self.memo[word]
        if word not in self._counted:  # each member would have read them on its own
            self._counted.add(word)
            self.ledger.saw(read)
        return found

    def _judged(self, make: Callable[[Run], Mask]) -> Judged:
        """A part or a fact, and the examples that were read to judge it."""
        own, self.ledger = self.ledger, Ledger()
        try:
            return make(self), self.ledger.examples
        finally:
            self.ledger = own

    def gradient(self, name: str, positions: Tensor | None = None) -> dict[str, Tensor]:
        """Gradient of the original's mean cross-entropy on one set, or on some positions of it."""
        data = self.data(name)
        rows = torch.arange(len(data)) if positions is None else positions
        self.ledger.saw({name: len(rows)})
        return mean_gradient(self.original, data, rows)

    def importance(self, name: str) -> dict[str, Tensor]:
        """How much each weight of the original matters to one set: the diagonal of its Fisher."""
        return importance(self, name)

    def forget_parts(self) -> None:
        """Remember no part or fact any more: for a run whose sets are others now."""
        self.memo, self._counted = {}, set()

    def fresh(self, purpose: str) -> nn.Module:
        """A newly initialised model of the same shape, from the member's own stream."""
        return self._made(self.role, self.seed, self.place, self.turn, purpose)

    def _made(self, *names: object) -> nn.Module:
        device = next(self.original.parameters()).device
        if self.problem.architecture is None:
            return reinitialised(self.original, *names).to(device)
        fresh = self.problem.untrained(*names)
        if shapes(fresh) != shapes(self.original):
            raise BadData(
                f"The architecture of {self.problem.name} makes other weights than the model has; "
                "give Problem the architecture that the model was made by."
            )
        return fresh.to(device)

    def keep_teacher(self, name: str) -> None:
        """Remember the model as it is now as a teacher."""
        twin = copy.deepcopy(self.original)
        twin.load_state_dict(self.model.state_dict())
        self._teachers[name] = twin.eval().requires_grad_(False)

    def teacher(self, name: str) -> nn.Module:
        """A fixed model to compare with; the random one and the oracle are this member's own."""
        if name == "taught" and name not in self._teachers:
            raise BadSentence(
                "A term asks the teacher 'taught', and no step has made it; put Teach((...)) "
                "before, as in Teach((Reset(), Train(CE('retain'))))."
            )
        if name not in self._teachers:
            made = self._made(self.role, self.seed, "teacher")
            if name == "oracle":
                self._retrain(made)
            self._teachers[name] = made.eval().requires_grad_(False)
        return self._teachers[name]


    @torch.enable_grad()
    def _retrain(self, model: nn.Module) -> None:
        """Train a model by the recipe on the retain set alone, at this run's cost.

        The role is no oracle's of an experiment: the model that one is measured against must not
        be the one that was looked at.
        """
        method = self.problem.from_scratch("retain", "oracle teacher")
        inner = Run(model, frozen(model), self.problem, self.seed, f"{self.role}'s teacher")
        inner.ledger.examples = self.ledger.examples
        for _ in perform(method.steps, Solo(inner)):
            continue


def unlearn(model: nn.Module, method: Any, problem: Problem, *, seed: int = 0) -> Unlearned:
    """Make a copy of a model forget; the caller's model is left as it is.

    Args:
        model: the original, trained on "train"; any module from inputs to logits.
        method: a Method, a step or steps, a published method's name, or a sentence.
        problem: the named sets; `Problem.of(forget=..., retain=...)` is enough for most methods.
        seed: all that is drawn at random follows from it.

    Raises:
        NothingChanged: the method left every weight as it was.
        Diverged: a loss or a weight became infinite or not a number.
        OffLimits: the method asked for a set that is for measuring only.
        BadData, BadSentence, Unsupported: as their messages say.
    """
    from expunge.grammar import as_method

    wanted = as_method(method)
    check_fit(wanted, problem)
    refuse_broken(model, "The model")
    original = frozen(model)
    run = Run(copy.deepcopy(original).requires_grad_(True), original, problem, seed)
    start = Spent.until_now()
    for epoch in perform(wanted.steps, Solo(run)):
        note(epoch, (run,))
    return finish(run, wanted, "alone", start.to_now())


def frozen(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode without gradients, to be looked at and never changed."""
    return copy.deepcopy(model).eval().requires_grad_(False)


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    """Name of each weight and buffer -> its shape."""
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def perform(steps: tuple[Step, ...], crew: Crew) -> Iterator[Epoch]:
    """Carry out the steps for all members of a crew, yielding after each epoch of training.

    A crew of several goes one way: its members are those whom every `Mixture` sends the same way.
    """
    for place, turn, step in unrolled(steps, seed=crew.runs[0].seed):
        for run in crew.runs:
            run.place, run.turn = place, turn
        if isinstance(step, Train):
            yield from descend(step, crew)
            continue
        for run in crew.runs:
            step(run)


def note(epoch: Epoch, runs: tuple[Run, ...] | list[Run]) -> None:
    """Write an epoch's losses into its members' ledgers."""
    for run in runs:
        if run.seed in epoch.losses:
            run.ledger.curve.append((epoch.place, epoch.number, epoch.losses[run.seed]))


def finish(run: Run, method: Method, engine: str, spent: Spent) -> Unlearned:
    """Check what came out, and write the receipt."""
    refuse_broken(run.model, f"After {method.name}, member {run.seed}: the model")
    moved, touched, largest = change(run.original, run.model)
    if method.steps and touched == 0:
        raise NothingChanged(
            f"{method.name} left every weight as it was: {method.sentence}. "
            "Raise its learning rate or epochs, or loosen its threshold."
        )
    run.model.eval().requires_grad_(False)
    receipt = Receipt(
        method.sentence,
        run.seed,
        engine,
        spent.seconds,
        spent.processor_seconds,
        dict(run.ledger.examples),
        moved,
        touched,
        largest,
        tuple(run.ledger.curve),
    )
    return Unlearned(run.model, receipt)


def refuse_broken(model: nn.Module, who: str) -> None:
    """Refuse weights or statistics that are NaN or infinite."""
    if not any(True for _ in model.parameters()):
        raise BadData(f"{who} has no parameters; there is nothing to unlearn from.")
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise Diverged(f"{who} has NaN or infinite values in {name}.")


def change(before: nn.Module, after: nn.Module) -> tuple[float, float, float]:
    """How far the weights moved: share of their norm, share of them, and the largest change.

    The largest change counts running statistics too (not counters of minibatches); the other two
    are of weights alone.
    """
    old, new = (torch.cat([w.detach().flatten() for w in m.parameters()]) for m in (before, after))
    size, distance = old.double().norm(), (new.double() - old.double()).norm()
    moved = float(distance / size) if size > 0 else float(distance > 0)
    pairs = zip(before.state_dict().values(), after.state_dict().values(), strict=True)
    steps = [(b.double() - a.double()).abs().max() for a, b in pairs if a.is_floating_point()]
    largest = max(map(float, steps))
    return moved, float((new != old).double().mean()), largest
