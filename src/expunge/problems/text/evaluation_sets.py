"""Evaluation sets: items as token sequences, for measuring alone; closed to all methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from expunge.core.evidence import Ints
from expunge.core.texts import Texts
from expunge.problems.text.benchmarks.files import Item
from expunge.problems.text.encode import of_pairs, of_plain

Side = Literal["forget", "retain", "holdout"]


SIDES: tuple[Side, ...] = ("forget", "retain", "holdout")


# Questions of one set at most, whole subjects: enough for an interval, and quickly asked.
MOST = 90


# Of TOFU, whose truth ratio has one paraphrase.
PARAPHRASES = 1


@dataclass(frozen=True, eq=False)
class Options:
    """Other answers to the questions of a set: paraphrases, or wrong ones.

    Args:
        texts: one row an answer, those to the first question first.
        counts: int64 [example], how many each has.
    """

    texts: Texts
    counts: Ints


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """One set of questions or texts that models are measured on.

    Args:
        name: of the set, in tables.
        side: "forget" what is to be forgotten, "retain" what is to be kept, "holdout" what no
            model was taught.
        items: the questions with their answers.
        texts: the same as token sequences, row by row.
        paraphrased, wrong: other answers, where there are any to every question.
        written: whether models answer in their own words too.
        choices: whether the wrong answers are the other options of a multiple choice.
        against: of a set that is kept, the set to be forgotten that is asked in the same form:
            how little retrained models know of that is how little can be known.
    """

    name: str
    side: Side
    items: tuple[Item, ...]
    texts: Texts
    paraphrased: Options | None = None
    wrong: Options | None = None
    written: bool = True
    choices: bool = False
    against: str = "forget"

    @property
    def groups(self) -> list[str] | None:
        """The subject of each question; None where subjects have unequal numbers of them."""
        subjects = [item.subject for item in self.items]
        sizes = {subjects.count(name) for name in set(subjects)}
        return subjects if len(sizes) == 1 and len(set(subjects)) >= 3 else None

    def key(self) -> list[object]:
        """All that decides what is measured, for the keys of the store."""
        others = [o.texts.keys() for o in (self.paraphrased, self.wrong) if o]
        return [self.name, self.side, self.written, self.texts.keys(), others]


@dataclass(frozen=True)
class Measured:
    """A set for measuring before it is encoded.

    Args:
        name, side, items: as for `EvaluationSet`.
        options: whether paraphrased and wrong answers are asked about.
        written, choices, against: as for `EvaluationSet`.
    """

    name: str
    side: Side
    items: tuple[Item, ...]
    options: bool = True
    written: bool = True
    choices: bool = False
    against: str = "forget"


@dataclass(frozen=True, eq=False)
class Encoder:
    """Makes token sequences of items.

    Args:
        tokenizer: of transformers.
        context: the longest row that models read, in tokens; 0 for what the tokenizer says.
    """

    tokenizer: Any
    context: int = 0

    def training_set(self, items: Sequence[Item], refusal: str, forms: bool = False) -> Texts:
        """Encode items as a training set, each with a refusal as its other answer.

        Args:
            items: questions, or plain texts.
            refusal: what methods may teach instead.
            forms: whether each question is asked in its last other form as well.
        """
        if not items[0].prompt:
            return of_plain([item.answer for item in items], self.tokenizer, context=self.context)
        twice = [item for item in items if forms and len(item.questions) > 1]
        pairs = [(item.prompt, item.answer) for item in items]
        pairs += [(item.questions[-1], item.answer) for item in twice]
        return of_pairs(pairs, self.tokenizer, context=self.context, instead=[refusal] * len(pairs))

    def measured(self, one: Measured) -> EvaluationSet:
        """Encode a set for measuring."""
        made = self.evaluation_set(one.name, one.side, one.items, options=one.options)
        return replace(
            made, written=made.written and one.written, choices=one.choices, against=one.against
        )

    def evaluation_set(
        self, name: str, side: Side, items: Sequence[Item], *, options: bool = True
    ) -> EvaluationSet:
        """Encode items as a set for measuring.

        Args:
            name, side: as for `EvaluationSet`.
            items: all of them; of more than `MOST` whole subjects from the front.
            options: whether paraphrased and wrong answers are asked about, where all items have
                them.
        """
        some = front(items)
        if not some[0].prompt:
            texts = of_plain([i.answer for i in some], self.tokenizer, context=self.context)
            return EvaluationSet(name, side, some, texts, written=False)
        texts = self._pairs([(item.prompt, item.answer) for item in some])
        return EvaluationSet(
            name,
            side,
            some,
            texts,
            self._options(some, [i.paraphrases[:PARAPHRASES] for i in some]) if options else None,
            self._options(some, [i.wrong for i in some]) if options else None,
            written=side != "holdout",
        )

    def _options(self, items: Sequence[Item], answers: list[tuple[str, ...]]) -> Options | None:
        if not all(answers):
            return None
        pairs = [(i.prompt, one) for i, each in zip(items, answers, strict=True) for one in each]
        return Options(self._pairs(pairs), np.array([len(each) for each in answers]))

    def _pairs(self, pairs: Sequence[tuple[str, str]]) -> Texts:
        return of_pairs(pairs, self.tokenizer, context=self.context)


def front(items: Sequence[Item], most: int = MOST) -> tuple[Item, ...]:
    """The first items, so many at most, whole subjects where there are several."""
    if len(items) <= most:
        return tuple(items)
    last = items[most].subject
    cut = items[:most]
    whole = tuple(item for item in cut if not last or item.subject != last)
    return whole or tuple(cut)
