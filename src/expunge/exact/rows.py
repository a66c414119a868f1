"""Which rows a request names, and what is wrong with the request."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from expunge.batch import Joined, Subset
from expunge.data.forget import check_indices
from expunge.errors import BadData
from expunge.problem import Problem

Rows = Sequence[int] | Tensor | np.ndarray


def requested(rows: Rows, n: int, gone: Tensor) -> Tensor:
    """The rows of a deletion request, sorted, int64 [r].

    Args:
        rows: positions in the training set, any order.
        n: examples in the training set before any deletion.
        gone: int64 [g], rows that were deleted before.

    Raises:
        BadData: none, one twice or deleted before, unknown rows, or nothing would be left.
    """
    found = check_indices(rows, n)
    again = found[torch.isin(found, gone)]
    if len(again):
        raise BadData(
            f"Row {int(again[0])} was deleted before ({len(again)} of the {len(found)} rows were). "
            "Ask only for rows that are still there."
        )
    if len(found) + len(gone) >= n:
        raise BadData(
            f"The request names all {len(found)} rows that are left; expected at least one to keep."
        )
    return found


def forget_rows(problem: Problem) -> Tensor:
    """The rows of a problem's set "train" that make up its forget set, int64 [f].

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
