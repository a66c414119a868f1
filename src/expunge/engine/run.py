"""A run: one seed of one method at work on a private model, with its sets, streams and counts."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from expunge.core.batch import Data
from expunge.core.method import Step
from expunge.core.problem import reinitialised
from expunge.core.receipt import ReceiptCounts
from expunge.core.run import ProblemProtocol
from expunge.core.seeds import stream
from expunge.core.selector import Mask, Selector
from expunge.core.term import Term
from expunge.engine.curvature import importance, mean_gradient
from expunge.engine.group import Epoch, ModelGroup, SingleModel
from expunge.engine.loop import train_group
from expunge.engine.training import Train, from_scratch, unrolled
from expunge.errors import BadData, BadSentence

if TYPE_CHECKING:
    from expunge.engine.checkpoint import Checkpointer
    from expunge.engine.distributed import Team


Judged = tuple[Mask, dict[str, int]]


Memo = dict[Selector | Term, Judged]


class Run:
    """One seed of one method at work: a private model, the original, the sets, and streams.

    Args:
        model: the model that is changed, in place; private to the run.
        original: the model before unlearning, in evaluation mode; never changed.
        problem: gives the sets.
        seed: all that the run draws follows from it.
        role: "original", "oracle" or "unlearned": equal seeds in two roles draw different numbers.
        memo: masks and facts of this original that draw nothing, computed once for all seeds.
    """

    def __init__(
        self,
        model: nn.Module,
        original: nn.Module,
        problem: ProblemProtocol,
        seed: int,
        role: str = "unlearned",
        memo: Memo | None = None,
    ) -> None:
        self.model, self.original = model, original
        self.problem: ProblemProtocol = problem
        self.seed, self.role = seed, role
        self.memo: Memo = {} if memo is None else memo
        self._counted: set[Selector | Term] = set()
        self._drawn: dict[Term, Mask] = {}
        self.place, self.turn = "", (0, 1)
        self.counts = ReceiptCounts()
        self.optimisers: dict[str, torch.optim.Optimizer] = {}
        self._teachers: dict[str, nn.Module] = {"original": original}
        self.checkpointer: Checkpointer | None = None
        self.team: Team | None = None

    def stream(self, name: str) -> torch.Generator:
        """A random generator for one purpose of the present step."""
        return stream(self.role, self.seed, self.place, self.turn, name)

    def turn_stream(self, name: str) -> torch.Generator:
        """A generator that all steps of a `Repeat`'s turn share; outside, those of the sentence."""
        around = self.place.rpartition("/")[0]
        return stream(self.role, self.seed, around, self.turn, name)

    def data(self, name: str) -> Data:
        """A set that methods may see; test and holdout are off limits."""
        return self.problem.data(name)

    def mask(self, selector: Selector) -> Mask:
        """The weights that a selector chooses; computed once unless it draws again each time."""
        if selector.redraws:
            return selector.mask(self)
        return self._once(selector, selector.mask)

    def facts(self, term: Term) -> dict[str, Tensor]:
        """What a term computes from whole sets; once, or once a seed where it draws."""
        if not getattr(term, "draws", False):
            return self._once(term, term.facts)
        if term not in self._drawn:
            self._drawn[term] = term.facts(self)
        return self._drawn[term]

    def _once(self, word: Selector | Term, make: Callable[[Run], Mask]) -> Mask:
        if word not in self.memo:
            self.memo[word] = self._counting(make)
        found, read = self.memo[word]
        if word not in self._counted:  # each seed would have read them on its own
            self._counted.add(word)
            self.counts.add(read)
        return found

    def _counting(self, make: Callable[[Run], Mask]) -> Judged:
        """Compute a mask or facts, and count the examples that were read for it."""
        own, self.counts = self.counts, ReceiptCounts()
        try:
            return make(self), self.counts.examples
        finally:
            self.counts = own

    def gradient(self, name: str, positions: Tensor | None = None) -> dict[str, Tensor]:
        """Gradient of the original's mean cross-entropy on one set, or on some positions of it."""
        data = self.data(name)
        rows = torch.arange(len(data)) if positions is None else positions
        self.counts.add({name: len(rows)})
        return mean_gradient(self.original, data, rows)

    def importance(self, name: str) -> dict[str, Tensor]:
        """How much each weight of the original matters to one set: the diagonal of its Fisher."""
        return importance(self, name)

    def on(self, problem: ProblemProtocol) -> Run:
        """The same run with other sets: the same model, counts, teachers and optimisers."""
        inner = copy.copy(self)
        inner.problem = problem
        inner.memo, inner._counted, inner._drawn = {}, set(), {}
        return inner

    def fresh(self, purpose: str) -> nn.Module:
        """A newly initialised model of the same shape, drawn from the run's own stream."""
        return self._initialised(self.role, self.seed, self.place, self.turn, purpose)

    def _initialised(self, *names: object) -> nn.Module:
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
        """Keep the model as it is now as a teacher of this name."""
        twin = copy.deepcopy(self.original)
        twin.load_state_dict(self.model.state_dict())
        self._teachers[name] = twin.eval().requires_grad_(False)

    def teacher(self, name: str) -> nn.Module:
        """A fixed model to compare with; the random one and the oracle are this seed's own."""
        if name == "taught" and name not in self._teachers:
            raise BadSentence(
                "A term asks the teacher 'taught', and no step has made it; put Teach((...)) "
                "before, as in Teach((Reset(), Train(CE('retain'))))."
            )
        if name not in self._teachers:
            made = self._initialised(self.role, self.seed, "teacher")
            if name == "oracle":
                self._retrain(made)
            self._teachers[name] = made.eval().requires_grad_(False)
        return self._teachers[name]

    @torch.enable_grad()
    def _retrain(self, model: nn.Module) -> None:
        """Train a model by the recipe on the retain set alone, at this run's cost.

        The role is not that of an oracle: a method must not see the model it is measured against.
        """
        method = from_scratch(self.problem, "retain", "oracle teacher")
        inner = Run(model, frozen(model), self.problem, self.seed, f"{self.role}'s teacher")
        inner.counts.examples = self.counts.examples
        for _ in run_steps(method.steps, SingleModel(inner)):
            continue


def frozen(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode without gradients, which is never changed."""
    return copy.deepcopy(model).eval().requires_grad_(False)


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    """Name of each weight and buffer -> its shape."""
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def run_steps(steps: tuple[Step, ...], group: ModelGroup) -> Iterator[Epoch]:
    """Run the steps for all models of a group; yield after each epoch of training.

    A group of several goes one way: it holds seeds that every `Mixture` sends the same way.
    """
    for number, (place, turn, step) in enumerate(unrolled(steps, seed=group.runs[0].seed)):
        for run in group.runs:
            run.place, run.turn = place, turn
        if group.already_done(number, step):
            continue
        if isinstance(step, Train):
            yield from train_group(step, group)
            continue
        for run in group.runs:
            step(run)
