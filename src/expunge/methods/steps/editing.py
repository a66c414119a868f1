"""What locate-and-edit steps are made of: facts, keys, wanted values, and changes of a matrix.

A layer's MLP is read as a memory: what enters its last matrix at the subject's last token is a key,
and what comes out is the value that the later layers read the fact from. The order here is that of
an edit: read the facts, write contexts, find keys and the wanted value, change the matrix.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expunge.core.batch import Data, Joined, Subset, Tokens
from expunge.core.texts import Texts, TokenRow
from expunge.core.view import blocks, inputs_of, layer_of, outputs_of
from expunge.errors import BadData, Unsupported

if TYPE_CHECKING:
    from expunge.core.run import RunProtocol


@dataclass(frozen=True, eq=False)
class Fact:
    """A prompt with the answer that is wanted.

    Args:
        said: the text as it is in row 0, and after some context in the others.
        places: int64 [b], the subject's last token in each row.
        alone: int64 [1, t], the subject by itself.
    """

    said: Tokens
    places: Tensor
    alone: Tensor


def rows_of(data: Data, other: bool = False) -> tuple[TokenRow, ...]:
    """Return the texts of a set in memory, or their other answers.

    Raises:
        Unsupported: the set does not hold texts.
    """
    if isinstance(data, Joined):
        return (*rows_of(data.first, other), *rows_of(data.second, other))
    if isinstance(data, Subset):
        whole = rows_of(data.base, other)
        return tuple(whole[place] for place in data.index.tolist()) if whole else ()
    if not isinstance(data, Texts):
        raise Unsupported("Facts are edited in language models; this set holds no texts.")
    return data.instead if other else data.made


def missing(data: Data) -> str:
    """Say as a clause why no fact of a set can be edited; empty if all can."""
    try:
        rows = rows_of(data, other=True)
    except Unsupported:
        return "facts are edited in texts, and the set holds none"
    if not rows:
        return "the set has no right answers to write (instead=...)"
    if any(row.subject[1] == 0 for row in rows):
        return "the set does not say what each prompt is about (subjects=...)"
    return ""


# The reference code samples contexts among the five likeliest tokens.
LIKELIEST = 5


@torch.no_grad()
def contexts(run: RunProtocol, length: int, count: int) -> list[list[int]]:
    """Let the model write texts from nothing; return token ids without the one that begins a text.

    Args:
        length: tokens of each text.
        count: how many texts.

    Source: kmeng01/rome@0874014, rome_main.py (which ends each with a full stop; a model here may
    have no token for it).
    """
    config: Any = run.model.config
    stream = run.stream(f"contexts of {length}")
    device = next(run.model.parameters()).device
    first = beginning(config)
    ids = torch.full((count, 1), 0 if first is None else first, device=device)
    for _ in range(length if count else 0):
        scores = run.model(input_ids=ids).logits[:, -1].float()
        if getattr(config, "eos_token_id", None) is not None:
            scores[:, config.eos_token_id] = -torch.inf
        best, names = scores.topk(min(LIKELIEST, scores.shape[-1]))
        taken = torch.multinomial(best.softmax(-1).cpu(), 1, generator=stream).to(device)
        ids = torch.cat([ids, names.gather(1, taken)], dim=1)
    return [row[1:] for row in ids.tolist()] if length else []


def beginning(config: Any) -> int | None:
    """Return the token that begins a text, or else the one that ends one; None without either."""
    marks = (getattr(config, name, None) for name in ("bos_token_id", "eos_token_id"))
    return next((int(mark) for mark in marks if isinstance(mark, int)), None)


def fact(model: Any, row: TokenRow, before: Sequence[Sequence[int]]) -> Fact:
    """Make one fact, bare and behind each context, cut where the model's own context ends."""
    config, ids = model.config, row.ids.tolist()
    device = next(model.parameters()).device
    head = 1 if ids and ids[0] == beginning(config) else 0
    room = int(getattr(config, "max_position_embeddings", 0) or 10**9) - len(ids)
    rows, shifts = [row], [0]
    for context in before:
        added = list(context)[: max(room, 0)]
        longer = torch.tensor([*ids[:head], *added, *ids[head:]])
        rows.append(replace(row, ids=longer, start=row.start + len(added)))
        shifts.append(len(added))
    said = Texts(tuple(rows)).batch(torch.arange(len(rows))).to(device)
    places = torch.tensor(shifts, device=device) + row.subject[1] - 1
    alone = torch.tensor([[*ids[:head], *ids[slice(*row.subject)]]], device=device)
    return Fact(said, places, alone)


def projection(model: nn.Module, number: int) -> nn.Module:
    """Return the last matrix of a layer's MLP, which writes into the residual stream.

    Raises:
        Unsupported: the layer has no part called mlp, or no matrix in it, or is the last one: what
            that writes at the subject is read at no later token.
    """
    inner = getattr(layer_of(model, number), "mlp", None)
    if number == len(blocks(model)) - 1:
        raise Unsupported(
            f"Layer {number} is the last one, and what it writes at the subject is read at no "
            "later token. Choose a layer in the middle of the model."
        )
    if isinstance(inner, nn.Module):
        found = [m for m in inner.modules() if getattr(getattr(m, "weight", None), "ndim", 0) == 2]
        if found:
            return found[-1]
    raise Unsupported(
        f"Layer {number} of a {type(model).__name__} has no MLP that is known here; facts are "
        "edited in models of the kind of Llama, GPT-2, GPT-J and GPT-NeoX."
    )


@torch.no_grad()
def at_subject(model: nn.Module, one: Fact, layer: nn.Module, inward: bool) -> Tensor:
    """Read what goes into a layer, or comes out of it, at the subject's last token.

    Args:
        inward: whether what goes in is read.

    Returns:
        float64 [b, d].
    """
    with (inputs_of if inward else outputs_of)(layer) as seen:
        one.said.logits(model)
    rows = torch.arange(len(one.places), device=one.places.device)
    return seen[-1][rows, one.places].double()


@dataclass(frozen=True)
class Search:
    """How a wanted value is found: by Adam, on what is added to the value that is there.

    Args:
        steps: evaluations of the loss, one more than there are changes.
        lr: of Adam.
        clamp: largest norm of what is added, as a multiple of the norm of the value.
        kl: weight of how far the answer after the subject alone may move.
        decay: weight of the norm of what is added, over the squared norm of the value.
        enough: a loss below this ends the search, nats.
    """

    steps: int = 20
    lr: float = 0.5
    clamp: float = 4.0
    kl: float = 0.0625
    decay: float = 0.5
    enough: float = 0.05


@dataclass(frozen=True, eq=False)
class Found:
    """The result of a search.

    Args:
        start: float64 [d], the value that was there.
        delta: float64 [d], what is added to it.
        read: how many times the fact was read for it.
    """

    start: Tensor
    delta: Tensor
    read: int


@torch.enable_grad()
def wanted(run: RunProtocol, one: Fact, layer: nn.Module, how: Search) -> Found:
    """Find the value that makes the model give the wanted answer.

    It minimises the mean over contexts of -log p of an answer's token, the divergence of the next
    token after the subject alone from what it was, and the norm of what is added.

    Source: Meng et al., ROME, arXiv 2202.05262, equation 4; kmeng01/rome@0874014, compute_v.py.
    """
    start = at_subject(run.model, one, layer, inward=False)[0].float()
    delta = torch.zeros_like(start, requires_grad=True)
    optimiser = torch.optim.Adam([delta], lr=how.lr)
    scored, before = one.said.scored, None
    last = torch.tensor([one.alone.shape[1] - 1], device=delta.device)
    for look in range(1, how.steps + 1):
        with added(layer, one.places, delta):
            logits = one.said.logits(run.model)
        losses = F.cross_entropy(logits.mT, one.said.targets, reduction="none")
        answer = ((losses * scored).sum(1) / scored.sum(1)).mean()
        with added(layer, last, delta):
            alone = run.model(input_ids=one.alone).logits[:, -1].float().log_softmax(-1)
        before = alone.detach() if before is None else before
        moved = F.kl_div(before, alone, log_target=True, reduction="batchmean")
        size = how.decay * delta.norm() / start.norm().square()
        loss = answer + how.kl * moved + size
        if look == how.steps or float(loss.detach()) < how.enough:
            break
        delta.grad = torch.autograd.grad(loss, delta)[0]
        optimiser.step()
        with torch.no_grad():
            delta.mul_((how.clamp * start.norm() / delta.norm().clamp_min(1e-12)).clamp_max(1))
    return Found(start.double(), delta.detach().double(), look + 1)


@contextmanager
def added(layer: nn.Module, places: Tensor, delta: Tensor) -> Iterator[None]:
    """Add a vector to what a layer gives at one token of each row, while the block runs."""
    rows = torch.arange(len(places), device=places.device)

    def plus(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        whole = isinstance(output, tuple)
        states = output[0] if whole else output
        more = delta.to(states).expand(len(places), -1)
        states = states.index_put((rows, places), more, accumulate=True)
        return (states, *output[1:]) if whole else states

    handle = layer.register_forward_hook(plus)
    try:
        yield
    finally:
        handle.remove()


CHUNK = 16


@torch.no_grad()
def second_moments(
    run: RunProtocol, name: str, layers: Mapping[int, nn.Module], samples: int
) -> dict[int, Tensor]:
    """Return the mean of k k' over the keys of all tokens of a set, for each layer, float64 [d, d].

    Args:
        samples: texts that are read, at most.

    Source: kmeng01/rome@0874014, layer_stats.py.
    """
    data, device = run.data(name), next(run.model.parameters()).device
    count, seen = min(samples, len(data)), 0
    sums: dict[int, Tensor] = {}
    for rows in torch.arange(count).split(CHUNK):
        batch = data.batch(rows).to(device)
        if not isinstance(batch, Tokens):
            raise BadData(f"The set {name} holds images; keys are taken from texts.")
        with ExitStack() as hooks:
            went = {n: hooks.enter_context(inputs_of(layer)) for n, layer in layers.items()}
            batch.logits(run.model)
        for number, inputs in went.items():
            keys = inputs[-1][batch.mask].double()
            sums[number] = sums.get(number, 0) + keys.mT @ keys
        seen += int(batch.mask.sum())
    run.counts.add({name: count})
    return {number: total / seen for number, total in sums.items()}


def damped(covariance: Tensor, share: float) -> Tensor:
    """Add a share of a covariance's mean diagonal to its diagonal."""
    return covariance + share * covariance.diagonal().mean() * torch.eye(len(covariance)).to(
        covariance
    )


def rank_one(covariance: Tensor, key: Tensor, at: Tensor, residual: Tensor) -> Tensor:
    """Return the change of W, smallest by what other keys notice, that adds a residual at a key.

    It is r (C^-1 k)' / ((C^-1 k)' k0): with k0 = k, W k gets r added, and any other key x gets
    r (x' C^-1 k) / (k' C^-1 k).

    Args:
        covariance: float64 [d, d], mean of k k' over other keys.
        key: float64 [d], averaged over contexts.
        at: float64 [d], the key k0 of the bare prompt, at which the residual is added.
        residual: float64 [m], wanted value less the one that is there.

    Returns:
        float64 [m, d].

    Raises:
        BadData: the covariance has no inverse.

    Source: ROME, equation 2; kmeng01/rome@0874014, compute_u.py and compute_v.py.
    """
    turned = _solve(covariance, key[:, None])[:, 0]
    return torch.outer(residual, turned) / (turned @ at)


def spread(covariance: Tensor, weight: float, keys: Tensor, residuals: Tensor) -> Tensor:
    """Return the change of W that adds many residuals at many keys, by least squares.

    It is R K' (weight C + K K')^-1, the minimum of |D K - R|^2 + weight tr(D C D').

    Args:
        covariance: as for `rank_one`.
        weight: how many other keys the covariance counts as.
        keys: float64 [d, n].
        residuals: float64 [m, n].

    Returns:
        float64 [m, d].

    Source: Meng et al., MEMIT, arXiv 2210.07229, equation 14; kmeng01/memit@80426fd, memit_main.py.
    """
    return residuals @ _solve(weight * covariance + keys @ keys.mT, keys).mT


def _solve(matrix: Tensor, right: Tensor) -> Tensor:
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if int(failed):
        raise BadData(
            f"The keys of the retain texts do not span their {len(matrix)} dimensions, so that "
            "their covariance has no inverse. Give more retain texts, or a damping such as 0.01."
        )
    return torch.cholesky_solve(right, factor)


@torch.no_grad()
def write(layer: nn.Module, change: Tensor) -> None:
    """Add a change [out, in] to a matrix, whichever way round the layer keeps it."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    # GPT-2's Conv1D keeps [in, out]; the shape of a square one does not show it
    turned = change.mT if type(layer).__name__ == "Conv1D" else change
    weight.add_(turned.to(weight))
