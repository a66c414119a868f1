"""Steps that follow gradients or curvature of whole sets: Newton steps and their kin."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, ClassVar

import torch
from scipy.stats import chisquare
from torch import Tensor, nn

from expunge.core.batch import all_targets, holds_tokens
from expunge.core.method import Step
from expunge.core.selector import Everything, Selector, quantile
from expunge.core.term import Term
from expunge.core.vocabulary import word
from expunge.engine.curvature import (
    Weights,
    chunks,
    conjugate_gradient,
    fisher_times,
    full_gradient,
    hessian_times,
    importance,
    sensitivity,
)
from expunge.engine.memory import ANSWERS, more_than_one
from expunge.errors import BadSentence, Unsupported, did_you_mean
from expunge.methods.losses.answers import CE

if TYPE_CHECKING:
    from expunge.core.run import ProblemProtocol, RunProtocol


@word
class Newton(Step):
    """One damped Newton step on an objective: weights -= scale (H + damping)^-1 gradient.

    On the retain set this is the influence of leaving the forget set out; it is exact where the
    objective is quadratic. H is the Hessian in evaluation mode, solved by conjugate gradients.

    Source: Guo et al., Certified Data Removal, arXiv 1911.03030 (Newton step).
    """

    settled: ClassVar[bool] = True
    sees_original: ClassVar[bool] = False
    may_stop_early: ClassVar[bool] = True

    objective: Term
    damping: float = 0.01
    iterations: int = 20
    scale: float = 1.0

    def check(self) -> None:
        if self.damping < 0 or self.iterations < 1:
            raise BadSentence("Newton: damping must be 0 or more and iterations 1 or more.")
        if not self.objective.sets:
            raise BadSentence(f"Newton: {self.objective!r} reads no set, so it has no gradient.")

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        once: Counter[str] = Counter()
        for where in chunks(problem, self.objective):
            once.update({name: len(rows) for name, rows in where.items()})
        once[ANSWERS] = more_than_one(self.objective, once)
        return Counter({name: (1 + self.iterations) * count for name, count in once.items()})

    def __call__(self, run: RunProtocol) -> None:
        gradient = full_gradient(run, self.objective)
        times = hessian_times(run, self.objective, self.damping)
        change = conjugate_gradient(times, gradient, self.iterations)
        with torch.no_grad():
            for name, weight in run.model.named_parameters():
                weight.sub_(self.scale * change[name])


@word
class WoodFisher(Step):
    """One influence step away from the forget set: weights += alpha (F + damping)^-1 gradient.

    The gradient is n_forget / n times that on the forget set less that on the retain set; F is the
    mean of g g' over some retain examples. As many rank-one Woodbury updates as examples would
    give the same inverse; it is solved by conjugate gradients here, since the updates need every
    example's gradient kept. (The authors' recursion keeps one vector, which stays parallel to the
    first gradient, so that its step departs from the plain gradient along that one alone.)

    Args:
        alpha: size of the step; 0.2 is the default of the authors' command line, who tune it.
        examples: retain examples that F is taken over, drawn for each member.
        damping: what stands on F's diagonal.
        iterations: conjugate gradients at the most.

    Source: Izzo et al., arXiv 2002.10077, and Koh and Liang, arXiv 1703.04730, as in Jia et al.,
    arXiv 2304.04934 (IU); Singh and Alistarh, WoodFisher, arXiv 2004.14340;
    OPTML-Group/Unlearn-Sparse@16a2dbc, unlearn/Wfisher.py.
    """

    draws: ClassVar[bool] = True
    sees_original: ClassVar[bool] = False
    may_stop_early: ClassVar[bool] = True

    alpha: float = 0.2
    examples: int = 1000
    damping: float = 1.0
    iterations: int = 50
    set: str = "forget"
    against: str = "retain"

    def check(self) -> None:
        if self.examples < 1 or self.iterations < 1 or self.damping <= 0:
            raise BadSentence(
                "WoodFisher: examples and iterations must be 1 or more, and damping above 0."
            )

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        ours, theirs = len(problem.data(self.set)), len(problem.data(self.against))
        solving = self.iterations * min(self.examples, theirs)
        return Counter({self.set: ours}) + Counter({self.against: theirs + solving})

    def __call__(self, run: RunProtocol) -> None:
        ours, theirs = (full_gradient(run, CE(name)) for name in (self.set, self.against))
        sizes = [len(run.data(name)) for name in (self.set, self.against)]
        share = sizes[0] / sum(sizes)
        away = {name: share * (ours[name] - theirs[name]) for name in ours}
        rows = torch.randperm(sizes[1], generator=run.stream("woodfisher"))[: self.examples]
        times = fisher_times(run, self.against, rows, self.damping)
        change = conjugate_gradient(times, away, self.iterations)
        with torch.no_grad():
            for name, weight in run.model.named_parameters():
                weight.add_(self.alpha * change[name])


IMPORTANCES = ("loss", "output")


@word
class Dampen(Step):
    """Shrink the weights that matter much more to the forget set than to the training set.

    Where F_forget > alpha F_train: weight *= min(strength F_train / F_forget, 1). No batch size
    and no order of the examples enters F.

    Args:
        alpha: how many times more a weight must matter to the forget set to be chosen.
        strength: lambda of the paper; smaller dampens more.
        importance: what F is the mean of over single examples: "loss", the squared gradient of the
            cross-entropy; "output", the absolute gradient of ||f(x)||^2, which needs no labels.

    Source: Foster et al., Selective Synaptic Dampening, arXiv 2308.07707, and
    Loss-Free Machine Unlearning, arXiv 2402.19308 ("output"); authors' code, which takes gradients
    of whole batches instead: if-loops/selective-synaptic-dampening@77161cc, ssd.py.
    """

    settled: ClassVar[bool] = True
    alpha: float = 10.0
    strength: float = 1.0
    set: str = "forget"
    against: str = "train"
    importance: str = "loss"

    def check(self) -> None:
        check_importance(self.importance)

    @property
    def reads_labels(self) -> tuple[str, ...]:
        return (self.set, self.against) if self.importance == "loss" else ()

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        return both(problem, self.set, self.against)

    def unfit(self, problem: ProblemProtocol) -> str:
        """No weight can matter more than n / n_forget times as much to a part as to the whole."""
        ours, whole = (len(problem.data(name)) for name in (self.set, self.against))
        if self.against != "train" or self.alpha * ours < whole:
            return ""
        return (
            f"Dampen(alpha={self.alpha:g}) chooses no weight: the set {self.set} is 1 in "
            f"{whole / ours:.3g} of the training set, so no weight matters more than "
            f"{whole / ours:.3g} times as much to it. Choose a smaller alpha."
        )

    def doubt(self, problem: ProblemProtocol) -> str:
        return doubt_random(problem, self.set, self.against)

    def __call__(self, run: RunProtocol) -> None:
        ours, theirs = (judged(run, name, self.importance) for name in (self.set, self.against))
        dampen(run.model, ours, theirs, self.alpha, self.strength)


@word
class AdaptiveDampen(Step):
    """Dampen with the alpha that lets a share of ln(1 + 100 n_forget / n) per cent of weights pass.

    Args:
        strength, set, against, importance: as for `Dampen`.

    Source: Schoepf, Foster and Brintrup, Parameter-tuning-free data entry error unlearning with
    adaptive selective synaptic dampening, arXiv 2402.10098; the rule as read in
    pedroandreou/supreme-unlearning@71877ad, assd.py.
    """

    strength: float = 1.0
    set: str = "forget"
    against: str = "train"
    importance: str = "loss"

    def check(self) -> None:
        check_importance(self.importance)

    @property
    def reads_labels(self) -> tuple[str, ...]:
        return (self.set, self.against) if self.importance == "loss" else ()

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        return both(problem, self.set, self.against)

    def doubt(self, problem: ProblemProtocol) -> str:
        return doubt_random(problem, self.set, self.against)

    def __call__(self, run: RunProtocol) -> None:
        ours, theirs = (judged(run, name, self.importance) for name in (self.set, self.against))
        pairs = [(ours[name].flatten(), theirs[name].flatten()) for name in ours]
        ratios = torch.cat([a[b > 0] / b[b > 0] for a, b in pairs])
        if not len(ratios):
            raise Unsupported(f"No weight matters to the set {self.against}: every gradient is 0.")
        passed = math.log1p(100 * len(run.data(self.set)) / len(run.data(self.against)))
        alpha = float(quantile(ratios, 1 - passed / 100))
        dampen(run.model, ours, theirs, alpha, self.strength)


@word
class FisherNoise(Step):
    """Add Gaussian noise, the stronger the less a weight matters to the set to be kept.

    Its variance is alpha min(1 / (F + 1e-8), largest), F the mean squared gradient of each
    example's cross-entropy on `set`. The authors' code draws labels from the model for F and has
    more noise in the last layer and in normalisations; this is the plain formula.

    Source: Golatkar et al., Eternal Sunshine of the Spotless Net, arXiv 1911.04933;
    alpha and limit as in jwf40/Information-Theoretic-Unlearning@f207655, FisherForgetting.
    """

    draws: ClassVar[bool] = True
    alpha: float = 1e-6
    set: str = "retain"
    largest: float = 1000.0
    where: Selector = Everything()

    def check(self) -> None:
        if self.alpha < 0 or self.largest <= 0:
            raise BadSentence("FisherNoise: alpha must be 0 or more, and largest above 0.")

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        return Counter({self.set: len(problem.data(self.set))})

    @torch.no_grad()
    def __call__(self, run: RunProtocol) -> None:
        fisher, mask, stream = importance(run, self.set), run.mask(self.where), run.stream("noise")
        for name, weight in run.model.named_parameters():
            variance = self.alpha * (1 / (fisher[name] + 1e-8)).clamp_max(self.largest)
            drawn = torch.randn(weight.shape, generator=stream).to(weight)
            weight.add_(variance.sqrt() * drawn * mask[name])


@torch.no_grad()
def dampen(model: nn.Module, ours: Weights, theirs: Weights, alpha: float, strength: float) -> None:
    """Shrink each weight with ours > alpha theirs by min(strength theirs / ours, 1)."""
    for name, weight in model.named_parameters():
        factor = (strength * theirs[name] / ours[name].clamp_min(1e-30)).clamp_max(1.0)
        weight.mul_(torch.where(ours[name] > alpha * theirs[name], factor, 1.0))


def judged(run: RunProtocol, name: str, kind: str) -> Weights:
    """How much each weight matters to one set."""
    return importance(run, name) if kind == "loss" else sensitivity(run, name)


def check_importance(kind: str) -> None:
    """Refuse a kind of importance that is not known."""
    if kind not in IMPORTANCES:
        hint = did_you_mean(kind, IMPORTANCES)
        raise BadSentence(f"No importance {kind!r}; expected 'loss' or 'output'.{hint}")


def both(problem: ProblemProtocol, ours: str, theirs: str) -> Counter[str]:
    """Every example of two sets, once each."""
    return Counter({ours: len(problem.data(ours))}) + Counter({theirs: len(problem.data(theirs))})


def doubt_random(problem: ProblemProtocol, ours: str, whole: str) -> str:
    """A warning where the forget set's classes are spread as a random draw's would be.

    Source: in pedroandreou/supreme-unlearning's tables (arXiv 2606.00380), dampening of random
    forget sets does nothing or destroys the model.
    """
    if holds_tokens(problem.data(ours)):  # texts have no classes
        return ""
    gone, there = (all_targets(problem.data(name)) for name in (ours, whole))
    if not spread_alike(gone, there):
        return ""
    return (
        f"The set {ours} has the classes of a random draw from {whole}. Dampening needs weights "
        "that matter to the forget set alone; for random forget sets there are hardly any, and it "
        "does next to nothing or, with a small alpha, destroys the model."
    )


def spread_alike(gone: Tensor, there: Tensor) -> bool:
    """Whether a chi-square test at 1 % lets the first classes pass as drawn from the second."""
    shares = torch.bincount(there).double() / len(there)
    counts = torch.bincount(gone, minlength=len(shares)).double()[: len(shares)]
    known = shares > 0
    if int(known.sum()) < 2 or float(counts[known].sum()) < len(gone):
        return False
    expected = shares[known] * len(gone)
    return bool(chisquare(counts[known].numpy(), expected.numpy()).pvalue >= 0.01)
