"""Losses towards other classes than the true one, and with a weight for each class."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad

from expunge.core.batch import all_targets, classes_in
from expunge.core.term import Term, check_teacher
from expunge.core.view import View, inputs_of, last_linear
from expunge.core.vocabulary import word
from expunge.errors import BadSentence, Unsupported
from expunge.methods.losses.answers import images_only, is_class
from expunge.methods.losses.likelihood import batches_of
from expunge.methods.losses.other_answers import hashed, hashed_now

if TYPE_CHECKING:
    from expunge.core.run import ProblemProtocol, RunProtocol


@word
class Relabel(Term):
    """Cross-entropy with a wrong class, chosen at random once for each example and seed, nats.

    The class is a hash of the example's index and the seed: it stays the same over epochs and under
    any order of the minibatches.
    """

    mean_over: ClassVar[str] = "targets"
    draws: ClassVar[bool] = True

    set: str

    def __call__(self, view: View) -> Tensor:
        logits, batch = view.logits(self.set), view.batch(self.set)
        if logits.ndim != 2:
            raise Unsupported("Relabel takes one wrong class an image; on tokens there is none.")
        others = logits.shape[-1] - 1
        if others < 1:
            raise Unsupported("Relabel needs a wrong class to take, and the model knows one class.")
        shift = 1 + hashed(batch.index, view.seed) % others
        return F.cross_entropy(logits, (batch.targets + shift) % (others + 1))


@word
class AnyClass(Term):
    """Cross-entropy with a class sampled evenly from all, again at each minibatch, nats.

    The sampled class can be the true one; `Relabel` takes a wrong class, and takes it once.

    Source: Unlearn-Saliency's RL for CIFAR-10, OPTML-Group/Unlearn-Saliency@a6e89fd, RL.py.
    """

    mean_over: ClassVar[str] = "targets"
    draws: ClassVar[bool] = True
    reads_labels: ClassVar[tuple[str, ...]] = ()

    set: str

    def __call__(self, view: View) -> Tensor:
        logits = images_only(self, view)
        sampled = hashed_now(view, self.set) % logits.shape[-1]
        return F.cross_entropy(logits, sampled)


@word
class OneClass(Term):
    """Cross-entropy with one class for all examples, nats.

    Args:
        set: the set that is answered.
        label: the class, from 0; -1 is the model's last output.
    """

    mean_over: ClassVar[str] = "targets"
    reads_labels: ClassVar[tuple[str, ...]] = ()

    set: str
    label: int = -1

    def __call__(self, view: View) -> Tensor:
        logp = view.logits(self.set).log_softmax(-1)
        return -view.mean(self.set, logp[..., self.label])


@word
class WeightedCE(Term):
    """Cross-entropy with a weight for each class, over the sum of the weights, nats.

    Args:
        set: the set whose true classes it fits.
        weights: of class 0, 1 and so on; the last holds for all further classes.

    Source: third prize of the NeurIPS 2023 challenge (Seif): 1 for class 0, the youngest and by far
    the largest, 0.05 for the others.
    """

    set: str
    weights: tuple[float, ...] = (1.0, 0.05)

    def check(self) -> None:
        if not self.weights or min(self.weights) <= 0:
            raise BadSentence(
                f"WeightedCE: expected weights above 0, one for each class (the last for all "
                f"further ones), got {self.weights}."
            )

    def __call__(self, view: View) -> Tensor:
        classes = view.logits(self.set).shape[-1]
        last = len(self.weights) - 1
        return weighted(view, self.set, [self.weights[min(c, last)] for c in range(classes)])


@word
class BalancedCE(Term):
    """Cross-entropy with class weights count^`power`, over the sum of the weights, nats.

    Args:
        set: the set whose true classes it fits, and whose classes are counted.
        power: -1 gives every class the same weight in all, 0 every example.

    Source: fourth prize of the NeurIPS 2023 challenge (Sebastian Oleszko), power -0.1.
    """

    set: str
    power: float = -0.1

    def facts(self, run: RunProtocol) -> dict[str, Tensor]:
        # the targets alone are read, no input: nothing for the receipt
        classes = run.problem.class_count
        return {"counts": torch.bincount(all_targets(run.data(self.set)), minlength=classes)}

    def __call__(self, view: View) -> Tensor:
        counts, classes = view.facts(self)["counts"], view.logits(self.set).shape[-1]
        padded = F.pad(counts, (0, max(0, classes - counts.shape[-1])))[:classes]
        # a class without examples has no target, so that any weight will do
        return weighted(view, self.set, padded.clamp_min(1).double() ** self.power)


def weighted(view: View, name: str, weights: Tensor | list[float]) -> Tensor:
    """Return the cross-entropy on one set with class weights [k]: sum of w loss, over sum of w."""
    logits, targets = view.logits(name), view.batch(name).targets
    each = torch.as_tensor(weights, dtype=logits.dtype, device=logits.device)
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten(), weight=each)


@word
class Nearest(Term):
    """Cross-entropy with the wrong class nearest to each example by a teacher's boundary, nats.

    The example is moved by `bound` along the sign of the gradient of the teacher's loss (FGSM); the
    wrong class that the teacher then finds likeliest is the nearest.

    Args:
        set: the set that is answered.
        bound: how far every input value is moved, in the units that the model reads.
        teacher: "original" or "random".

    Source: Chen et al., Boundary Unlearning, arXiv 2303.11570 (Boundary Shrink);
    TY-LEE-KR/Boundary-Unlearning-Code@19f9f23, which also clips the moved image to pixel values.
    """

    mean_over: ClassVar[str] = "examples"
    set: str
    bound: float = 0.1
    teacher: str = "original"

    def check(self) -> None:
        check_teacher(self)
        if self.bound < 0:
            raise BadSentence(f"Nearest: bound must be 0 or more, got {self.bound}.")

    @property
    def asks(self) -> tuple[tuple[str, str], ...]:
        return (("", self.set),)

    @property
    def extra_passes(self) -> int:
        return 2  # the teacher, at each example and at the moved one

    def __call__(self, view: View) -> Tensor:
        logits, batch = images_only(self, view), view.batch(self.set)
        if not batch.inputs.is_floating_point():
            raise Unsupported("Nearest moves the inputs along a slope, and these are no numbers.")

        def loss(inputs: Tensor) -> Tensor:
            answers = view.ask(self.teacher, inputs)
            return F.cross_entropy(answers, batch.targets, reduction="sum")

        moved = batch.inputs + self.bound * grad(loss)(batch.inputs).sign()
        true = is_class(batch.targets, logits.shape[-1])
        wrong = view.ask(self.teacher, moved).masked_fill(true, -torch.inf).argmax(-1)
        return F.cross_entropy(logits, wrong)


@word
class Centroid(Term):
    """Cosine distance of each example's features to the nearest wrong class's centroid, 0 to 2.

    A centroid is the mean of the original's features over the examples of one class of `against`.
    The original's features also decide which one is nearest, so it stays the same class.

    Source: Cotogni et al., DUCK, arXiv 2312.02052; OcraM17/DUCK@0961e3a, which takes
    the centroids from the first 50 minibatches.
    """

    mean_over: ClassVar[str] = "examples"
    reads_features: ClassVar[bool] = True

    set: str = "forget"
    against: str = "retain"

    @property
    def sets(self) -> tuple[str, ...]:
        return (self.set,)

    @property
    def teachers(self) -> tuple[str, ...]:
        return ("original",)

    @torch.no_grad()
    def facts(self, run: RunProtocol) -> dict[str, Tensor]:
        """Return the centroids [k, d], and for which classes there are examples, bool [k]."""
        head = last_linear(run.original)
        sums = torch.zeros_like(head.weight)
        counts = torch.zeros_like(head.weight[:, 0])
        for batch in batches_of(run, self.against):
            with inputs_of(head) as seen:
                run.original(batch.inputs)
            sums.index_add_(0, batch.targets, seen[-1])
            counts.index_add_(0, batch.targets, torch.ones_like(seen[-1][:, 0]))
        return {"centroids": sums / counts.clamp_min(1)[:, None], "there": counts > 0}

    def __call__(self, view: View) -> Tensor:
        centroids, there = view.facts(self)["centroids"], view.facts(self)["there"]
        true = is_class(view.batch(self.set).targets, len(there))
        before = _distances(view.features(self.set, "original"), centroids)
        nearest = before.masked_fill(true | ~there, torch.inf).argmin(-1)
        now = _distances(view.features(self.set), centroids)
        return now.gather(1, nearest[:, None]).mean()

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        return Counter({self.against: len(problem.data(self.against))})

    def unfit(self, problem: ProblemProtocol) -> str:
        ours, theirs = (classes_in(problem.data(name)) for name in (self.set, self.against))
        if all(theirs - {one} for one in ours):
            return ""
        return f"{self.against!r} has no example of another class for some examples of {self.set!r}"


def _distances(features: Tensor, centroids: Tensor) -> Tensor:
    """Return the cosine distance of each row of features to each centroid, [b, k]."""
    return 1 - F.normalize(features, dim=-1) @ F.normalize(centroids, dim=-1).T
