"""The handwritten digits that come with scikit-learn: real images, and nothing to download."""

from __future__ import annotations

import torch

from expunge.batch import Tensors
from expunge.data.pool import Pool, stratified_rank
from expunge.streams import stream

TEST, VAL = 300, 200
# The split is part of the data set, not of an experiment: it never moves.
SPLIT_SEED = 0
BRIGHTEST = 16.0


def digits() -> Pool:
    """Load the 1,797 handwritten digits: 1,297 train, 200 val, 300 test, stratified by class.

    Inputs are float32 [n, 1, 8, 8] in [0, 1].

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine
    Learning Repository, 1998 (its test part), as ``sklearn.datasets.load_digits``.
    """
    from sklearn.datasets import load_digits  # here, since it takes a second to import

    pixels, labels = load_digits(return_X_y=True)
    targets = torch.as_tensor(labels, dtype=torch.int64)
    inputs = torch.as_tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / BRIGHTEST
    order = stratified_rank(targets, stream("digits", SPLIT_SEED)).argsort(stable=True)
    parts = (order[TEST + VAL :], order[TEST : TEST + VAL], order[:TEST])
    train, val, test = (
        Tensors(inputs[rows], targets[rows]) for rows in (p.sort()[0] for p in parts)
    )
    return Pool("digits", train, val, test, tuple("0123456789"), (1, 8, 8))
