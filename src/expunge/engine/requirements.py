"""What a method needs and costs, derived from its sentence, and whether it fits a problem.

A word says of itself only what its sentence does not: whose labels it reads (`reads_labels`), that
it draws (`draws`, a part's `redraws`), that it looks at the original's weights (`sees_original`),
how many examples it reads apart from minibatches (`reads`), that it may read fewer
(`may_stop_early`), that it forgets whole classes alone (`class_wise`), and in words of its own why
it cannot work on a problem (`unfit`) or hardly can (`doubt`).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from expunge.core.method import Method, Step, own_sets, words_of
from expunge.core.run import ProblemProtocol
from expunge.core.selector import Selector
from expunge.core.term import Term
from expunge.engine.memory import ANSWERS, MADE
from expunge.engine.training import Reset, from_scratch, unrolled

# Teachers that never saw the forget set; every other one did.
INNOCENT = ("random", "oracle")


# A backward pass costs about two forward ones: an answer alone is a third of a training pass.
ANSWER = 1 / 3


@dataclass(frozen=True)
class Needs:
    """What a method must be given, and what it promises.

    Args:
        sets: every set that it reads.
        labels: those of them whose labels it reads.
        teachers: the fixed models that it compares with.
        class_wise: whether it forgets whole classes alone.
        deterministic: whether it draws nothing, so that every seed gives the same model.
        guarantee: "exact" for retraining without the forget set, else "none".
    """

    sets: tuple[str, ...]
    labels: tuple[str, ...]
    teachers: tuple[str, ...]
    class_wise: bool
    deterministic: bool
    guarantee: str

    def __str__(self) -> str:
        labelled = [name if name in self.labels else f"{name} (no labels)" for name in self.sets]
        taught = f"{' and '.join(self.teachers)} teacher{'s' * (len(self.teachers) > 1)}"
        said = [*labelled, *([taught] if self.teachers else [])]
        return ", ".join([*said, *(["whole classes"] if self.class_wise else [])]) or "nothing"


@dataclass(frozen=True)
class CostForecast:
    """What a method will cost on a problem, worked out without running it.

    Args:
        examples: name of a set -> examples read, as the receipt will count them.
        answered: examples that teachers answer besides, and other passes beyond the first: a
            forward pass each, not in the receipt.
        made: inputs that a step makes itself and trains on, such as noise, not in the receipt.
        epochs: all of it in passes over the retain set, an answer counted as a third.
        share: the same as a share of retraining by the problem's recipe; None without a recipe.
        at_most: whether the course may end earlier than this.
    """

    examples: dict[str, int]
    answered: int
    made: int
    epochs: float
    share: float | None
    at_most: bool


def needs(method: Method) -> Needs:
    """What a method needs, from the words of its sentence."""
    words, teachers = list(words_of(method.steps)), teachers_of(method)
    drawn = any(getattr(w, "draws", False) or getattr(w, "redraws", False) for w in words)
    besides = ("retain",) if "oracle" in teachers else ()  # which is trained on it
    labels = (*(name for word in words for name in labels_of(word)), *besides)
    return Needs(
        sets=tuple(dict.fromkeys((*method.sets, *besides))),
        labels=tuple(dict.fromkeys(labels)),
        teachers=teachers,
        class_wise=any(getattr(word, "class_wise", False) for word in words),
        deterministic=not drawn and not {"random", "oracle"} & set(teachers),
        guarantee="exact" if is_retraining(method) else "none",
    )


def teachers_of(method: Method) -> tuple[str, ...]:
    """The teachers that the words of a method compare with."""
    words = words_of(method.steps)
    return tuple(dict.fromkeys(name for word in words for name in getattr(word, "teachers", ())))


def labels_of(word: Any) -> tuple[str, ...]:
    """The sets whose labels a word reads: all that it names, unless it says otherwise."""
    said = getattr(word, "reads_labels", None)
    return own_sets(word) if said is None else said


def is_retraining(method: Method) -> bool:
    """Whether a method starts from fresh weights and never sees the forget set or the original."""
    plan = unrolled(method.steps)
    words = list(words_of(method.steps))
    return (
        bool(plan)
        and plan[0][2] == Reset()
        and set(method.sets) == {"retain"}
        and set(teachers_of(method)) <= set(INNOCENT)
        and not any(looks_back(word) for word in words)
    )


def looks_back(word: Any) -> bool:
    """Whether a word looks at the original's weights; whole sets are read with the original."""
    return bool(getattr(word, "sees_original", False) or getattr(word, "reads_whole_sets", False))


def forecast(method: Method, problem: ProblemProtocol) -> CostForecast:
    """What a method will cost on a problem.

    Raises:
        OffLimits, BadData: the method names a set that it may not see or that is not there.
    """
    read = examples_read(method, problem)
    words = words_of(method.steps)
    return CostForecast(
        examples={name: count for name, count in read.items() if name not in (ANSWERS, MADE)},
        answered=read[ANSWERS],
        made=read[MADE],
        epochs=effort(read) / len(problem.data("retain")),
        share=effort(read) / effort(retraining(problem)) if problem.recipe else None,
        at_most=any(getattr(word, "may_stop_early", False) for word in words),
    )


def effort(read: Counter[str]) -> float:
    """Examples, of which those that are only answered count a third."""
    return read.total() - (1 - ANSWER) * read[ANSWERS]


def retraining(problem: ProblemProtocol) -> Counter[str]:
    """What retraining by the recipe reads."""
    return examples_read(from_scratch(problem, "retain", "retrain"), problem)


def examples_read(method: Method, problem: ProblemProtocol) -> Counter[str]:
    """Examples of each set that one run of a method reads, with `ANSWERS` and `MADE`."""
    read: Counter[str] = Counter()
    judged: set[Selector | Term] = set()
    for _, _, step in unrolled(method.steps):
        read.update(step.reads(problem))
        for part in outermost_parts(step):
            read.update(read_to_judge(part, problem, judged))
        for term in dict.fromkeys(whole_set_terms(step)):
            read.update(read_once(term, problem, judged))
    if problem.recipe and "oracle" in teachers_of(method):  # it is retrained within the run
        read.update(retraining(problem))
    return read


def read_to_judge(
    part: Selector, problem: ProblemProtocol, judged: set[Selector | Term]
) -> Counter[str]:
    """Examples read to judge a part and the parts inside it: once a run, unless it redraws."""
    read = part.reads(problem) if part.redraws else read_once(part, problem, judged)
    for inner in vars(part).values():
        if isinstance(inner, Selector):
            read.update(read_to_judge(inner, problem, judged))
    return read


def read_once(
    word: Selector | Term, problem: ProblemProtocol, judged: set[Selector | Term]
) -> Counter[str]:
    """Examples that a word reads the first time that a run meets it."""
    if word in judged:
        return Counter()
    judged.add(word)
    return Counter(word.reads(problem))


def whole_set_terms(step: Step) -> Iterator[Term]:
    """The terms of a step that read whole sets before the training begins."""
    for word in words_of(step):
        if isinstance(word, Term) and word.reads_whole_sets:
            yield word


def outermost_parts(word: Any) -> Iterator[Selector]:
    """The parts that a word and the words inside it name, but not the parts inside a part."""
    if isinstance(word, Selector):
        yield word
    elif isinstance(word, tuple):
        for item in word:
            yield from outermost_parts(item)
    elif dataclasses.is_dataclass(word):
        for field in dataclasses.fields(word):
            yield from outermost_parts(getattr(word, field.name))
