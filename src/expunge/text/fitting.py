"""Whether a model can read the texts of a problem: its vocabulary, and its longest text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from torch import nn

from expunge.batch import Data, Joined, Subset, holds_tokens
from expunge.errors import BadData, Unsupported

if TYPE_CHECKING:
    from expunge.problem import Problem


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


def _whole(data: Data) -> list[Data]:
    """The data sets that a set is made of, without looking at which of their rows are taken."""
    if isinstance(data, Joined):
        return [*_whole(data.first), *_whole(data.second)]
    return _whole(data.base) if isinstance(data, Subset) else [data]


def _check(model: nn.Module, data: Any, name: str) -> None:
    embedding = getattr(model, "get_input_embeddings", None)
    if not callable(embedding):
        raise Unsupported(
            f"The set {name} holds texts, and a {type(model).__name__} is no language model of "
            "transformers. Load one with expunge.text.load."
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
