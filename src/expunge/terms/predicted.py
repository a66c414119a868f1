"""A term towards what a model would answer that never saw the forget set, as attribution has it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from expunge.errors import BadSentence
from expunge.terms.term import Term
from expunge.view import View
from expunge.words import word

if TYPE_CHECKING:
    from expunge.problem import Problem
    from expunge.unlearn import Run


@word
class Predicted(Term):
    """Squared distance of the logits from those that linear datamodels predict without the set.

    The prediction is the original's answer less what the whole forget set adds to it, estimated by
    ridge regression over models that were trained on random halves of the retain set with random
    shares of the forget set. Its cost is about `models` times half a retraining: it is counted in
    full for each member, though the members of one original share it.

    Args:
        set: the forget set, whose answers are predicted.
        against: the retain set.
        models: trained to tell who adds what; the authors train thousands.
        ridge: penalty of the regression, as a share of the mean diagonal of its Gram matrix.

    Source: Georgiev et al., Attribute-to-Delete, arXiv 2410.23232 (datamodel matching);
    Ilyas et al., Datamodels, arXiv 2202.00622, with ridge regression for their lasso, and shares
    from none to all for their fixed one.
    """

    mean_over: ClassVar[str] = "examples"
    reads_whole_sets: ClassVar[bool] = True
    reads_labels: ClassVar[tuple[str, ...]] = ("forget", "retain")

    set: str = "forget"
    against: str = "retain"
    models: int = 64
    ridge: float = 0.1

    def check(self) -> None:
        if self.models < 2 or self.ridge < 0:
            raise BadSentence("Predicted: models must be 2 or more, and ridge 0 or more.")
        if (self.set, self.against) != ("forget", "retain"):
            raise BadSentence("Predicted: datamodels are of the sets 'forget' and 'retain' alone.")

    @property
    def sets(self) -> tuple[str, ...]:
        return (self.set,)

    def unfit(self, problem: Problem) -> str:
        from expunge import datamodels

        return datamodels.refusal(problem, self.models)

    def reads(self, problem: Problem) -> Counter[str]:
        from expunge import datamodels

        return datamodels.cost(problem, self.models) + Counter(
            {self.set: len(problem.data(self.set))}
        )

    def facts(self, run: Run) -> dict[str, Tensor]:
        from expunge import datamodels

        inside, answered = datamodels.outcomes(run, self.models)
        added = datamodels.added_by_all(inside, answered, self.ridge)
        data = run.data(self.set)
        index, order = data.batch(torch.arange(len(data))).index.sort()
        now = datamodels.answers(run, run.original, self.set)
        device = next(run.original.parameters()).device
        return {"index": index.to(device), "answers": (now - added)[order].to(device)}

    def __call__(self, view: View) -> Tensor:
        known, logits = view.facts(self), view.logits(self.set)
        rows = torch.searchsorted(known["index"], view.batch(self.set).index)
        return F.mse_loss(logits, known["answers"][rows])
