"""What a method needs: sets, labels, teachers, and whether it is retraining; from its sentence.

A word declares only what its sentence does not show: whose labels it reads (`reads_labels`), that
it draws (`draws`, a selector's `redraws`), that it looks at the original's weights
(`sees_original`), and that it forgets whole classes alone (`class_wise`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from expunge.core.method import Method, Step, own_sets, words_of
from expunge.core.term import Term
from expunge.engine.training import Reset, unrolled

# Teachers that never saw the forget set; every other one did.
INNOCENT = ("random", "oracle")


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
        named = [*labelled, *([taught] if self.teachers else [])]
        return ", ".join([*named, *(["whole classes"] if self.class_wise else [])]) or "nothing"


def needs(method: Method) -> Needs:
    """Return what a method needs, read from the words of its sentence."""
    words, teachers = list(words_of(method.steps)), teachers_of(method)
    drawn = any(getattr(w, "draws", False) or getattr(w, "redraws", False) for w in words)
    besides = ("retain",) if "oracle" in teachers else ()  # which is trained on it
    labels = (*(name for word in words for name in _labels_of(word)), *besides)
    return Needs(
        sets=tuple(dict.fromkeys((*method.sets, *besides))),
        labels=tuple(dict.fromkeys(labels)),
        teachers=teachers,
        class_wise=any(getattr(word, "class_wise", False) for word in words),
        deterministic=not drawn and not {"random", "oracle"} & set(teachers),
        guarantee="exact" if _is_retraining(method) else "none",
    )


def teachers_of(method: Method) -> tuple[str, ...]:
    """Return the teachers that the words of a method compare with."""
    words = words_of(method.steps)
    return tuple(dict.fromkeys(name for word in words for name in getattr(word, "teachers", ())))


def whole_set_terms(step: Step) -> Iterator[Term]:
    """Yield the terms of a step that read whole sets before the training begins."""
    for word in words_of(step):
        if isinstance(word, Term) and word.reads_whole_sets:
            yield word


def _labels_of(word: Any) -> tuple[str, ...]:
    """The sets whose labels a word reads: all that it names, unless it says otherwise."""
    declared = getattr(word, "reads_labels", None)
    return own_sets(word) if declared is None else declared


def _is_retraining(method: Method) -> bool:
    """Whether a method starts from fresh weights and never sees the forget set or the original.

    A word that reads whole sets reads them with the original.
    """
    plan = unrolled(method.steps)
    return (
        bool(plan)
        and plan[0][2] == Reset()
        and set(method.sets) == {"retain"}
        and set(teachers_of(method)) <= set(INNOCENT)
        and not any(
            getattr(word, "sees_original", False) or getattr(word, "reads_whole_sets", False)
            for word in words_of(method.steps)
        )
    )
