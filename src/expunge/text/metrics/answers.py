"""What one model says of one set of examples: all that the metrics read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from expunge.errors import BadEvidence
from expunge.text.metrics.ragged import Floats, Ints, Nested, Ragged

# A log-probability above 0 is a mistake; this much may be rounding in float32.
ROUNDING = 1e-5

WHAT = {
    "logprobs": "the log-probabilities of the true answer's tokens",
    "hits": "whether each teacher-forced argmax is the true token",
    "means": "the vocabulary's mean log-probability at each token",
    "spreads": "the vocabulary's standard deviation of the log-probability at each token",
    "paraphrased": "the log-probabilities of paraphrased answers",
    "wrong": "the log-probabilities of wrong answers",
    "generations": "generated answers",
    "references": "the true answers as text",
    "norms": "gradient norms",
}


@dataclass(frozen=True, eq=False)
class Answers:
    """What one model says of the examples of one set; a metric names what it cannot do without.

    Every scored token counts, the last one too: an end-of-sequence token is in these arrays where
    the target has one, and nothing is cut off where it has none.

    Args:
        index: int64 [example], which examples these are; none twice.
        logprobs: [example][token], log p of the true answer's tokens, teacher-forced, nats.
        hits: [example][token], 1 where the argmax is the true token, else 0.
        means: [example][token], E[log p(v)] over the vocabulary, v drawn from p itself, nats.
        spreads: [example][token], the standard deviation that belongs to `means`, nats.
        paraphrased: [example][k][token], log p of the tokens of paraphrases of the answer.
        wrong: [example][k][token], log p of the tokens of wrong ("perturbed") answers.
        generations: str [example], what the model writes.
        references: str [example], the true answers.
        norms: float64 [example], norm of the loss's gradient.

    Raises:
        BadEvidence: an example twice, fields of unequal length, a log-probability above 0, hits
            that are neither 0 nor 1, a negative spread or norm, or as for `Ragged`.
    """

    index: Ints
    logprobs: Ragged | None = None
    hits: Ragged | None = None
    means: Ragged | None = None
    spreads: Ragged | None = None
    paraphrased: Nested | None = None
    wrong: Nested | None = None
    generations: tuple[str, ...] | None = None
    references: tuple[str, ...] | None = None
    norms: Floats | None = None

    def __post_init__(self) -> None:
        if self.index.ndim != 1 or len(np.unique(self.index)) != len(self.index):
            raise BadEvidence("Some examples are there twice; expected every index once.")
        for name in WHAT:
            value = getattr(self, name)
            if value is not None and len(value) != len(self.index):
                raise BadEvidence(
                    f"Got {len(value)} of {name!r} for {len(self.index)} examples; expected one "
                    "for each, in the order of the index."
                )
        self._check_tokens()
        if self.norms is not None and not (self.norms >= 0).all():
            raise BadEvidence("Some gradient norms are negative or NaN; expected 0 or more.")

    def _check_tokens(self) -> None:
        """Refuse numbers that no model can give."""
        for one in (self.logprobs, _inner(self.paraphrased), _inner(self.wrong)):
            if one is not None and (one.flat > ROUNDING).any():
                raise BadEvidence("Some log-probabilities are above 0; were they losses?")
        if self.hits is not None and not np.isin(self.hits.flat, (0.0, 1.0)).all():
            raise BadEvidence("Some hits are neither 0 nor 1.")
        if self.spreads is not None and (self.spreads.flat < 0).any():
            raise BadEvidence("Some spreads are negative; expected standard deviations.")
        rows = [one for one in (self.hits, self.means, self.spreads) if one is not None]
        if self.logprobs is not None and not all(one.like(self.logprobs) for one in rows):
            raise BadEvidence(
                "Hits or moments have other numbers of tokens than the log-probabilities; "
                "expected one of each for every scored token."
            )

    def __len__(self) -> int:
        return len(self.index)

    def need(self, *names: str) -> None:
        """Refuse to go on without these fields.

        Raises:
            BadEvidence: one of them was not recorded, or there are no examples.
        """
        for name in names:
            if getattr(self, name) is None:
                raise BadEvidence(f"This metric needs {WHAT[name]}; record {name!r} as well.")
        if not len(self):
            raise BadEvidence("There are no examples to score.")

    def tokens(self, name: str) -> Ragged:
        """Return a field of one row an example, which must have been recorded."""
        self.need(name)
        found = getattr(self, name)
        assert isinstance(found, Ragged)
        return found

    def several(self, name: str) -> Ragged:
        """Return the mean log p per token of several answers an example, [example][k], nats."""
        self.need(name)
        found = getattr(self, name)
        assert isinstance(found, Nested)
        return found.means()

    def texts(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return generations and references, which must have been recorded."""
        self.need("generations", "references")
        return self.generations or (), self.references or ()

    def at(self, index: Sequence[int] | Ints) -> Answers:
        """Return the examples of these indices, in this order.

        Raises:
            BadEvidence: an index that is not here.
        """
        where = {int(one): place for place, one in enumerate(self.index)}
        missing = [int(one) for one in index if int(one) not in where]
        if missing:
            raise BadEvidence(f"Examples {missing[:5]} were not recorded; score the same ones.")
        places = np.array([where[int(one)] for one in index], dtype=np.int64)
        changed: dict[str, Any] = {name: _taken(getattr(self, name), places) for name in WHAT}
        return replace(self, index=self.index[places], **changed)


def aligned(first: Answers, second: Answers) -> Answers:
    """Return the second model's answers in the order of the first, matched by index.

    Matching by place would pair each example with another one after a single missing row.

    Raises:
        BadEvidence: the two were not asked the same examples.
    """
    if len(first) != len(second):
        raise BadEvidence(
            f"Got {len(first)} and {len(second)} examples; both models must answer the same ones."
        )
    return second.at(first.index)


def _inner(nested: Nested | None) -> Ragged | None:
    """The tokens of all answers."""
    return None if nested is None else nested.tokens


def _taken(value: object, places: Ints) -> object:
    """Some of the examples of one field."""
    if value is None:
        return None
    if isinstance(value, tuple):
        return tuple(value[place] for place in places)
    if isinstance(value, Ragged | Nested):
        return value.take(places)
    return np.asarray(value)[places]
