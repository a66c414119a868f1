"""Steps that change weights at once: noise, fresh weights, pruning, blending, and teachers."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, ClassVar

import torch

from expunge.core.method import Step
from expunge.core.schedules import Schedule, value
from expunge.core.selector import Everything, Selector
from expunge.core.vocabulary import word
from expunge.engine.training import unrolled
from expunge.errors import BadSentence, Unsupported
from expunge.methods.selectors.places import Convs

if TYPE_CHECKING:
    from expunge.core.run import ProblemProtocol, RunProtocol


@word
class Noise(Step):
    """Add Gaussian noise of one standard deviation to some weights.

    Args:
        std: standard deviation, a number or a schedule over the turns of a `Repeat`.
        where: the weights.
    """

    settled: ClassVar[bool] = True
    draws: ClassVar[bool] = True
    sees_original: ClassVar[bool] = False
    std: float | Schedule
    where: Selector = Everything()

    def check(self) -> None:
        if not isinstance(self.std, Schedule) and self.std < 0:
            raise BadSentence(f"Noise: std must be 0 or more, got {self.std}.")

    @torch.no_grad()
    def __call__(self, run: RunProtocol) -> None:
        stream, mask = run.stream("noise"), run.mask(self.where)
        std = value(self.std, run.turn[0] / run.turn[1])
        for name, weight in run.model.named_parameters():
            sampled = torch.randn(weight.shape, generator=stream).to(weight)
            weight.add_(std * sampled * mask[name])


@word
class Zero(Step):
    """Prune some weights: set them to zero.

    Args:
        where: the weights.
    """

    settled: ClassVar[bool] = True
    sees_original: ClassVar[bool] = False
    where: Selector

    @torch.no_grad()
    def __call__(self, run: RunProtocol) -> None:
        mask = run.mask(self.where)
        for name, weight in run.model.named_parameters():
            weight.masked_fill_(mask[name], 0.0)


@word
class Blend(Step):
    """Move the model back towards the original by a `share` of the difference (experimental).

    Buffers, such as running statistics, move too.

    Args:
        share: 0 changes nothing, 1 gives the original.
    """

    settled: ClassVar[bool] = True
    share: float

    def check(self) -> None:
        if not 0 <= self.share <= 1:
            raise BadSentence(f"Blend: share must lie between 0 and 1, got {self.share}.")

    @torch.no_grad()
    def __call__(self, run: RunProtocol) -> None:
        # by parameter and buffer: a state holds weights that two layers share twice
        theirs = (*run.original.named_parameters(), *run.original.named_buffers())
        before = dict(theirs)
        for name, now in (*run.model.named_parameters(), *run.model.named_buffers()):
            if now.is_floating_point():
                now.lerp_(before[name].to(now), self.share)


@word
class ShrinkPerturb(Step):
    """Shrink some weights towards noise: w = (1 - share) w + share * noise * fresh Xavier weights.

    Vectors, such as biases and the weights of normalisation, are shrunk and get no noise.

    Args:
        share: alpha of UNDO, above 0 and at most 1; the larger, the more must be learned again.
        noise: beta of UNDO; with 0 the weights shrink towards zero.
        where: the weights.

    Source: Lee et al., Distillation Robustifies Unlearning (UNDO), arXiv 2506.06278;
    AddieFoote/distillation-robustify-unlearning@edbf111 (0.25 and 0 on WMDP), after Ash and Adams,
    On Warm-Starting Neural Network Training, arXiv 1910.08475. Xavier: Glorot and Bengio, 2010.
    """

    draws: ClassVar[bool] = True
    sees_original: ClassVar[bool] = False
    share: float = 0.25
    noise: float = 0.0
    where: Selector = Everything()

    def check(self) -> None:
        if not 0 < self.share <= 1 or self.noise < 0:
            raise BadSentence(
                "ShrinkPerturb: share must lie above 0 and at most at 1, and noise be 0 or more."
            )

    @torch.no_grad()
    def __call__(self, run: RunProtocol) -> None:
        stream, mask = run.stream("shrink and perturb"), run.mask(self.where)
        for name, weight in run.model.named_parameters():
            sampled = (2 * torch.rand(weight.shape, generator=stream) - 1).to(weight)
            towards = self.noise * xavier_bound(weight) * sampled
            weight.add_(self.share * (towards - weight) * mask[name])


def xavier_bound(weight: torch.Tensor) -> float:
    """Return the bound of Xavier's uniform distribution for a matrix or kernel; 0 for a vector."""
    if weight.ndim < 2:
        return 0.0
    return math.sqrt(6 / (weight[0].numel() + weight[:, 0].numel()))


@word
class Transpose(Step):
    """Swap height and width of every kernel, as if the network were shown mirrored images.

    What the kernels have learned stays useful, so fine-tuning repairs it soon.

    Args:
        where: the kernels; whole ones of square convolutions.

    Raises:
        Unsupported: the part holds other weights than whole kernels of square convolutions.

    Source: fifth prize of the NeurIPS 2023 challenge (toshi_k & marvelworld), part 2 of their
    write-up (kaggle.com/c/neurips-2023-machine-unlearning/discussion/458531): axes 2 and 3 of all
    Conv2d weights.
    """

    sees_original: ClassVar[bool] = False
    where: Selector = Convs()

    @torch.no_grad()
    def __call__(self, run: RunProtocol) -> None:
        mask = run.mask(self.where)
        chosen = {n: w for n, w in run.model.named_parameters() if bool(mask[n].any())}
        for name, weight in chosen.items():
            if weight.ndim != 4 or not bool(mask[name].all()):
                raise Unsupported(
                    f"Transpose takes whole kernels [out, in, height, width]; {self.where!r} holds "
                    f"{int(mask[name].sum())} weights of {name}, {tuple(weight.shape)}."
                )
            if weight.shape[2] != weight.shape[3]:
                raise Unsupported(
                    f"The kernel {name} is {weight.shape[2]} x {weight.shape[3]}; only a square "
                    "one can be transposed. Leave it out of the part."
                )
        for weight in chosen.values():
            weight.copy_(weight.transpose(2, 3).clone())


@word
class Half(Step):
    """Round all weights and statistics to half precision (float16), and keep their dtype.

    Source: last stage of the fourth prize of the NeurIPS 2023 challenge (Sebastian Oleszko).
    """

    sees_original: ClassVar[bool] = False

    @torch.no_grad()
    def __call__(self, run: RunProtocol) -> None:
        for tensor in run.model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(tensor.half())


@word
class Teach(Step):
    """Run steps on a copy of the model; the result is the teacher "taught" of later losses.

    The model itself stays as it is. `Teach((Reset(), Train(CE("retain"))))` is a teacher that
    never saw the forget set.

    Args:
        steps: what is done to the copy, in order.
    """

    draws: ClassVar[bool] = True
    sees_original: ClassVar[bool] = False
    steps: tuple[Step, ...]

    def check(self) -> None:
        if not self.steps:
            raise BadSentence("Teach: expected steps, as in Teach((Train(CE('retain')),)).")

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        return sum((step.reads(problem) for _, _, step in unrolled(self.steps)), start=Counter())

    def __call__(self, run: RunProtocol) -> None:
        before = {n: tensor.detach().clone() for n, tensor in run.model.state_dict().items()}
        place, turn, memory = run.place, run.turn, run.optimisers
        run.optimisers = {}  # the copy starts without the optimisers of an earlier turn
        for inner, again, step in unrolled(self.steps, f"{place}/{turn[0]}", seed=run.seed):
            run.place, run.turn = inner, again
            step(run)
        run.place, run.turn, run.optimisers = place, turn, memory
        run.keep_teacher("taught")
        with torch.no_grad():
            for name, tensor in run.model.state_dict().items():
                tensor.copy_(before[name])


@word
class Remember(Step):
    """Keep a copy of the model as it is now; it is the teacher "taught" of later losses."""

    sees_original: ClassVar[bool] = False

    def __call__(self, run: RunProtocol) -> None:
        run.keep_teacher("taught")
