"""All that is asked before training: do the model, the method and the problem fit together?

`check` is what `unlearn` asks; the other functions are its parts, for commands and experiments that
ask before a model is there. A word of a sentence says itself why it cannot work on a problem
(`unfit`), hardly can (`doubt`), or forgets whole classes alone (`class_wise`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from expunge.core.batch import Data, Joined, Subset, holds_tokens
from expunge.core.method import Method, Step, method_of, own_sets, words_of
from expunge.core.problem import OPEN_SETS, Problem
from expunge.core.term import Term
from expunge.engine.run import sharing
from expunge.engine.training import Reset, unrolled
from expunge.errors import BadData, Diverged, Unsupported


def check(model: object, method: object, problem: object) -> Method:
    """Refuse a model, method and problem that do not fit together; return the method.

    Args:
        method: a Method, a step or steps.

    Raises:
        BadData: something else in the place of a model or of a problem, a set that is not there,
            or a text that the model cannot read.
        BadSentence: something else in the place of a method.
        OffLimits: the method names a set that is for measuring only.
        Unsupported: a word of the method says why it cannot work here.
        Diverged: the model holds values that are infinite or not a number.
    """
    if not isinstance(model, nn.Module):
        raise BadData(f"Got a {type(model).__name__} as the model; expected a torch.nn.Module.")
    if not isinstance(problem, Problem):
        raise BadData(
            f"Got a {type(problem).__name__} as the problem; expected a Problem, as "
            "Problem.of(forget=..., retain=...) makes it."
        )
    wanted = method_of(method)
    check_fit(wanted, problem)
    refuse_broken(model, "The model")
    check_texts(model, problem, wanted.sets)
    return wanted


def check_sets(method: Method, problem: Problem) -> None:
    """Refuse a method that names a set it may not see, or that is not there.

    Raises:
        OffLimits, BadData: as for `Problem.data`.
    """
    for name in method.sets:
        if name in OPEN_SETS and name not in problem.sets:
            raise BadData(
                f"{method.name} reads the set {name!r}, and {problem.name} has none; it has "
                f"{', '.join(problem.sets)}. Give Problem such a set ({name}=(inputs, targets)), "
                "or choose a method that does without."
            )
        problem.data(name)


def check_fit(method: Method, problem: Problem) -> None:
    """Refuse a method that cannot work on a problem, before anything is done.

    Raises:
        OffLimits, BadData: a set that it may not see, or that is not there.
        Unsupported: a word says why it cannot work here.
    """
    check_sets(method, problem)
    if reasons := unfit(method, problem):
        raise Unsupported(f"{method.name} cannot work on {problem.name}: {'; '.join(reasons)}.")


def unfit(method: Method, problem: Problem) -> tuple[str, ...]:
    """Why a method cannot work on a problem, in clauses; empty when it can."""
    words = list(words_of(method.steps))
    said = [word.unfit(problem) for word in words if hasattr(word, "unfit")]
    class_wise = any(getattr(word, "class_wise", False) for word in words)
    if class_wise and not any(said) and not problem.class_wise:
        said.append(
            "it forgets whole classes, and the retain set holds examples of them; choose a forget "
            "set such as WholeClass(3)"
        )
    return tuple(dict.fromkeys(reason.rstrip(".") for reason in said if reason))


def doubts(method: Method, problem: Problem) -> tuple[str, ...]:
    """Why a method may work badly on a problem, in sentences; it runs all the same."""
    said = [word.doubt(problem) for word in words_of(method.steps) if hasattr(word, "doubt")]
    return tuple(dict.fromkeys(f"{doubt.rstrip('.')}." for doubt in said if doubt))


def check_texts(model: nn.Module, problem: Problem, names: Iterable[str]) -> None:
    """Refuse a model that cannot read the texts of these sets; images are not looked at.

    Raises:
        Unsupported: the model is no language model of transformers.
        BadData: a token beyond its vocabulary, or a text beyond its context.
    """
    for name in names:
        for data in _whole(problem.data(name)):
            if holds_tokens(data):
                _check_tokens(model, data, name)


@contextmanager
def explain_shapes(model: nn.Module, problem: Problem, names: Iterable[str]) -> Iterator[None]:
    """Where torch refuses inputs in the block, say which set of images holds them.

    Inputs are not tried before: a forward pass that no receipt counts would be hidden work.

    Raises:
        BadData: inputs of a shape that the model does not take.
    """
    try:
        yield
    except RuntimeError:
        for name in names:
            if not holds_tokens(problem.data(name)):
                _explain_shape(model, problem.data(name), name)
        raise


def _whole(data: Data) -> list[Data]:
    """The datasets that a set is made of, whichever of their rows it takes."""
    if isinstance(data, Joined):
        return [*_whole(data.first), *_whole(data.second)]
    return _whole(data.base) if isinstance(data, Subset) else [data]


def _explain_shape(model: nn.Module, data: Data, name: str) -> None:
    """Show the model one example, and put torch's complaint into a sentence."""
    first = next(model.parameters())
    image = data.batch(torch.tensor([0])).to(first.device)
    try:
        with torch.no_grad():
            image.logits(sharing(model))
    except RuntimeError as fault:
        raise BadData(
            f"The model cannot read the set {name}, whose inputs are {image.inputs.dtype} of shape "
            f"{tuple(image.inputs.shape[1:])}: {fault}. Give inputs as the model was trained on."
        ) from None


def _check_tokens(model: nn.Module, data: Any, name: str) -> None:
    embedding = getattr(model, "get_input_embeddings", None)
    if not callable(embedding):
        raise Unsupported(
            f"The set {name} holds texts, and a {type(model).__name__} is no language model of "
            "transformers. Load one with expunge.problems.text.models.load."
        )
    size, largest = embedding().num_embeddings, max(int(row.ids.max()) for row in data.made)
    if largest >= size:
        raise BadData(
            f"The set {name} holds the token {largest}, and the model's vocabulary ends at "
            f"{size - 1}. Encode the texts with the tokenizer that belongs to the model."
        )
    context = int(getattr(getattr(model, "config", None), "max_position_embeddings", 0) or 0)
    longest = int(data.token_counts().max())
    if context and longest > context:
        raise BadData(
            f"The set {name} holds a text of {longest} tokens, and the model reads {context}. Give "
            "the encoder the model's context, or ask for chunks."
        )


def refuse_broken(model: nn.Module, who: str) -> None:
    """Refuse weights or statistics that are NaN or infinite."""
    if not any(True for _ in model.parameters()):
        raise BadData(f"{who} has no parameters; there is nothing to unlearn from.")
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise Diverged(f"{who} has NaN or infinite values in {name}.")


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
