"""What deletions will cost under SISA, worked out before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import hypergeom

from expunge.errors import BadData
from expunge.methods.exact.layout import ENOUGH, Layout, Rows, requested

Floats = np.ndarray


NONE = torch.zeros(0, dtype=torch.int64)


@dataclass(frozen=True)
class DeletionForecast:
    """Work after some requests, each number a share of one retraining on the rows that are left.

    Work is examples times epochs; 1.0 is as much as retraining once.

    Args:
        layout: the shards and slices.
        requests: rows deleted.
        expected: mean over uniformly random rows, all in one batch.
        worst: the most that any choice of so many rows can cost, all in one batch; reached unless a
            stage is left with a single row, which trains none.
        one_at_a_time: mean over uniformly random rows, each carried out before the next is known.
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


def forecast(layout: Layout, requests: int) -> DeletionForecast:
    """Expected and largest work for so many deletion requests, in closed form.

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
    turns = sum(n - done for done in range(1, requests + 1))
    return DeletionForecast(
        layout,
        requests,
        unit * float(_batch(seen, n, requests).sum()),
        unit * _largest(layout.sizes().numpy(), requests),
        unit * float(_one_by_one(seen, n, requests).sum()),
        turns / left,
        layout.shards * layout.slices,
    )


def work_of(layout: Layout, rows: Rows, gone: torch.Tensor = NONE) -> float:
    """Work of deleting these rows in one batch: a share of retraining on the rows that are left.

    Args:
        layout: the shards and slices.
        rows: the rows to delete.
        gone: int64 [g], rows that were deleted before.

    Raises:
        BadData: as for a deletion.
    """
    asked = requested(rows, layout.n, gone)
    before = layout.sizes(gone).cumsum(1)
    after = layout.sizes(torch.cat([gone, asked])).cumsum(1)
    repeated = (after < before) & (after >= ENOUGH)
    examples = float((after * repeated).sum())
    return examples * stage_share(layout) / (layout.n - len(gone) - len(asked))


def stage_share(layout: Layout) -> float:
    """How much of the recipe's epochs each stage gets, so that all stages cost as much as one run.

    Source: `avg_epochs_per_slice` in sisa.py of cleverhans-lab/machine-unlearning at 50a3ada.
    """
    return 2 / (layout.slices + 1)


def _batch(seen: Floats, n: int, requests: int) -> Floats:
    """Mean examples of each stage; one that keeps a single row is left out, as it trains none."""
    untouched = hypergeom.pmf(0, n, seen, requests)
    single = hypergeom.pmf(seen - 1, n, seen, requests)
    return seen * (1 - requests / n) - seen * untouched - single


def _one_by_one(seen: Floats, n: int, requests: int) -> Floats:
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
