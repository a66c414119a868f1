"""What deletions cost under SISA, computed before anything is trained.

Work is examples times epochs, always as a share of retraining once on the rows that are left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import hypergeom

from expunge.errors import BadData
from expunge.methods.exact.layout import ENOUGH, NO_ROWS, Layout, Rows, requested

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
