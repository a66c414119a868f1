"""One seed of one method at work, and what it keeps of the original."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from expunge.core.batch import Data
from expunge.core.method import Method, Step, words_of
from expunge.core.problem import reinitialised
from expunge.core.receipt import ReceiptCounts
from expunge.core.run import ProblemProtocol
from expunge.core.seeds import stream
from expunge.core.selector import Mask, Selector
from expunge.core.term import Term
from expunge.engine.curvature import importance, mean_gradient
from expunge.engine.loop import Epoch, ModelGroup, SingleModel, train_group
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


Lookup = Callable[[str], Tensor]


# Numbers compared at once: a whole vocabulary in double precision would set a run's peak memory.
PIECE = 2**20


def sharing(model: nn.Module) -> nn.Module:
    """A twin in evaluation mode without gradients that shares the model's weights; no copy."""
    memo: dict[int, Any] = {id(w): nn.Parameter(w.detach(), False) for w in model.parameters()}
    memo |= {id(buffer): buffer.detach() for buffer in model.buffers()}
    return copy.deepcopy(model, memo).eval()


def compares(method: Method) -> bool:
    """Whether a method looks at the original's weights or answers while the model changes.

    What terms compute from the original before training (`facts`) does not count.
    """
    return any(
        getattr(word, "sees_original", False) or "original" in getattr(word, "teachers", ())
        for word in words_of(method.steps)
    )


def adapter_alone(method: Method) -> bool:
    """Whether every step writes new weights, so that a run may share the original's."""
    return bool(method.steps) and all(getattr(s, "writes_new_weights", False) for s in method.steps)


def weights_of(model: nn.Module) -> Lookup:
    """Name of a weight or buffer -> what it is now."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}.__getitem__


@contextmanager
def on_disk(model: nn.Module) -> Iterator[Lookup]:
    """Keep a model's weights in a temporary file while the block runs; yield a lookup by name.

    Buffers are small and are copied.
    """
    buffers = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    with tempfile.TemporaryDirectory(prefix="expunge-") as folder:
        file = Path(folder) / "before.safetensors"
        save_file({n: w.detach().contiguous() for n, w in model.named_parameters()}, file)

        def before(name: str) -> Tensor:
            if name in buffers:
                return buffers[name]
            # opened each time, since what was read of an open file stays mapped into memory
            with safe_open(file, "pt") as kept:
                return kept.get_tensor(name)

        yield before


@torch.no_grad()
def change(before: Lookup, after: nn.Module) -> tuple[float, float, float]:
    """How far the weights moved: share of their norm, share of them, and the largest change.

    The largest change counts running statistics too (not counters of minibatches); the other two
    are of weights alone. Tensors are compared one after another, to save memory.
    """
    size, distance, largest, other, count = 0.0, 0.0, 0.0, 0, 0
    for name, new in after.named_parameters():
        pieces = zip(new.flatten().split(PIECE), before(name).flatten().split(PIECE), strict=True)
        for now, was in pieces:
            old = was.to(now.device)
            step = now.double() - old.double()
            size += float(old.double().square().sum())
            distance += float(step.square().sum())
            largest = max(largest, float(step.abs().max()) if step.numel() else 0.0)
            other, count = other + int((now != old).sum()), count + now.numel()
    for name, now in after.named_buffers():
        if now.is_floating_point() and now.numel():
            was = before(name).to(now.device)
            largest = max(largest, float((now.double() - was.double()).abs().max()))
    moved = (distance / size) ** 0.5 if size > 0 else float(distance > 0)
    return moved, other / count, largest
