"""What audits do to weights, of classifiers and language models alike: round, prune, compare."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from expunge.audits.controls import bare
from expunge.errors import BadEvidence, Unsupported


def weighted_layers(model: nn.Module) -> Sequence[tuple[str, nn.Module]]:
    """Modules with a kernel or matrix of their own, in the order in which the model defines them.

    Raises:
        Unsupported: there is none.
    """
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    found = [(name, m) for name, m in model.named_modules() if isinstance(m, kinds)]
    if not found:
        raise Unsupported("The model has no linear layer and no convolution to look beneath.")
    return found


def inner_layers(model: nn.Module) -> Sequence[nn.Linear]:
    """The linear layers of a language model, without the one that gives the answers.

    Raises:
        BadEvidence: there is none.
    """
    output = getattr(model, "get_output_embeddings", lambda: None)()
    found = [m for m in model.modules() if isinstance(m, nn.Linear) and m is not output]
    if not found:
        raise BadEvidence("The model has no linear layer besides the one that gives the answers.")
    return found


def rounded(weight: Tensor, bits: int) -> Tensor:
    """A kernel or matrix, rounded to nearest on a grid of its own for each output, about 0.

    Args:
        weight: [out, ...]; an output of zeros stays.
        bits: levels from -(2^(bits - 1) - 1) to 2^(bits - 1) - 1, the largest weight at an end.
    """
    levels = 2 ** (bits - 1) - 1
    largest = weight.abs().flatten(1).amax(1).view(-1, *[1] * (weight.ndim - 1))
    step = torch.where(largest > 0, largest / levels, torch.ones_like(largest))
    return (weight / step).round() * step


@torch.no_grad()
def prune_smallest(weights: Sequence[Tensor], share: float) -> None:
    """Set the smallest of all weights together to 0, in place and without repair.

    Args:
        weights: any shapes.
        share: of the weights that are pruned, 0 to 1.
    """
    sizes = torch.cat([weight.abs().flatten() for weight in weights])
    count = round(share * len(sizes))
    limit = sizes.kthvalue(count).values if count else sizes.new_tensor(-1.0)
    for weight in weights:
        weight[weight.abs() <= limit] = 0.0


def refuse_other_shapes(model: nn.Module, original: nn.Module) -> None:
    """Refuse a model that does not match the original weight by weight.

    Raises:
        BadEvidence: weights of other names or shapes.
    """
    one, other = (
        {name: weight.shape for name, weight in bare(each).named_parameters()}
        for each in (model, original)
    )
    if one != other:
        raise BadEvidence("The model and the original differ in their weights' names or shapes.")
