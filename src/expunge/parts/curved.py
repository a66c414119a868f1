"""Parts by curvature: the weights that matter more to one set than to another."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from expunge.errors import BadSentence
from expunge.parts.part import Mask, Part
from expunge.words import word

if TYPE_CHECKING:
    from expunge.problem import Problem
    from expunge.unlearn import Run


@word
class FisherRatio(Part):
    """The weights whose Fisher information on one set is at least `ratio` times that on another.

    The information is the diagonal: the mean squared gradient of each example's cross-entropy, on
    the original; 1e-15 is added to both. The authors square the gradients of minibatches instead,
    so that their mask depends on the order.

    Source: Huang et al., Unified Gradient-Based Machine Unlearning (SFR-on), arXiv 2409.19732;
    K1nght/Unified-Unlearning-w-Remain-Geometry@1837bf6, sfron.py (gamma 1).
    """

    set: str = "forget"
    against: str = "retain"
    ratio: float = 1.0

    def check(self) -> None:
        if self.ratio <= 0:
            raise BadSentence(f"FisherRatio: ratio must be above 0, got {self.ratio}.")

    def reads(self, problem: Problem) -> Counter[str]:
        ours, theirs = len(problem.data(self.set)), len(problem.data(self.against))
        return Counter({self.set: ours}) + Counter({self.against: theirs})

    def mask(self, run: Run) -> Mask:
        ours, theirs = run.importance(self.set), run.importance(self.against)
        return {n: ours[n] + 1e-15 >= self.ratio * (theirs[n] + 1e-15) for n in ours}
