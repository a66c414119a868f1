"""What models answer on fixed examples, as arrays, so that metrics need no model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from expunge.errors import BadEvidence, did_you_mean

Floats = NDArray[np.float64]


Ints = NDArray[np.int64]


Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of unequal length, one behind the other; a row without a value is refused.

    Args:
        flat: float64 [value], the rows one behind the other.
        lengths: int64 [row], each at least 1.

    Raises:
        BadEvidence: an empty row, lengths that do not add up, values that are NaN or infinite.
    """

    flat: Floats
    lengths: Ints

    def __post_init__(self) -> None:
        if self.flat.ndim != 1 or self.lengths.ndim != 1 or self.lengths.sum() != len(self.flat):
            raise BadEvidence(
                f"Got {self.flat.shape} values for rows of {self.lengths.sum()} in all; expected "
                "one axis each, and as many values as the lengths add up to."
            )
        if (self.lengths < 1).any():
            row = int(np.argmax(self.lengths < 1))
            # Scoring it 0 would say something of the model, and dropping it would shift all rows.
            raise BadEvidence(
                f"Row {row} is empty; leave examples without an answer token out before scoring."
            )
        if not np.isfinite(self.flat).all():
            row = int(np.searchsorted(self.stops, np.argmin(np.isfinite(self.flat)), "right"))
            raise BadEvidence(f"Row {row} holds NaN or infinity; leave models that diverged out.")

    @classmethod
    def of(cls, rows: Iterable[ArrayLike]) -> Ragged:
        """Make it of one array a row."""
        arrays = [np.asarray(row, dtype=np.float64).reshape(-1) for row in rows]
        flat = np.concatenate(arrays) if arrays else np.empty(0)
        return cls(flat, np.array([len(row) for row in arrays], dtype=np.int64))

    @classmethod
    def padded(cls, values: ArrayLike, mask: ArrayLike) -> Ragged:
        """Make it of padded rows; what the mask leaves out is never looked at.

        Args:
            values: float [row, place].
            mask: bool [row, place], where a value counts.

        Raises:
            BadEvidence: shapes that differ or have not two axes, or as for the class.
        """
        full, kept = np.asarray(values, dtype=np.float64), np.asarray(mask, dtype=np.bool_)
        if full.shape != kept.shape or full.ndim != 2:
            raise BadEvidence(
                f"Got values {full.shape} and a mask {kept.shape}; expected [row, place] twice."
            )
        return cls(full[kept], kept.sum(axis=1, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def stops(self) -> Ints:
        """Where each row ends, int64 [row]."""
        return np.cumsum(self.lengths)

    @property
    def starts(self) -> Ints:
        """Where each row starts, int64 [row]."""
        return self.stops - self.lengths

    def rows(self) -> list[Floats]:
        """Return one array a row."""
        return list(np.split(self.flat, self.stops[:-1])) if len(self) else []

    def sums(self) -> Floats:
        """Return the sum of each row, float64 [row]."""
        return np.add.reduceat(self.flat, self.starts) if len(self) else np.empty(0)

    def means(self) -> Floats:
        """Return the mean of each row, float64 [row]."""
        return self.sums() / self.lengths

    def lowest(self, share: float) -> Floats:
        """Return the mean of the lowest share of each row, of one value at least, float64 [row]."""
        kept = np.maximum(1, np.floor(self.lengths * share + 1e-9).astype(np.int64))
        row_of = np.repeat(np.arange(len(self)), self.lengths)
        rising = self.flat[np.lexsort((self.flat, row_of))]
        place = np.arange(len(rising)) - np.repeat(self.starts, self.lengths)
        few = place < np.repeat(kept, self.lengths)
        return np.bincount(row_of[few], rising[few], minlength=len(self)) / kept

    def take(self, index: Ints | Sequence[int]) -> Ragged:
        """Return some of the rows, in the order asked for."""
        rows = self.rows()
        return Ragged.of([rows[place] for place in index])

    def like(self, other: Ragged) -> bool:
        """Whether both have the same lengths."""
        return np.array_equal(self.lengths, other.lengths)


@dataclass(frozen=True, eq=False)
class Nested:
    """Several answers an example, each of several tokens: [example][answer][token].

    Args:
        tokens: one row an answer, those of the first example first.
        counts: int64 [example], how many answers each has, at least 1.

    Raises:
        BadEvidence: counts below 1, or that do not add up to the answers.
    """

    tokens: Ragged
    counts: Ints

    def __post_init__(self) -> None:
        if (self.counts < 1).any() or self.counts.sum() != len(self.tokens):
            raise BadEvidence(
                f"Got {len(self.tokens)} answers for counts of {self.counts.sum()} in all; "
                "expected at least 1 an example, and as many as the counts add up to."
            )

    @classmethod
    def of(cls, examples: Iterable[Sequence[ArrayLike]]) -> Nested:
        """Make it of one list of arrays an example."""
        answers = [list(one) for one in examples]
        tokens = Ragged.of([answer for one in answers for answer in one])
        return cls(tokens, np.array([len(one) for one in answers], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.counts)

    def means(self) -> Ragged:
        """Return the mean per token of every answer, one row an example."""
        return Ragged(self.tokens.means(), self.counts)

    def take(self, index: Ints | Sequence[int]) -> Nested:
        """Return some of the examples, in the order asked for."""
        stops = np.cumsum(self.counts)
        places = [np.arange(stops[one] - self.counts[one], stops[one]) for one in index]
        chosen = np.concatenate(places) if places else np.empty(0, dtype=np.int64)
        return Nested(self.tokens.take(chosen), self.counts[np.asarray(index, dtype=np.int64)])


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


@dataclass(frozen=True, eq=False)
class Evidence:
    """Answers of `model` models on `example` examples that are sorted by set.

    Args:
        logits: float32 [model, example, class], before the softmax.
        targets: int64 [example], the right class of each example.
        sets: name of a set -> its rows on the example axis ("retain", "forget", "test" ...).

    Raises:
        BadEvidence: shapes that do not match, a target out of range, a logit that is not finite.
    """

    logits: np.ndarray
    targets: np.ndarray
    sets: Mapping[str, slice]

    def __post_init__(self) -> None:
        if self.logits.ndim != 3 or self.targets.shape != (self.logits.shape[1],):
            raise BadEvidence(
                f"Got logits {self.logits.shape} and targets {self.targets.shape}; "
                "expected [model, example, class] and [example]."
            )
        classes = self.logits.shape[2]
        if self.targets.size and not 0 <= self.targets.min() <= self.targets.max() < classes:
            raise BadEvidence(f"Targets must lie between 0 and {classes - 1}.")
        if not np.isfinite(self.logits).all():
            bad = int((~np.isfinite(self.logits)).any(axis=(1, 2)).sum())
            raise BadEvidence(f"{bad} of {len(self)} models answer with NaN or infinite logits.")

    def __len__(self) -> int:
        return self.logits.shape[0]

    def on(self, name: str) -> Evidence:
        """Return what the same models answer on one set alone.

        Raises:
            BadEvidence: there is no set of this name.
        """
        if name not in self.sets:
            raise BadEvidence(f"No set {name!r} here.{did_you_mean(name, self.sets)}")
        rows = self.sets[name]
        targets = self.targets[rows]
        return Evidence(self.logits[:, rows], targets, {name: slice(0, len(targets))})

    def models(self, index: np.ndarray | slice) -> Evidence:
        """Return what some of the models answer, on the same examples."""
        return Evidence(self.logits[index], self.targets, self.sets)
