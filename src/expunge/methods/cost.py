"""What a method costs on a problem, counted from its sentence before anything is trained.

All that forecasts is built on this count: the share of retraining that a search may spend, the
hours of an experiment, the time that training a language model takes.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from expunge.core.method import Method, Step, words_of
from expunge.core.run import ProblemProtocol
from expunge.core.selector import Selector
from expunge.core.term import Term
from expunge.engine.check import teachers_of, whole_set_terms
from expunge.engine.memory import ANSWERS, MADE
from expunge.engine.training import Train, from_scratch, unrolled

# A backward pass costs about two forward ones: a forward pass alone is a third of a training pass.
FORWARD_ALONE = 1 / 3


@dataclass(frozen=True)
class CostForecast:
    """What one run of a method costs on a problem.

    Args:
        examples: name of a set -> examples read, as the receipt will count them.
        answered: examples that go forward once more, through a teacher or a second time; not in
            the receipt.
        made: inputs that a step makes itself and trains on, such as noise; not in the receipt.
        work: all of it in examples of training; one that only goes forward counts a third.
        epochs: the work in passes over the retain set.
        share: the work as a share of retraining by the problem's recipe; None without a recipe.
        at_most: whether the run may end earlier than this.
    """

    examples: dict[str, int]
    answered: int
    made: int
    work: float
    epochs: float
    share: float | None
    at_most: bool


def forecast(method: Method, problem: ProblemProtocol) -> CostForecast:
    """Count what one run of a method costs on a problem.

    Raises:
        OffLimits, BadData: the method names a set that it may not see or that is not there.
    """
    read = examples_read(method, problem)
    work = _work(read)
    return CostForecast(
        examples={name: count for name, count in read.items() if name not in (ANSWERS, MADE)},
        answered=read[ANSWERS],
        made=read[MADE],
        work=work,
        epochs=work / len(problem.data("retain")),
        share=work / _work(_retraining(problem)) if problem.recipe else None,
        at_most=any(getattr(word, "may_stop_early", False) for word in words_of(method.steps)),
    )


def share_of_retraining(method: Method, problem: ProblemProtocol) -> float:
    """Return what a method costs as a share of retraining; 0 where the problem has no recipe.

    It is counted, not timed, so that what a search allows is the same on every machine.

    Raises:
        OffLimits, BadData: as for `forecast`.
    """
    return forecast(method, problem).share or 0.0


def epochs_of(steps: tuple[Step, ...]) -> float:
    """Return the epochs of all training in some steps, with its turns."""
    return sum(step.epochs for _, _, step in unrolled(steps) if isinstance(step, Train))


def time_in_words(seconds: float) -> str:
    """Return a time in the unit that reads best, such as "40 s", "25 min" or "3.2 h"."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def bytes_in_words(count: int) -> str:
    """Return a number of bytes in the unit that reads best, such as "3.0 MiB" or "1.25 GiB"."""
    gib = 2**30
    return f"{count / gib:.2f} GiB" if count >= gib / 10 else f"{count / 2**20:.1f} MiB"


def _work(read: Counter[str]) -> float:
    return read.total() - (1 - FORWARD_ALONE) * read[ANSWERS]


def _retraining(problem: ProblemProtocol) -> Counter[str]:
    """Examples that retraining by the recipe reads."""
    return examples_read(from_scratch(problem, "retain", "retrain"), problem)


def examples_read(method: Method, problem: ProblemProtocol) -> Counter[str]:
    """Count the examples of each set that one run reads, with `ANSWERS` and `MADE`."""
    read: Counter[str] = Counter()
    seen: set[Selector | Term] = set()
    for _, _, step in unrolled(method.steps):
        read.update(step.reads(problem))
        for part in _outermost_parts(step):
            read.update(_read_to_judge(part, problem, seen))
        for term in dict.fromkeys(whole_set_terms(step)):
            read.update(_read_once(term, problem, seen))
    if problem.recipe and "oracle" in teachers_of(method):  # it is retrained within the run
        read.update(_retraining(problem))
    return read


def _read_to_judge(
    part: Selector, problem: ProblemProtocol, seen: set[Selector | Term]
) -> Counter[str]:
    """Examples read to judge a selector and those inside it: once a run, unless it redraws."""
    read = part.reads(problem) if part.redraws else _read_once(part, problem, seen)
    for inner in vars(part).values():
        if isinstance(inner, Selector):
            read.update(_read_to_judge(inner, problem, seen))
    return read


def _read_once(
    word: Selector | Term, problem: ProblemProtocol, seen: set[Selector | Term]
) -> Counter[str]:
    """Examples that a word reads the first time that a run meets it."""
    if word in seen:
        return Counter()
    seen.add(word)
    return Counter(word.reads(problem))


def _outermost_parts(word: Any) -> Iterator[Selector]:
    """The selectors that a word and the words inside it name, but not those inside a selector."""
    if isinstance(word, Selector):
        yield word
    elif isinstance(word, tuple):
        for item in word:
            yield from _outermost_parts(item)
    elif dataclasses.is_dataclass(word):
        for field in dataclasses.fields(word):
            yield from _outermost_parts(getattr(word, field.name))
