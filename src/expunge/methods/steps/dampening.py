"""Steps that shrink weights, or add noise to them, by how much each matters to a set."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import Counter
from typing import TYPE_CHECKING, ClassVar

import torch
from scipy.stats import chisquare
from torch import Tensor

from expunge.core.batch import all_targets, holds_tokens
from expunge.core.method import Step
from expunge.core.selector import Everything, Selector, quantile
from expunge.core.vocabulary import word
from expunge.engine.curvature import Weights, importance, sensitivity
from expunge.errors import BadSentence, Unsupported, did_you_mean

if TYPE_CHECKING:
    from expunge.core.run import ProblemProtocol, RunProtocol

# What a weight matters to a set by.
IMPORTANCES = ("loss", "output")


class Dampening(Step):
    """Shrink the weights that matter more than `limit` times as much to a set; abstract.

    Where F_set > limit F_against: weight *= min(strength F_against / F_set, 1).
    """

    strength: float
    set: str
    against: str
    importance: str

    def check(self) -> None:
        if self.importance not in IMPORTANCES:
            hint = did_you_mean(self.importance, IMPORTANCES)
            raise BadSentence(
                f"No importance {self.importance!r}; expected 'loss' or 'output'.{hint}"
            )

    @abstractmethod
    def limit(self, run: RunProtocol, ours: Weights, theirs: Weights) -> float:
        """How many times more a weight must matter to the set to be shrunk."""

    @property
    def reads_labels(self) -> tuple[str, ...]:
        return (self.set, self.against) if self.importance == "loss" else ()

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        ours, theirs = (len(problem.data(name)) for name in (self.set, self.against))
        return Counter({self.set: ours}) + Counter({self.against: theirs})

    def doubt(self, problem: ProblemProtocol) -> str:
        """Warn where the forget set's classes are spread as a random sample's would be.

        Source: in pedroandreou/supreme-unlearning's tables (arXiv 2606.00380), dampening of random
        forget sets does nothing or destroys the model.
        """
        if holds_tokens(problem.data(self.set)):  # texts have no classes
            return ""
        if not spread_alike(*(all_targets(problem.data(n)) for n in (self.set, self.against))):
            return ""
        return (
            f"The set {self.set} has the classes of a random draw from {self.against}. Dampening "
            "needs weights that matter to the forget set alone; for random forget sets there are "
            "hardly any, and it does next to nothing or, with a small alpha, destroys the model."
        )

    def __call__(self, run: RunProtocol) -> None:
        judge = importance if self.importance == "loss" else sensitivity
        ours, theirs = judge(run, self.set), judge(run, self.against)
        limit = self.limit(run, ours, theirs)
        with torch.no_grad():
            for name, weight in run.model.named_parameters():
                factor = self.strength * theirs[name] / ours[name].clamp_min(1e-30)
                chosen = ours[name] > limit * theirs[name]
                weight.mul_(torch.where(chosen, factor.clamp_max(1.0), 1.0))


@word
class Dampen(Dampening):
    """Shrink the weights that matter much more to the forget set than to the training set.

    Where F_forget > alpha F_train: weight *= min(strength F_train / F_forget, 1). No batch size
    and no order of the examples enters F.

    Args:
        alpha: how many times more a weight must matter to the forget set to be shrunk.
        strength: lambda of the paper; smaller dampens more.
        set: the set to be forgotten.
        against: the set that F is compared with.
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

    def limit(self, run: RunProtocol, ours: Weights, theirs: Weights) -> float:
        return self.alpha

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


@word
class AdaptiveDampen(Dampening):
    """Dampen with the alpha that lets a share of ln(1 + 100 n_forget / n) per cent of weights pass.

    Args:
        strength, set, against, importance: as for `Dampen`.

    Raises:
        Unsupported: no weight matters to `against`.

    Source: Schoepf, Foster and Brintrup, Parameter-tuning-free data entry error unlearning with
    adaptive selective synaptic dampening, arXiv 2402.10098; the rule as read in
    pedroandreou/supreme-unlearning@71877ad, assd.py.
    """

    strength: float = 1.0
    set: str = "forget"
    against: str = "train"
    importance: str = "loss"

    def limit(self, run: RunProtocol, ours: Weights, theirs: Weights) -> float:
        pairs = [(ours[name].flatten(), theirs[name].flatten()) for name in ours]
        ratios = torch.cat([a[b > 0] / b[b > 0] for a, b in pairs])
        if not len(ratios):
            raise Unsupported(f"No weight matters to the set {self.against}: every gradient is 0.")
        passed = math.log1p(100 * len(run.data(self.set)) / len(run.data(self.against)))
        return float(quantile(ratios, 1 - passed / 100))


@word
class FisherNoise(Step):
    """Add Gaussian noise, the stronger the less a weight matters to the set to be kept.

    Its variance is alpha min(1 / (F + 1e-8), largest), F the mean squared gradient of each
    example's cross-entropy on `set`. The authors' code samples labels from the model for F and has
    more noise in the last layer and in normalisations; this is the plain formula.

    Args:
        alpha: scale of the variance.
        set: the set to be kept.
        largest: limit of 1 / F.
        where: the weights.

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
            sampled = torch.randn(weight.shape, generator=stream).to(weight)
            weight.add_(variance.sqrt() * sampled * mask[name])


def spread_alike(gone: Tensor, there: Tensor) -> bool:
    """Test at 1 % (chi-square) whether the first classes may be a random sample of the second.

    Args:
        gone: classes of the forget set, int64 [n].
        there: classes of the whole, int64 [m].
    """
    shares = torch.bincount(there).double() / len(there)
    counts = torch.bincount(gone, minlength=len(shares)).double()[: len(shares)]
    known = shares > 0
    if int(known.sum()) < 2 or float(counts[known].sum()) < len(gone):
        return False
    expected = shares[known] * len(gone)
    return bool(chisquare(counts[known].numpy(), expected.numpy()).pvalue >= 0.01)
