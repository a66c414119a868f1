"""Unlearning depth by activation patching: what the original makes of another model's states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from expunge.audits.audit import AuditedModel, Family, Measurement, within
from expunge.audits.controls import bare
from expunge.audits.text import facts
from expunge.audits.text.facts import FactAudit, FactContext, Values
from expunge.audits.text.states import (
    States,
    by_fact,
    forget_cues,
    inside,
    inside_anchor,
    kept_cues,
    logprobs_under,
    unreadable,
)
from expunge.audits.weights import refuse_other_shapes
from expunge.core.batch import Tokens
from expunge.core.texts import Texts
from expunge.core.vocabulary import word


@word
class Patched(FactAudit):
    """How much the original can make of the model's hidden states: 1 - UDS, one layer at a time.

    The original reads each fact, and at the tokens that predict the value one layer's outputs are
    replaced by the model's. Where the value stays as probable, the model holds it in that layer;
    where it falls as far as with the oracle's states, nothing is left. A value is the share that
    does not fall, over the layers where the oracle's states cost more than `least`, each weighted
    by that cost. Facts without such a layer are left out, for all models alike.

    The first oracle reads 0 by construction. States of models from different starts mean nothing to
    one another: a model that was taught everything from another start reads 0 too. "kept" says how
    probable kept facts stay through the patch: where that is little, the number means nothing. So
    this is never evidence by itself, least of all that something is gone.

    Args:
        least: nats a token that the oracle's states must cost, for a layer to count.

    Source: Lee, Kim and Jo, unlearning depth score, arXiv 2605.24614; gnueaj/
    unlearning-depth-score@a6dabd4, compute_uds.py (1 for erased there, 0 for intact).
    """

    family: ClassVar[Family] = "inside"
    unit: ClassVar[str] = "share that the original makes of it"
    decisive: ClassVar[bool] = False
    least: float = 0.05

    def check(self) -> None:
        within("Patched", "least", self.least, 0, 1e6)

    def unfit(self, context: FactContext) -> str:
        if reason := unreadable(context):
            return reason
        counts = self._cost(context).any(0)
        return "" if counts.any() else "the oracle's states cost the original nothing"

    def __call__(self, subject: AuditedModel, context: FactContext) -> Measurement:
        refuse_other_shapes(subject.bare, context.original)
        seen, first = inside(subject, context), self._cost(context)
        second = costs(bare(context.original), forget_cues(context), seen.forget)
        values, counts = depth(first, second)
        items = [item for item, used in zip(context.problem.forget, counts, strict=True) if used]
        also: dict[str, float] = {}
        for layer in range(seen.layers):
            used = first[layer] > 0
            left = 1 - (second[layer][used] / first[layer][used]).clip(0, 1)
            # a layer that no fact counts in has nothing to tell
            also |= {f"layer {layer}": float(left.mean())} if used.any() else {}
        through = costs(bare(context.original), kept_cues(context), seen.kept)
        also |= {
            f"layer {n}, kept": float(np.exp(-one.clip(0)).mean()) for n, one in enumerate(through)
        }
        cost = {
            "queries": float(seen.layers * (len(context.problem.forget) + len(kept_cues(context))))
        }
        return facts.measurement(items, 1 - values[counts], details=also, cost=cost)

    def _cost(self, context: FactContext) -> Values:
        """What the oracle's states cost the original where it counts, else 0, [layer, fact]."""

        def make() -> Values:
            states = inside_anchor(context.oracle, context).forget
            found = costs(bare(context.original), forget_cues(context), states)
            return np.where(found > self.least, found, 0.0)

        found: Values = context.once((self, "cost"), make)
        return found


def depth(first: Values, second: Values) -> tuple[Values, NDArray[np.bool_]]:
    """The unlearning depth score of each fact: 1 erased as in a retrained model, 0 intact.

    Args:
        first: what the oracle's states cost, nats, [layer, fact]; 0 in layers that do not count.
        second: what the model's states cost.

    Returns:
        float64 [fact], and whether any layer counts for it; 0 where none does.
    """
    fallen = np.minimum(second.clip(0), first).sum(0)
    whole = first.sum(0)
    return fallen / np.where(whole > 0, whole, 1.0), whole > 0


def costs(target: nn.Module, texts: Texts, source: States) -> Values:
    """How far the log-probability of each value falls when one layer's states are replaced.

    Args:
        target: the model that reads the facts; its weights stay as they are.
        texts: the facts as cues.
        source: another model's states at the same cues.

    Returns:
        float64 [layer, fact], mean over the value's tokens, nats.
    """
    plain = np.log(by_fact(logprobs_under(target, texts, {}), source.fact))
    found = [
        plain
        - np.log(by_fact(logprobs_under(target, texts, {n: Put(states, source.fact)}), source.fact))
        for n, states in enumerate(source.hidden)
    ]
    return np.stack(found)


@dataclass(frozen=True, eq=False)
class Put:
    """Puts states in the place of a layer's outputs, at the tokens that predict the values.

    Args:
        states: float32 [place, width].
        fact: int64 [place], the row of each, ascending.
    """

    states: Tensor
    fact: Tensor

    def __call__(self, states: Tensor, *, batch: Tokens, rows: Tensor) -> Tensor:
        """The outputs [b, t, width] with the states put in."""
        new = self.states[torch.isin(self.fact, rows)].to(states)
        return states.index_put(batch.scored.nonzero(as_tuple=True), new)
