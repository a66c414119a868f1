"""What a method needs and costs, derived from its sentence, and whether it fits a problem.

A word says of itself only what its sentence does not: whose labels it reads (`reads_labels`), that
it draws (`draws`, a part's `redraws`), that it looks at the original's weights (`sees_original`),
how many examples it reads apart from minibatches (`reads`), that it may read fewer
(`may_stop_early`), that it forgets whole classes alone (`class_wise`), and in words of its own why
it cannot work on a problem (`unfit`) or hardly can (`doubt`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from expunge.core.batch import Data, Joined, Subset, holds_tokens
from expunge.core.method import Method, words_of
from expunge.core.problem import OPEN_SETS, Problem
from expunge.engine.reference_model import sharing
from expunge.engine.requirements import needs
from expunge.errors import BadData, Diverged, Unsupported


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
    if needs(method).class_wise and not any(said) and not problem.class_wise:
        said.append(
            "it forgets whole classes, and the retain set holds examples of them; choose a forget "
            "set such as WholeClass(3)"
        )
    return tuple(dict.fromkeys(reason.rstrip(".") for reason in said if reason))


def doubts(method: Method, problem: Problem) -> tuple[str, ...]:
    """Why a method may work badly on a problem, in sentences; it is carried out all the same."""
    said = [word.doubt(problem) for word in words_of(method.steps) if hasattr(word, "doubt")]
    return tuple(dict.fromkeys(f"{doubt.rstrip('.')}." for doubt in said if doubt))


def check_model(model: nn.Module, problem: Problem, names: Iterable[str]) -> None:
    """Refuse a model that cannot read the sets of these names; sets of images always pass.

    Raises:
        Unsupported: the model is no language model of transformers.
        BadData: a token beyond its vocabulary, or a text beyond its context.
    """
    for name in names:
        for data in _whole(problem.data(name)):
            if holds_tokens(data):
                _check(model, data, name)


@contextmanager
def explain_shapes(model: nn.Module, problem: Problem, names: Iterable[str]) -> Iterator[None]:
    """Where torch refuses inputs in the block, say which set of images holds them.

    They are not tried before: a pass that no receipt counts would be hidden work.

    Raises:
        BadData: inputs of a shape that the model does not take.
    """
    try:
        yield
    except RuntimeError:
        for name in names:
            if not holds_tokens(problem.data(name)):
                _check_images(model, problem.data(name), name)
        raise


def _whole(data: Data) -> list[Data]:
    """The data sets that a set is made of, without looking at which of their rows are taken."""
    if isinstance(data, Joined):
        return [*_whole(data.first), *_whole(data.second)]
    return _whole(data.base) if isinstance(data, Subset) else [data]


def _check_images(model: nn.Module, data: Data, name: str) -> None:
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


def _check(model: nn.Module, data: Any, name: str) -> None:
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


def refuse_kinds(model: object, problem: object) -> None:
    """Refuse a name in the place of a model or of a problem."""
    if not isinstance(model, nn.Module):
        raise BadData(f"Got a {type(model).__name__} as the model; expected a torch.nn.Module.")
    if not isinstance(problem, Problem):
        raise BadData(
            f"Got a {type(problem).__name__} as the problem; expected a Problem, as "
            "Problem.of(forget=..., retain=...) makes it."
        )


def refuse_broken(model: nn.Module, who: str) -> None:
    """Refuse weights or statistics that are NaN or infinite."""
    if not any(True for _ in model.parameters()):
        raise BadData(f"{who} has no parameters; there is nothing to unlearn from.")
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise Diverged(f"{who} has NaN or infinite values in {name}.")
