"""Gradient accumulation, mixed precision and activation checkpointing: training in less memory."""

from __future__ import annotations

import functools
import operator
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from expunge.core.batch import Batch, Tokens
from expunge.core.term import Coefficient, Sum, Term, held_by, leaves
from expunge.errors import BadSentence, Unsupported


def check_microbatches(objective: Term, pieces: int) -> None:
    """Refuse micro-batches for a term that is no mean over its examples or targets.

    Raises:
        BadSentence: fewer than one micro-batch, or a term that cannot be cut.
    """
    if pieces < 1:
        raise BadSentence(f"Train: accumulate must be 1 or more, got {pieces}.")
    whole = [term for _, term in parts_of(objective) if term.sets and not term.mean_over]
    if pieces > 1 and whole:
        raise BadSentence(
            f"Train: {whole[0]!r} is no mean over single examples or targets, so a minibatch "
            "cannot be cut into micro-batches that add up to it; leave out accumulate."
        )


def microbatches(
    objective: Term, batches: dict[str, Batch], count: int
) -> Iterator[tuple[Term, dict[str, Batch]]]:
    """Cut a minibatch into `count` micro-batches, each with the objective weighed by its share.

    Their losses add up to that of the whole minibatch, and so do the gradients.
    """
    if count == 1:
        yield objective, batches
        return
    for number in range(count):
        piece = {
            name: batch.rows(_cut(len(batch), number, count)) for name, batch in batches.items()
        }
        piece = {name: batch for name, batch in piece.items() if len(batch)}
        shares = [(_share(term, piece, batches, count), c, term) for c, term in parts_of(objective)]
        weighed = [share * (c * term) for share, c, term in shares if share > 0]
        if weighed:
            yield functools.reduce(operator.add, weighed), piece


def apart(objective: Term, batches: Mapping[str, Batch]) -> list[Term]:
    """Split an objective into parts that share no minibatch; their losses and gradients add up.

    Computed one after another, each part's activations are freed before the next part's are made.
    Objectives on images stay whole, so that published rankings stay the same bit for bit.
    """
    if not all(isinstance(batch, Tokens) for batch in batches.values()):
        return [objective]
    groups: list[tuple[set[str], list[Term]]] = []
    for coefficient, term in parts_of(objective):
        sets, terms = set(term.sets), [coefficient * term]
        for group in [group for group in groups if sets & group[0]]:
            groups.remove(group)
            sets, terms = sets | group[0], group[1] + terms
        groups.append((sets, terms))
    return [functools.reduce(operator.add, terms) for _, terms in groups]


def _cut(size: int, number: int, count: int) -> slice:
    """The rows of one micro-batch; they differ by one row at the most."""
    return slice(size * number // count, size * (number + 1) // count)


def parts_of(objective: Term) -> tuple[tuple[Coefficient, Term], ...]:
    """The terms that an objective adds up, with their coefficients."""
    return objective.parts if isinstance(objective, Sum) else ((1.0, objective),)


def _share(term: Term, piece: Mapping[str, Batch], whole: Mapping[str, Batch], count: int) -> float:
    """The share of what a term is the mean over that lies in one micro-batch."""
    if not term.sets:
        return 1 / count
    name = term.sets[0]
    if name not in piece:
        return 0.0
    return term.counted(piece[name]) / max(1, term.counted(whole[name]))


def mixed_precision(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Run the forward pass in bf16 if `precision` says so; what needs precision stays float32."""
    if not precision:
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


@contextmanager
def activation_checkpointing(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Let a model of transformers compute its activations again in the backward pass.

    The variant without reentrance is used: with the other one no gradient reaches an adapter
    behind frozen embeddings.

    Raises:
        Unsupported: the model has no such mode.
    """
    if not wanted:
        yield
        return
    # later versions of transformers call it activation checkpointing, and warn of the older name
    names = [f"{kind}_checkpointing" for kind in ("activation", "gradient")]
    known = [name for name in names if callable(getattr(model, f"{name}_enable", None))]
    if not known:
        raise Unsupported(
            f"A {type(model).__name__} has no gradient checkpointing; leave out checkpointing."
        )
    getattr(model, f"{known[0]}_enable")({"use_reentrant": False})
    try:
        yield
    finally:
        getattr(model, f"{known[0]}_disable")()


# Beside the sets that `reads` counts, what no receipt counts: examples that go forward alone, and
# inputs that a step makes itself, which go forward and backward.
ANSWERS, MADE = "answers", "made"


def passes(objective: Term) -> Counter[str]:
    """Count forward passes of one minibatch of each set: one a model, however many terms read it.

    A term on changed inputs (`alters`) sees another minibatch; passes on inputs of a term's own
    (`extra_passes`) come on top.
    """
    count = Counter(name for _, _, name in set(_asked(objective, "")))
    for term in leaves(objective):
        if term.extra_passes:
            count[term.sets[0]] += term.extra_passes
    return count


def _asked(thing: Any, seen: str) -> Iterator[tuple[str, str, str]]:
    """Who answers which set, and in which changed form: each triple is one forward pass."""
    if isinstance(thing, tuple):
        for item in thing:
            yield from _asked(item, seen)
    elif isinstance(thing, Term):
        inner = list(_asked(held_by(thing), seen + thing.alters))
        yield from inner or ((who, seen + thing.alters, name) for who, name in thing.asks)


def more_than_one(objective: Term, read: Counter[str]) -> int:
    """Count forward passes of examples beyond the one that the receipt counts."""
    count = passes(objective)
    return sum(max(0, count[name] - 1) * examples for name, examples in read.items())
