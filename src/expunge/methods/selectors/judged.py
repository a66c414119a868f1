"""Selectors by judgement: size, gradients on a set, or chance."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar

import torch

from expunge.core.selector import (
    Everything,
    Mask,
    Selector,
    is_share,
    lowest,
    quantile,
    whole_tensors,
)
from expunge.core.vocabulary import word
from expunge.errors import BadSentence, Unsupported

if TYPE_CHECKING:
    from expunge.core.run import ProblemProtocol, RunProtocol


@word
class Smallest(Selector):
    """The `share` of all kernels' and matrices' weights that are smallest in size (L1 pruning).

    Args:
        share: above 0 and at most 1.
    """

    share: float

    def check(self) -> None:
        is_share("Smallest", self.share)

    def mask(self, run: RunProtocol) -> Mask:
        sizes = {n: w.detach().abs() for n, w in run.original.named_parameters() if w.ndim > 1}
        return lowest(run.original, sizes, self.share)


@word
class Salient(Selector):
    """The `share` of all weights on which the loss on one set depends most.

    Args:
        set: the set whose loss is meant.
        share: above 0 and at most 1.

    Source: Fan et al., SalUn, arXiv 2310.12508, equation 3 (authors' share 0.5); gradient of the
    mean cross-entropy, taken in evaluation mode.
    """

    set: str = "forget"
    share: float = 0.5

    def check(self) -> None:
        is_share("Salient", self.share)

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        return Counter({self.set: len(problem.data(self.set))})

    def mask(self, run: RunProtocol) -> Mask:
        gradient = run.gradient(self.set)
        sizes = {name: -g.abs() for name, g in gradient.items()}
        return lowest(run.original, sizes, self.share)


@word
class Similar(Selector):
    """In each kernel or matrix, the `share` of weights whose gradients on two sets differ least.

    As many examples of the set `a` are sampled as the set `b` holds, again for each seed, which
    gives the unlearned models the run-to-run variance that retrained ones have.

    Args:
        a: the set that is sampled, the retain set.
        b: the set that is read whole, the forget set.
        share: above 0 and at most 1.

    Source: second prize of the NeurIPS 2023 challenge (Kookmin Y): gradient of the cross-entropy on
    random retain examples minus that on the forget set, smallest 30 % of each convolution.
    """

    a: str = "retain"
    b: str = "forget"
    share: float = 0.3

    def check(self) -> None:
        is_share("Similar", self.share)

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        theirs, ours = len(problem.data(self.a)), len(problem.data(self.b))
        return Counter({self.a: min(theirs, ours)}) + Counter({self.b: ours})

    @property
    def redraws(self) -> bool:
        return True

    def mask(self, run: RunProtocol) -> Mask:
        size, available = len(run.data(self.b)), len(run.data(self.a))
        sample = torch.randperm(available, generator=run.stream("similar"))[:size]
        theirs, ours = run.gradient(self.a, sample), run.gradient(self.b)
        parts = whole_tensors(run.original, lambda name: False)
        for name in (n for n, inside in parts.items() if inside.ndim > 1):
            difference = (theirs[name] - ours[name]).abs()
            parts[name] = difference <= quantile(difference, self.share)
        return parts


@word
class FisherRatio(Selector):
    """The weights whose Fisher information on one set is at least `ratio` times that on another.

    The information is the diagonal: the mean squared gradient of each example's cross-entropy, on
    the original; 1e-15 is added to both. The authors square the gradients of minibatches instead,
    so that their mask depends on the order.

    Args:
        set: the set that the weights matter to.
        against: the set that they matter less to.
        ratio: above 0.

    Source: Huang et al., Unified Gradient-Based Machine Unlearning (SFR-on), arXiv 2409.19732;
    K1nght/Unified-Unlearning-w-Remain-Geometry@1837bf6, sfron.py (gamma 1).
    """

    set: str = "forget"
    against: str = "retain"
    ratio: float = 1.0

    def check(self) -> None:
        if self.ratio <= 0:
            raise BadSentence(f"FisherRatio: ratio must be above 0, got {self.ratio}.")

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        ours, theirs = len(problem.data(self.set)), len(problem.data(self.against))
        return Counter({self.set: ours}) + Counter({self.against: theirs})

    def mask(self, run: RunProtocol) -> Mask:
        ours, theirs = run.importance(self.set), run.importance(self.against)
        return {n: ours[n] + 1e-15 >= self.ratio * (theirs[n] + 1e-15) for n in ours}


@word
class Random(Selector):
    """A random `share` of all weights, another for each seed and each time (experimental).

    Args:
        share: above 0 and at most 1.
    """

    sees_original: ClassVar[bool] = False
    share: float

    def check(self) -> None:
        is_share("Random", self.share)

    @property
    def redraws(self) -> bool:
        return True

    def mask(self, run: RunProtocol) -> Mask:
        stream = run.stream("random part")
        shapes = {name: w.shape for name, w in run.original.named_parameters()}
        chances = {name: torch.rand(s, generator=stream) for name, s in shapes.items()}
        device = next(run.original.parameters()).device
        return {name: (u < self.share).to(device) for name, u in chances.items()}


@word
class RandomTensors(Selector):
    """Whole parameters (kernels, matrices, biases) at random, others for each seed and each turn.

    All steps of one turn of a `Repeat` share one choice, and outside of a `Repeat` all steps of the
    sentence: `Noise(0.04, RandomTensors(6)), Train(..., where=RandomTensors(9))` trains the six
    that got noise and three more. Parameters are put in a random order, of which the first `count`
    are taken; where there are fewer, all of them.

    Args:
        count: how many.
        among: the part that they are taken from; a parameter counts if it lies in it wholly.
        replacement: whether one may be taken twice, so that fewer than `count` may come out.

    Source: seventh prize of the NeurIPS 2023 challenge (Jiaxi Sun), 9 parameters without
    replacement; the eighth (Forget), 6 with.
    """

    sees_original: ClassVar[bool] = False
    count: int
    among: Selector = Everything()
    replacement: bool = False

    def check(self) -> None:
        if self.count < 1:
            raise BadSentence(f"RandomTensors: count must be 1 or more, got {self.count}.")

    @property
    def redraws(self) -> bool:
        return True

    def mask(self, run: RunProtocol) -> Mask:
        among = run.mask(self.among)
        pool = [name for name, inside in among.items() if bool(inside.all())]
        if not pool:
            raise Unsupported(f"No whole parameter of the model lies in {self.among!r}.")
        stream = run.turn_stream("random tensors")
        if self.replacement:
            rows = torch.randint(len(pool), (self.count,), generator=stream)
        else:
            rows = torch.randperm(len(pool), generator=stream)[: self.count]
        return whole_tensors(run.original, {pool[int(row)] for row in rows}.__contains__)


@word
class Changed(Selector):
    """The weights that are no longer what they were in the original, when the step begins.

    The one selector that looks at the model and not at the original: "those that an earlier step
    reset". Within a `Repeat` it is judged again each turn.
    """

    @property
    def redraws(self) -> bool:
        return True

    def mask(self, run: RunProtocol) -> Mask:
        before = dict(run.original.named_parameters())
        pairs = run.model.named_parameters()
        return {name: weight.detach() != before[name] for name, weight in pairs}
