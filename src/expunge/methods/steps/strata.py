"""A step that treats the forget set in thirds, by how strongly examples are memorised."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from expunge.core.batch import Joined, Subset
from expunge.core.method import Step
from expunge.core.vocabulary import word
from expunge.engine import loop
from expunge.engine.curvature import CHUNK
from expunge.engine.group import SingleModel
from expunge.engine.training import Train, unrolled
from expunge.errors import BadSentence, Unsupported

if TYPE_CHECKING:
    from expunge.core.run import ProblemProtocol, RunProtocol


STRATA = ("high", "middle", "low")


@word
class Strata(Step):
    """Unlearn the forget set in three thirds, by how strongly each example is memorised.

    The proxy of memorisation is the original's confidence in the true class: the lower, the more
    an example is memorised; ties go by position, and a remainder to high first. Low comes first
    and high last, as with the authors. Within a stratum's steps, "forget" is that stratum,
    "retain" stays the retain set, and "train" is both: examples of other strata are neither
    forgotten nor repaired, since no retrained model sees them. The steps inside run for one seed at
    a time.

    Args:
        low: steps for what the model would answer without having seen it; nothing by default.
        middle: steps for what lies between.
        high: steps for what only the training set explains.
        set: the set that is split.

    Source: Zhao et al., What makes unlearning hard and what to do about it (RUM), arXiv 2406.01257;
    kairanzhao/RUM@fe2df07, main_rum_proxy.py. Proxies: Zhao and Triantafillou, arXiv 2410.16516.
    """

    draws: ClassVar[bool] = False
    low: tuple[Step, ...] = ()
    middle: tuple[Step, ...] = ()
    high: tuple[Step, ...] = ()
    set: str = "forget"

    def check(self) -> None:
        if not (self.low or self.middle or self.high):
            raise BadSentence("Strata: give steps for low, middle or high; there are none.")

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        data = problem.data(self.set)
        read = Counter({self.set: len(data)})
        for name, rows in zip(STRATA, torch.arange(len(data)).tensor_split(3), strict=True):
            if len(rows):
                part = stratum(problem, self.set, rows)
                for _, _, step in unrolled(getattr(self, name)):
                    read.update(step.reads(part))
        return read

    def __call__(self, run: RunProtocol) -> None:
        order = confidence(run, self.set).sort(stable=True).indices
        parts = dict(zip(STRATA, order.tensor_split(3), strict=True))
        for name in reversed(STRATA):
            if len(parts[name]):
                self._treat(run, name, parts[name])

    def _treat(self, run: RunProtocol, name: str, rows: Tensor) -> None:
        """Run one stratum's steps on the run's model, as if no other were to be forgotten."""
        inner = run.on(stratum(run.problem, self.set, rows.sort().values))
        steps, place = getattr(self, name), f"{run.place}/{name}"
        for inner.place, inner.turn, step in unrolled(steps, place, run.turn, run.seed):
            if not isinstance(step, Train):
                step(inner)
                continue
            for epoch in loop.train_group(step, SingleModel(inner)):
                loss = epoch.losses[run.seed]
                run.counts.curve.append((epoch.place, epoch.number, loss))


def confidence(run: RunProtocol, name: str) -> Tensor:
    """Return the original's probability of the true class of each example of a set, [n].

    Raises:
        Unsupported: the examples have more than one answer each.
    """
    data, found = run.data(name), []
    device = next(run.original.parameters()).device
    for rows in torch.arange(len(data)).split(CHUNK):
        batch = data.batch(rows).to(device)
        sure = batch.logits(run.original).softmax(-1)
        if sure.ndim != 2:
            raise Unsupported("Strata needs one answer an example; on tokens there are many.")
        found.append(sure.gather(-1, batch.targets[:, None])[:, 0].cpu())
    run.counts.add({name: len(data)})
    return torch.cat(found)


def stratum(problem: ProblemProtocol, name: str, rows: Tensor) -> ProblemProtocol:
    """Make the problem of forgetting some rows of one set alone."""
    part = Subset(problem.data(name), rows)
    train = Joined(problem.data("retain"), part)
    return problem.with_sets({**problem.sets, name: part, "train": train})
