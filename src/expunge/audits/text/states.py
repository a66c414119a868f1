"""Hidden states, read once of each model, and what a lens or a probe makes of every layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from expunge.audits.audit import AuditedModel, Family, Measurement, within
from expunge.audits.controls import bare
from expunge.audits.text import facts
from expunge.audits.text.facts import FactAudit, FactContext, Values
from expunge.audits.text.traces import kept_facts
from expunge.core.batch import Tokens
from expunge.core.texts import Texts
from expunge.core.view import blocks, lens_of, outputs_of
from expunge.core.vocabulary import word
from expunge.errors import Unsupported
from expunge.problems.text.benchmarks.files import Item

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


Lens = Callable[[Tensor], Tensor]


@word
class LogitLens(FactAudit):
    """How probable the value is, read off the layer that tells most by the model's own last steps.

    Each layer's outputs go through the last normalisation and the head, as if no layer followed.
    Nothing is fitted, so that nothing is read that is not there. For every model alike, the layer
    is taken whose mean over all facts is highest; the last one gives what `Prefix` does.

    Source: nostalgebraist, Interpreting GPT: the Logit Lens, 2020; for unlearning, Lucki et al.,
    arXiv 2409.18025, ethz-spylab/unlearning-vs-safety@349b774, src/logit_lens (there, accuracy
    among the letters of a choice).
    """

    family: ClassVar[Family] = "inside"
    unit: ClassVar[str] = facts.PROBABILITY

    def unfit(self, context: FactContext) -> str:
        return unreadable(context) or _without_lens(context)

    def __call__(self, subject: AuditedModel, context: FactContext) -> Measurement:
        seen, lens = inside(subject, context), _placed(subject)
        values = [told(lens, seen.forget, layer) for layer in range(seen.layers)]
        return best_layer(context, values)


@word
class ProbeFacts(FactAudit):
    """How probable the value is by a probe that was trained, layer by layer, on kept facts.

    The probe is an affine map of a layer's outputs before the model's own last normalisation and
    head, trained to tell the true tokens of kept facts. No forget fact is among them, so that it
    can read what the model holds of one and cannot learn it. Two controls stand beside each layer:
    kept facts of subjects that it was not trained on, and the same probe trained on the values of
    other subjects, dealt out at random within each kind, which must tell no more than a guess.

    Args:
        penalty: on the squared change from the logit lens, beside the mean loss.
        steps: of L-BFGS, at most.
        held: share of the kept subjects that the probe is not trained on.

    Source: Belrose et al., Eliciting Latent Predictions with the Tuned Lens, arXiv 2303.08112,
    section 3, for the map (there, towards the model's own answers; here, towards the truth); Hewitt
    and Liang, Designing and Interpreting Probes with Control Tasks, arXiv 1909.03368.
    """

    family: ClassVar[Family] = "inside"
    unit: ClassVar[str] = facts.PROBABILITY
    key_name: ClassVar[str] = "TunedProbe"
    penalty: float = 0.003
    steps: int = 60
    held: float = 0.25

    def check(self) -> None:
        within("ProbeFacts", "penalty", self.penalty, 0, 1e9)
        within("ProbeFacts", "steps", self.steps, 1, 100_000)
        within("ProbeFacts", "held", self.held, 1e-9, 1 - 1e-9)

    def unfit(self, context: FactContext) -> str:
        return unreadable(context) or _without_lens(context) or _too_few(context)

    def __call__(self, subject: AuditedModel, context: FactContext) -> Measurement:
        seen, lens = inside(subject, context), _placed(subject)
        held = context.once((self, "held"), lambda: subjects_apart(kept_read(context), self.held))
        taught, others = seen.kept.some(~held), seen.kept.some(held)
        mixed = shuffled(taught, kept_read(context), context.stream("shuffled labels"))
        values, also = [], {}
        for layer in range(seen.layers):
            states = taught.hidden[layer]
            probe = self.trained(lens, states, taught.targets)
            values.append(told(probe, seen.forget, layer))
            control = self.trained(lens, states, mixed)
            also[f"layer {layer}, shuffled"] = float(told(control, seen.forget, layer).mean())
            also[f"layer {layer}, kept"] = float(told(probe, others, layer).mean())
            also[f"layer {layer}, kept, shuffled"] = float(told(control, others, layer).mean())
        cost = {"steps": float(2 * self.steps * seen.layers)}
        return best_layer(context, values, also, cost)

    def trained(self, lens: Lens, states: Tensor, targets: Tensor) -> Lens:
        """The lens behind the affine map that tells some tokens best.

        Args:
            lens: float [place, width] to logits [place, token].
            states: float32 [place, width].
            targets: int64 [place].
        """
        width = states.shape[1]
        turn, shift = torch.zeros(width, width), torch.zeros(width)
        weights = [turn.requires_grad_(True), shift.requires_grad_(True)]
        optimiser = torch.optim.LBFGS(weights, max_iter=self.steps, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimiser.zero_grad()
            loss = cross_entropy(lens(states + states @ turn + shift), targets)
            loss = loss + self.penalty * turn.square().sum()
            loss.backward()
            return loss

        with torch.enable_grad():
            optimiser.step(closure)
        turn, shift = turn.detach(), shift.detach()
        return lambda states: lens(states + states @ turn + shift)


def shuffled(states: States, items: Sequence[Item], draws: torch.Generator) -> Tensor:
    """The tokens of a control task: each from another fact of its kind, at its place in the value.

    What a question alone tells of its answer stays as it is.

    Args:
        states: whose targets are dealt out anew.
        items: the facts, by their number in `states.fact`.
        draws: of the deal.

    Returns:
        int64 [place].
    """
    _, count = states.fact.unique_consecutive(return_counts=True)
    turn = torch.cat([torch.arange(int(size)) for size in count])
    alike: dict[tuple[str, int], list[int]] = {}
    for place, (fact, nth) in enumerate(zip(states.fact.tolist(), turn.tolist(), strict=True)):
        alike.setdefault((items[fact].kind, nth), []).append(place)
    dealt = states.targets.clone()
    for places in alike.values():
        there = torch.tensor(places)
        order = torch.randperm(len(there), generator=draws)
        dealt[there] = states.targets[there[order]]
    return dealt


@torch.no_grad()
def told(lens: Lens, states: States, layer: int) -> Values:
    """How probable a lens says that the values are at one layer, float64 [fact]."""
    chances = lens(states.hidden[layer]).log_softmax(-1)
    return by_fact(chances.gather(-1, states.targets[:, None])[:, 0], states.fact)


def best_layer(
    context: FactContext,
    values: Sequence[Values],
    also: dict[str, float] | None = None,
    cost: dict[str, float] | None = None,
) -> Measurement:
    """The reading of the layer that tells most of all facts; every layer's mean beside it."""
    means = {f"layer {layer}": float(one.mean()) for layer, one in enumerate(values)}
    best = max(range(len(values)), key=lambda layer: means[f"layer {layer}"])
    beside = {**means, **(also or {}), "best layer": float(best)}
    return facts.measurement(context.problem.forget, values[best], details=beside, cost=cost or {})


def _placed(subject: AuditedModel) -> Lens:
    """The lens of a model itself, for states on the processor."""
    lens, weight = lens_of(subject.bare), next(subject.bare.parameters())
    return lambda states: lens(states.to(weight.device, weight.dtype)).cpu()


def _without_lens(context: FactContext) -> str:
    try:
        lens_of(bare(context.original))
    except Unsupported:
        return "the head of the original, or the normalisation before it, is not known"
    return ""


def _too_few(context: FactContext) -> str:
    """Why no probe can be trained and checked; empty if it can."""
    return (
        ""
        if len(about(kept_read(context))) > 1
        else "the kept facts are of fewer than two subjects"
    )


Numbers = Mapping[str, float]


LAYER = "layer "


@dataclass(frozen=True)
class LayerMap:
    """Shares of the original's lead, layers down and audits across.

    Args:
        audits: sentences, the columns.
        layers: their names, from the first on, the rows.
        shares: [layer, audit]; None where the original does not lead every retrained model, so that
            nothing can be left of it.
    """

    audits: tuple[str, ...]
    layers: tuple[str, ...]
    shares: tuple[tuple[float | None, ...], ...]


def layer_map(read: Mapping[str, Sequence[Mapping[str, float | None]]]) -> LayerMap:
    """Return the map of the audits that have any layer; means over members.

    Args:
        read: sentence of an audit -> for each member, its `shares`.
    """
    merged = {audit: _mean(members) for audit, members in read.items()}
    audits = tuple(audit for audit, shares in merged.items() if shares)
    found = {layer for audit in audits for layer in merged[audit]}
    layers = tuple(sorted(found, key=_number))
    shares = tuple(tuple(merged[audit].get(layer) for audit in audits) for layer in layers)
    return LayerMap(audits, layers, shares)


def shares(mine: Numbers, original: Numbers, oracles: Sequence[Numbers]) -> dict[str, float | None]:
    """Return what is left of the original's lead in each layer; 0 as retrained, 1 as the original.

    Args:
        mine: what a reading says besides its values (`Reading.also`) of the model.
        original, oracles: the same of the original and of each retrained model.
    """
    found: dict[str, float | None] = {}
    for name, value in mine.items():
        if not name.removeprefix(LAYER).isdigit() or name not in original:
            continue
        others = [one[name] for one in oracles if name in one]
        lead = original[name] - (sum(others) / len(others) if others else original[name])
        ahead = bool(others) and original[name] > max(others)
        found[name] = 1 - (original[name] - value) / lead if ahead else None
    return found


def _mean(members: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """The mean over members, layer by layer, of those that have a share there."""
    told: dict[str, float | None] = {}
    for layer in dict.fromkeys(name for one in members for name in one):
        there = [share for one in members if (share := one.get(layer)) is not None]
        told[layer] = float(np.mean(there)) if there else None
    return told


def _number(layer: str) -> int:
    return int(layer.removeprefix(LAYER))
