"""Shards and slices, the rows that a request names, and what deletions will cost.

Work is examples times epochs, always as a share of retraining once on the rows that are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.stats import hypergeom
from torch import Tensor

from expunge.core.batch import Joined, Subset, check_indices
from expunge.core.problem import Problem
from expunge.core.seeds import stream
from expunge.errors import BadData, BadSentence

# A model cannot be trained on fewer: no statistics can be taken over one example.
ENOUGH = 2


NO_ROWS = torch.zeros(0, dtype=torch.int64)


@dataclass(frozen=True)
class Layout:
    """Assign rows to shards and slices at random, once; no deletion changes the assignment.

    Args:
        n: training examples before any deletion.
        shards: models, each trained on its own rows alone.
        slices: parts of a shard, added one after the other with a checkpoint after each.
        seed: draws the assignment, without a look at the examples.

    Raises:
        BadSentence: shards or slices below 1.
        BadData: fewer than two examples a slice.

    Source: Bourtoule et al., Machine Unlearning, arXiv 1912.03817 (uniform assignment).
    """

    n: int
    shards: int
    slices: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("shards", "slices"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise BadSentence(f"{name} must be a whole number of 1 or more, got {value!r}.")
        if self.n < ENOUGH * self.shards * self.slices:
            raise BadData(
                f"{self.shards} shards of {self.slices} slices need {ENOUGH} examples a slice, "
                f"{ENOUGH * self.shards * self.slices} in all; the training set has {self.n}. "
                "Take fewer shards or slices."
            )

    @cached_property
    def parts(self) -> list[list[Tensor]]:
        """The rows of each slice of each shard, sorted, int64 [m]; sizes differ by one at most."""
        order = torch.randperm(self.n, generator=stream("sisa", self.seed, "assignment"))
        shards = order.tensor_split(self.shards)
        return [[rows.sort()[0] for rows in own.tensor_split(self.slices)] for own in shards]

    @cached_property
    def shard_of(self) -> Tensor:
        """The shard of each row, int64 [n]."""
        found = torch.empty(self.n, dtype=torch.int64)
        for shard, slices in enumerate(self.parts):
            found[torch.cat(slices)] = shard
        return found

    def sizes(self, gone: Tensor | None = None) -> Tensor:
        """Rows in each slice that are not gone, int64 [shard, slice]."""
        kept = torch.ones(self.n, dtype=torch.int64)
        if gone is not None:
            kept[gone] = 0
        return torch.tensor([[int(kept[rows].sum()) for rows in own] for own in self.parts])


Rows = Sequence[int] | Tensor | np.ndarray


def requested(rows: Rows, n: int, gone: Tensor) -> Tensor:
    """Check a deletion request, and return its rows, sorted, int64 [r].

    Args:
        rows: positions in the training set, any order.
        n: examples in the training set before any deletion.
        gone: int64 [g], rows that were deleted before.

    Raises:
        BadData: no row, one twice or deleted before, unknown rows, or nothing would be left.
    """
    found = check_indices(rows, n)
    again = found[torch.isin(found, gone)]
    if len(again):
        raise BadData(
            f"Row {int(again[0])} was deleted before ({len(again)} of the {len(found)} rows were). "
            "Name only rows that are still there."
        )
    if len(found) + len(gone) >= n:
        raise BadData(
            f"The request names all {len(found)} rows that are left; expected at least one to keep."
        )
    return found


def forget_rows(problem: Problem) -> Tensor:
    """Return the rows of a problem's set "train" that are its forget set, int64 [f].

    Raises:
        BadData: the forget set is not part of the set "train".
    """
    train, forget = problem.sets.get("train"), problem.sets["forget"]
    if isinstance(forget, Subset) and forget.base is train:
        return forget.index
    if isinstance(train, Joined) and train.second is forget:
        return torch.arange(len(train.first), len(train))
    raise BadData(
        f"The forget set of {problem.name} is not cut from its set 'train', so its rows are not "
        "known. Make the problem with Problem.split or Problem.of."
    )


Floats = np.ndarray


@dataclass(frozen=True)
class DeletionForecast:
    """Work after some requests, each number a share of one retraining on the rows that are left.

    Args:
        layout: the shards and slices.
        requests: rows deleted.
        expected: mean over uniformly random rows, all in one batch.
        worst: the most that any choice of so many rows can cost, all in one batch; reached unless a
            stage is left with a single row, which trains none.
        one_at_a_time: mean over uniformly random rows, each deleted before the next is known.
        retraining_one_at_a_time: the same where each request retrains everything.
        checkpoints: model states that are kept.
    """

    layout: Layout
    requests: int
    expected: float
    worst: float
    one_at_a_time: float
    retraining_one_at_a_time: float
    checkpoints: int


def forecast_deletions(layout: Layout, requests: int) -> DeletionForecast:
    """Compute the expected and the largest work of so many deletion requests, in closed form.

    A stage that trains on M rows is repeated when some of its rows are deleted. With D of K
    deletions among them, D is hypergeometric and the stage costs M - D unless D = 0, so its mean
    is M (1 - K/n) - M P(D = 0). One at a time it is M (M - 1) / n (K - K (K - 1) / (2 (n - 1))).

    Raises:
        BadData: requests below 1, or nothing would be left.

    Source: the mechanism of Bourtoule et al., arXiv 1912.03817; these closed forms are ours, and
    are tested against enumeration.
    """
    if not 1 <= requests < layout.n:
        raise BadData(
            f"A forecast needs 1 to {layout.n - 1} requests for {layout.n} examples, got "
            f"{requests!r}."
        )
    n, left = layout.n, layout.n - requests
    unit = stage_share(layout) / left
    seen = layout.sizes().cumsum(1).numpy().astype(np.float64)
    return DeletionForecast(
        layout,
        requests,
        expected=unit * float(_mean_in_one_batch(seen, n, requests).sum()),
        worst=unit * _largest(layout.sizes().numpy(), requests),
        one_at_a_time=unit * float(_mean_one_by_one(seen, n, requests).sum()),
        retraining_one_at_a_time=sum(n - done for done in range(1, requests + 1)) / left,
        checkpoints=layout.shards * layout.slices,
    )


def deletion_share(layout: Layout, rows: Rows, gone: torch.Tensor = NO_ROWS) -> float:
    """Compute the work of deleting these rows in one batch.

    Args:
        layout: the shards and slices.
        rows: the rows to delete.
        gone: int64 [g], rows that were deleted before.

    Raises:
        BadData: as for a deletion.
    """
    wanted = requested(rows, layout.n, gone)
    before = layout.sizes(gone).cumsum(1)
    after = layout.sizes(torch.cat([gone, wanted])).cumsum(1)
    repeated = (after < before) & (after >= ENOUGH)
    examples = float((after * repeated).sum())
    return examples * stage_share(layout) / (layout.n - len(gone) - len(wanted))


def stage_share(layout: Layout) -> float:
    """Return each stage's share of the recipe's epochs, so that all stages cost as much as one run.

    Source: `avg_epochs_per_slice` in sisa.py of cleverhans-lab/machine-unlearning at 50a3ada.
    """
    return 2 / (layout.slices + 1)


def _mean_in_one_batch(seen: Floats, n: int, requests: int) -> Floats:
    """Mean examples of each stage; one that keeps a single row is left out, as it trains none."""
    untouched = hypergeom.pmf(0, n, seen, requests)
    single = hypergeom.pmf(seen - 1, n, seen, requests)
    return seen * (1 - requests / n) - seen * untouched - single


def _mean_one_by_one(seen: Floats, n: int, requests: int) -> Floats:
    """The sum over requests t of P(t is in the stage) times the rows that are then left in it."""
    shrunk = requests - requests * (requests - 1) / (2 * (n - 1))
    single = hypergeom.sf(seen - 2, n, seen, requests)
    return seen * (seen - 1) / n * shrunk - single


def _largest(sizes: np.ndarray, requests: int) -> float:
    """Examples of the worst choice: one row of each first slice, then rows whose loss saves least.

    A row of the first slice repeats every stage of its shard. After that a further row only takes
    work away, least where it lies in the last slice: it is missing from one stage.
    """
    shards, slices = sizes.shape
    gains = np.sort(sizes.cumsum(1).sum(1) - slices)[::-1]
    total = float(gains[:requests].sum())
    further = max(0, requests - shards)
    for saved, there in enumerate(sizes.sum(0)[::-1], start=1):
        taken = min(further, int(there))
        total, further = total - saved * taken, further - taken
    return total
