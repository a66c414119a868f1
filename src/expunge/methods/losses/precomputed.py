"""What the original answers on whole sets, computed once before training and looked up after.

A term that compares with the original keeps numbers, and no second model is held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from expunge.core.batch import Batch, chunk_of
from expunge.core.term import Term
from expunge.core.view import View

if TYPE_CHECKING:
    from expunge.core.run import RunProtocol

CHUNK = 512


def batches_of(run: RunProtocol, name: str) -> Iterator[Batch]:
    """Read a set once, in order, in batches on the original's device; the receipt counts it."""
    data, device = run.data(name), next(run.original.parameters()).device
    for rows in torch.arange(len(data)).split(chunk_of(data, CHUNK)):
        yield data.batch(rows).to(device)
    run.counts.add({name: len(data)})


def view_of_original(run: RunProtocol, name: str, batch: Batch) -> View:
    """The original on one batch of a set, as a term sees a model."""
    return View(run.original, {name: batch}, {}, {}, 0.0, run.seed)


def of_examples(term: Term, view: View, key: str) -> Tensor:
    """Look up a term's fact, one number for each index, for the examples of its minibatch, [b]."""
    known = view.facts(term)
    return known[key][torch.searchsorted(known["index"], view.batch(term.sets[0]).index)]


@torch.no_grad()
def by_token(
    run: RunProtocol, name: str, compute: Callable[[Batch], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Compute values for each scored target of a set, all in a row.

    Args:
        compute: a batch -> key -> the values of its scored targets, [token, ...].

    Returns:
        Each key with its values, [token, ...]. Those of the example `index[i]`, of which there
        are sorted ones, begin at `first[i]`.
    """
    found: dict[str, list[Tensor]] = {}
    counts, index = [], []
    for batch in batches_of(run, name):
        for key, values in compute(batch).items():
            found.setdefault(key, []).append(values)
        scored = torch.ones_like(batch.targets).bool() if batch.scored is None else batch.scored
        counts.append(scored.reshape(len(batch), -1).sum(1))
        index.append(batch.index)
    many, numbers = torch.cat(counts), torch.cat(index)
    order = numbers.argsort()
    rows = {key: torch.cat(values) for key, values in found.items()}
    return {**rows, "index": numbers[order], "first": (many.cumsum(0) - many)[order]}


def rows_of_tokens(known: Mapping[str, Tensor], batch: Batch) -> Tensor:
    """Find the rows of `by_token` for the targets of a batch, int64 [b, *t].

    A target that is not scored has the row of some target that is.
    """
    first = known["first"][torch.searchsorted(known["index"], batch.index)]
    if batch.scored is None:
        return first
    return first[:, None] + (batch.scored.cumsum(-1) - 1) * batch.scored
