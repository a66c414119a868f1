"""Small answers with numbers that can be checked by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.random import Generator

from expunge.core.evidence import Answers, Nested, Ragged


def logs(*chances: float) -> list[float]:
    return [math.log(chance) for chance in chances]


def answers(count: int, **fields: Any) -> Answers:
    """Answers of examples 0, 1, 2 ..."""
    return Answers(np.arange(count), **fields)


def drawn(
    count: int, seed: int, *, shift: float = 0.0, answers_each: int = 3, start: int = 0
) -> Answers:
    """Answers at random with everything recorded; `shift` makes the true answers likelier."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 9, count)
    hits = [np.asarray(rng.random(n) < 0.5, float) for n in lengths]
    return Answers(
        np.arange(start, start + count),
        logprobs=Ragged.of(tokens(rng, n, shift) for n in lengths),
        hits=Ragged.of(hits),
        means=Ragged.of(tokens(rng, n) for n in lengths),
        spreads=Ragged.of(rng.random(n) for n in lengths),
        paraphrased=Nested.of([tokens(rng, n, shift)] for n in lengths),
        wrong=Nested.of([tokens(rng, n) for _ in range(answers_each)] for n in lengths),
        generations=tuple(f"word{n} and more {n * 7}" for n in lengths),
        references=tuple(f"word{n} and less {place}" for place, n in enumerate(lengths)),
        norms=rng.random(count),
    )


def tokens(rng: Generator, count: int, shift: float = 0.0) -> np.ndarray:
    """Log-probabilities at random."""
    return np.minimum(-rng.exponential(2.0, count) + shift, 0.0)
