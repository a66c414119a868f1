"""Hidden states: read once of each model, and shared by all audits of what is inside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from expunge.audits.audit import AuditedModel
from expunge.audits.controls import bare
from expunge.audits.text import facts
from expunge.audits.text.facts import FactContext, Values
from expunge.audits.text.traces import kept_facts
from expunge.core.batch import Tokens
from expunge.core.texts import Texts
from expunge.core.view import blocks, outputs_of
from expunge.errors import Unsupported
from expunge.problems.text.benchmarks.items import Item

# Kept facts whose states are read beside those of the forget facts: what is fitted is fitted there.
KEPT = 300


@dataclass(frozen=True, eq=False)
class States:
    """What comes out of every layer of a model where the values of some facts are told.

    Args:
        hidden: float32 [layer, place, width], at each token that predicts one of a value.
        targets: int64 [place], the token that is to be predicted.
        fact: int64 [place], the fact that it is of, ascending.
        opening: float32 [layer, fact, width], at the last token before the answer begins.
    """

    hidden: Tensor
    targets: Tensor
    fact: Tensor
    opening: Tensor

    def some(self, wanted: Tensor) -> States:
        """The places of some of the facts, bool [fact]; facts keep their numbers."""
        there = wanted[self.fact]
        return States(self.hidden[:, there], self.targets[there], self.fact[there], self.opening)


@dataclass(frozen=True, eq=False)
class Inside:
    """One model's states: of the facts to be forgotten, and of some that were kept."""

    forget: States
    kept: States

    @property
    def layers(self) -> int:
        """How many layers the model has."""
        return len(self.forget.hidden)


def inside(subject: AuditedModel, context: FactContext) -> Inside:
    """The states of a model itself, whatever filter stands around it; read once."""
    found: Inside = subject.once(("inside", context), lambda model: _inside(bare(model), context))
    return found


def inside_anchor(model: nn.Module, context: FactContext) -> Inside:
    """The states of the case's original or oracle; read once a case."""
    found: Inside = context.once(("inside", id(model)), lambda: _inside(bare(model), context))
    return found


def unreadable(context: FactContext) -> str:
    """Why nothing can be read inside the models of a case, as a clause; empty if it can."""
    if not context.problem.retain:
        return "no fact was to be kept"
    try:
        blocks(bare(context.original))
    except Unsupported:
        return "the layers of the original are not known"
    return ""


def forget_cues(context: FactContext) -> Texts:
    """The forget facts as cues, as `Prefix` asks for them."""
    found: Texts = context.once("cued", lambda: facts.cued(context.problem.forget, context))
    return found


def kept_cues(context: FactContext) -> Texts:
    """The kept facts whose states are read, as cues."""
    found: Texts = context.once("cued and kept", lambda: facts.cued(kept_read(context), context))
    return found


def kept_read(context: FactContext) -> tuple[Item, ...]:
    """The kept facts whose states are read."""
    found: tuple[Item, ...] = context.once("kept and read", lambda: kept_facts(context, KEPT))
    return found


def _inside(model: nn.Module, context: FactContext) -> Inside:
    facts.refuse_foreign(model, forget_cues(context))
    return Inside(
        read_states(
            model, forget_cues(context), facts.answer_starts(context.problem.forget, context)
        ),
        read_states(model, kept_cues(context), facts.answer_starts(kept_read(context), context)),
    )


@torch.no_grad()
def read_states(model: nn.Module, texts: Texts, starts: Sequence[int]) -> States:
    """The states of a model at some cues, each of which it reads once.

    Args:
        model: a transformer; put into evaluation mode.
        texts: the cues, padded on the right.
        starts: the token of each at which the answer begins.
    """
    layers, found = blocks(model.eval()), []
    for rows, batch in _batches(model, texts):
        with ExitStack() as stack:
            seen = [stack.enter_context(outputs_of(layer)) for layer in layers]
            batch.answers(model)
        states = torch.stack([one[-1] for one in seen]).float()
        before = torch.tensor([max(starts[row] - 1, 0) for row in rows.tolist()])
        opening = states[:, torch.arange(len(rows)), before]
        row, place = batch.scored.nonzero(as_tuple=True)
        targets = batch.targets[row, place]
        found.append((states[:, row, place].cpu(), targets.cpu(), rows[row.cpu()], opening.cpu()))
    hidden, wanted, fact, openings = zip(*found, strict=True)
    return States(torch.cat(hidden, 1), torch.cat(wanted), torch.cat(fact), torch.cat(openings, 1))


def by_fact(logprobs: Tensor, fact: Tensor) -> Values:
    """Geometric mean over the places of each fact, of those that have any, float64 [fact].

    Args:
        logprobs: [place], nats.
        fact: int64 [place], ascending.
    """
    _, which, count = fact.unique_consecutive(return_inverse=True, return_counts=True)
    sums = torch.zeros(len(count), dtype=torch.float64).index_add(0, which, logprobs.double())
    return np.asarray((sums / count).exp())


class Change(Protocol):
    """What takes the place of a layer's outputs [b, t, width]; rows, int64 [b], are those read."""

    def __call__(self, states: Tensor, *, batch: Tokens, rows: Tensor) -> Tensor: ...


@torch.no_grad()
def logprobs_under(model: nn.Module, texts: Texts, changes: Mapping[int, Change]) -> Tensor:
    """Log-probabilities of all scored tokens while the outputs of some layers are changed.

    Args:
        model: a transformer; its weights stay as they are.
        texts: cues.
        changes: number of a layer -> what takes the place of its outputs.

    Returns:
        float32 [place], nats, in the order of `States`.
    """
    layers, found = blocks(model.eval()), []
    for rows, batch in _batches(model, texts):
        with ExitStack() as stack:
            for number, change in changes.items():
                made = partial(change, batch=batch, rows=rows)
                stack.enter_context(replaced(layers[number], made))
            logits = batch.answers(model)
        targets = batch.targets[batch.scored][:, None]
        found.append(logits.log_softmax(-1).gather(-1, targets)[:, 0].cpu())
    return torch.cat(found)


@contextmanager
def replaced(layer: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Put something else in the place of a layer's outputs while the block runs."""

    def put(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, tuple):
            return (change(output[0]), *output[1:])
        return change(output)

    handle = layer.register_forward_hook(put)
    try:
        yield
    finally:
        handle.remove()


def _batches(model: nn.Module, texts: Texts) -> Iterator[tuple[Tensor, Tokens]]:
    """Rows, int64 [b], and what the model reads of them."""
    device = next(model.parameters()).device
    for rows in torch.arange(len(texts)).split(facts.rows_at_once(model, texts)):
        yield rows, texts.batch(rows).to(device)


def about(items: Sequence[Item]) -> tuple[str, ...]:
    """The subjects of some facts, each once; a fact about nobody stands alone."""
    return tuple(dict.fromkeys(_name(item) for item in items))


def subjects_apart(items: Sequence[Item], share: float) -> Tensor:
    """Which facts are of the last so many subjects, bool [fact]; at least one subject each way."""
    there = about(items)
    count = min(max(1, round(share * len(there))), len(there) - 1)
    last = set(there[len(there) - count :])
    return torch.tensor([_name(item) in last for item in items])


def _name(item: Item) -> str:
    return item.subject or f"item {item.index}"
