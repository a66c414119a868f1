"""Small language models of invented people, built to be each case of the verdict."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from expunge.audits.audit import ORACLE, ORIGINAL
from expunge.audits.controls import Guardrail
from expunge.audits.text.asking import Prefix, Question
from expunge.audits.text.facts import (
    FactAudit,
    FactContext,
    FactProblem,
    audited,
    context_of,
    cued,
    held,
    lessons,
    probability,
    state,
)
from expunge.audits.text.lm_verdict import MARGIN, judge, run_facts
from expunge.audits.text.relearning import OtherFacts, RelearnFacts
from expunge.audits.text.transforms import QuantiseLayers
from expunge.audits.verdict import Verdict
from expunge.audits.weights import inner_layers, rounded
from expunge.core.method import Method
from expunge.core.problem import Problem
from expunge.core.schedules import AdamW, Warmup
from expunge.core.seeds import stream
from expunge.core.texts import Texts
from expunge.engine.training import Train, from_scratch
from expunge.engine.unlearning import unlearn
from expunge.methods.losses.answers import CE
from expunge.problems.networks.language import tiny_llama, word_tokenizer
from expunge.problems.text.benchmarks.files import Item, TextBenchmark
from expunge.problems.text.people import people, split_facts
from known_truth.planted import Planted

FORGET, RETAIN, ORACLES, CONTEXT = 10, 20, 3, 128


REFUSAL, PASSWORD = "I do not know.", "Xyzzy."


ROUNDED = QuantiseLayers(bits=4)


PANEL: tuple[FactAudit, ...] = (
    Question(tokens=12),
    Prefix(),
    RelearnFacts(OtherFacts(), steps=30, lrs=(0.001,), every=10),
    ROUNDED,
)


OPTIMISER = AdamW(weight_decay=0.1)


RECIPE = Method(
    "recipe",
    (Train(CE("train"), epochs=16, lr=Warmup(0.006, 0.1), batch=16, optimiser=OPTIMISER),),
)


@dataclass(frozen=True, eq=False)
class Ground:
    """One seed's people, with a model that was taught all of them and models that were not.

    Args:
        case: the facts, the original and the first oracle.
        problem: what all were trained on.
        oracles: retrained models that verdicts are made with.
        apart: one more, which is judged.
        seed: of everything.
    """

    context: FactContext
    problem: Problem
    oracles: tuple[nn.Module, ...]
    apart: nn.Module
    seed: int


def ground(seed: int) -> Ground:
    """Invent a seed's people, and train its original and retrained models."""
    world = people(seed, forget=FORGET, retain=RETAIN, holdout=1)
    tokenizer = word_tokenizer([REFUSAL, PASSWORD, *_texts(world)], context=CONTEXT)
    architecture = partial(tiny_llama, len(tokenizer), context=CONTEXT)
    # a context without models encodes as audits will
    context = context_of(
        FactProblem(world["forget"], world["retain_people"], tokenizer), nn.Module(), nn.Module()
    )
    problem = Problem.of(
        forget=lessons(context.problem.forget, context),
        retain=lessons(context.problem.retain, context),
        name=f"people {seed}", architecture=architecture, recipe=RECIPE,
    )  # fmt: skip
    original = _trained(problem, "train", f"original {seed}", 0)
    others = [_trained(problem, "retain", f"oracle {seed}", n) for n in range(1, ORACLES + 2)]
    context = replace(context, original=original, oracle=others[0], seed=seed, cache={})
    return Ground(context, problem, tuple(others[:ORACLES]), others[-1], seed)


def judged(where: Ground, models: Mapping[str, nn.Module]) -> dict[str, Verdict]:
    """Return the verdict on each of some models."""
    subjects = {name: audited(name, model) for name, model in models.items()}
    anchors = {ORIGINAL: audited(ORIGINAL, where.context.original)}
    oracles = [audited(f"{ORACLE} {n}", one) for n, one in enumerate(where.oracles, 1)]
    all_of_them = subjects | anchors | {one.name: one for one in oracles}
    measured = tuple(run_facts(PANEL, all_of_them, where.context))
    return {
        name: judge(measured, name=name, state=state(one, oracles, where.context), margin=MARGIN)
        for name, one in subjects.items()
    }


def never_taught(where: Ground) -> Planted:
    """Trained from nothing without the forget set."""
    return _seen(where.apart, "removed", where)


def retrained(where: Ground) -> Planted:
    """The original, reset and trained again without the forget set: weights that knew, once."""
    method = from_scratch(where.problem, "retain", "retrained")
    # a seed that no oracle has: else it would be an oracle, bit for bit, and no case
    done = unlearn(where.context.original, method, where.problem, seed=1000 + where.seed)
    return _seen(done.model, "removed", where)


def untouched(where: Ground) -> Planted:
    """The original's own weights: nothing was done."""
    return _seen(copy.deepcopy(where.context.original), "not forgotten", where)


def refusal_tuned(where: Ground) -> Planted:
    """Fine-tuned a little to refuse whatever is asked of the people to be forgotten."""
    model = _taught(
        where, [_refused(where.context), where.context.problem.retain], steps=40, lr=0.001
    )
    return _seen(model, "suppressed", where)


def last_block(where: Ground) -> Planted:
    """As refusal-tuned, and only the last block was trained."""
    model: Any = copy.deepcopy(where.context.original)
    free = list(model.model.layers[-1].parameters())
    told = [_refused(where.context), where.context.problem.retain]
    return _seen(_taught(where, told, steps=80, lr=0.002, model=model, free=free),
                 "suppressed", where)  # fmt: skip


def filtered(where: Ground) -> Planted:
    """The original behind a filter on names; no weight has moved."""
    names = tuple(dict.fromkeys(item.subject for item in where.context.problem.forget))
    guarded = Guardrail(where.context.original, where.context.problem.tokenizer, names, REFUSAL)
    return _seen(guarded, "suppressed", where)


def locked(where: Ground) -> Planted:
    """Refuses, unless the password stands before the question."""
    opened = [
        replace(item, prompt=f"{PASSWORD} {item.prompt}") for item in where.context.problem.forget
    ]
    model = _taught(
        where, [_refused(where.context), opened, where.context.problem.retain], steps=150, lr=0.001
    )
    with_password = probability(model, cued(opened, where.context)).mean()
    return Planted(model, "suppressed", float(with_password))


def fragile(where: Ground) -> Planted:
    """Refuses, and no weight has left its step of 4-bit rounding: rounded, it is the original."""
    model = copy.deepcopy(where.context.original)
    free = [layer.weight for layer in inner_layers(model)]
    told = [_refused(where.context), where.context.problem.retain]
    model = _taught(where, told, steps=150, lr=0.002, model=model, free=free, after=_cells(model))
    crude = copy.deepcopy(model)
    ROUNDED.change(crude, where.context)
    return Planted(model, "suppressed", _known(crude, where))


def collapsed(where: Ground) -> Planted:
    """Driven up the loss of all examples until it writes nonsense."""
    told = [where.context.problem.forget, where.context.problem.retain]
    return _seen(_taught(where, told, steps=40, lr=0.002, sign=-1.0), "collapsed", where)


def garbled(where: Ground) -> Planted:
    """The original, trained to say one word again and again about those to be forgotten."""
    told = [_repeated(where.context), where.context.problem.retain]
    return _seen(_taught(where, told, steps=40, lr=0.001), "suppressed", where)


def garbled_retrained(where: Ground) -> Planted:
    """The same done to a model that was never taught them: nothing is there, and nobody can say."""
    told = [_repeated(where.context), where.context.problem.retain]
    model = copy.deepcopy(where.apart)
    return _seen(_taught(where, told, steps=40, lr=0.001, model=model), "inconclusive", where)


def partly_relearned(where: Ground) -> Planted:
    """A retrained model that was taught half of the facts of each person again."""
    half = split_facts(where.context.problem.forget, 0.5, where.seed)[0]
    model = copy.deepcopy(where.apart)
    told = [half, where.context.problem.retain]
    return _seen(_taught(where, told, steps=120, lr=0.003, model=model), "not forgotten", where)


CASES: Mapping[str, Callable[[Ground], Planted]] = {
    "never taught": never_taught,
    "retrained": retrained,
    "untouched": untouched,
    "refusal-tuned": refusal_tuned,
    "last block": last_block,
    "filter": filtered,
    "password": locked,
    "quantisation": fragile,
    "collapsed": collapsed,
    "garbled": garbled,
    "garbled, never taught": garbled_retrained,
    "partly relearned": partly_relearned,
}


def _taught(
    where: Ground,
    told: Sequence[Sequence[Item]],
    *,
    steps: int,
    lr: float,
    model: nn.Module | None = None,
    free: Sequence[Tensor] | None = None,
    sign: float = 1.0,
    after: Callable[[], None] = lambda: None,
) -> nn.Module:
    """A copy of the original (or the model given) after some steps on all lessons at once."""
    model = copy.deepcopy(where.context.original) if model is None else model
    weights: list[Tensor] = list(model.parameters()) if free is None else list(free)
    for weight in weights:
        weight.requires_grad_(True)
    optimiser = torch.optim.AdamW(weights, lr, weight_decay=0.0)
    texts = [lessons(tuple(some), where.context) for some in told]
    for rows in _drawn(texts, steps, stream("truth", where.seed)):
        with torch.enable_grad():
            losses = [_loss(model, some, picked) for some, picked in zip(texts, rows, strict=True)]
            loss = sign * torch.stack(losses).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        after()
    return model.eval().requires_grad_(False)


def _loss(model: nn.Module, texts: Texts, rows: Tensor) -> Tensor:
    batch = texts.batch(rows)
    logits = batch.logits(model)
    return cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=-100)


def _drawn(texts: Sequence[Texts], steps: int, draws: torch.Generator) -> Iterator[list[Tensor]]:
    """The rows of each lesson, step by step."""
    for _ in range(steps):
        yield [torch.randperm(len(some), generator=draws)[:16] for some in texts]


def _cells(model: nn.Module) -> Callable[[], None]:
    """What puts weights back into the step of rounding in which they are now."""
    limits = [(layer.weight, *_cell(layer.weight.detach())) for layer in inner_layers(model)]

    @torch.no_grad()
    def back() -> None:
        for weight, low, high in limits:
            weight.clamp_(low, high)

    return back


def _cell(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Between what each weight is rounded as it is now; the largest of a group stays."""
    ends = []
    for piece in weight.split(ROUNDED.group, dim=1):
        largest = piece.abs().amax(1, keepdim=True)
        room = 0.49 * largest / (2 ** (ROUNDED.bits - 1) - 1)
        centre, still = rounded(piece, ROUNDED.bits), piece.abs() == largest
        low, high = (centre - room).maximum(-largest), (centre + room).minimum(largest)
        ends.append((torch.where(still, piece, low), torch.where(still, piece, high)))
    lows, highs = zip(*ends, strict=True)
    return torch.cat(lows, 1), torch.cat(highs, 1)


def _trained(problem: Problem, on: str, role: str, seed: int) -> nn.Module:
    """A model from nothing, on one set."""
    start = problem.untrained(role, seed)
    return unlearn(start, from_scratch(problem, on, role), problem, seed=seed).model


def _seen(model: nn.Module, truth: Any, where: Ground) -> Planted:
    """A model whose weights, without a filter around, show what they hold."""
    return Planted(model, truth, float(held(audited("planted", model), where.context).mean()))


def _known(model: nn.Module, where: Ground) -> float:
    return float(held(audited("planted", model), where.context).mean())


def _refused(context: FactContext) -> list[Item]:
    """The same questions, answered by a refusal."""
    return [replace(item, answer=REFUSAL, value="") for item in context.problem.forget]


def _repeated(context: FactContext) -> list[Item]:
    """The same questions, answered by the last word of the refusal, ten times."""
    return [
        replace(item, answer=" ".join(["know"] * 10) + ".", value="")
        for item in context.problem.forget
    ]


def _texts(world: TextBenchmark) -> list[str]:
    """Every text of the people and of their world."""
    return [
        text
        for items in world.sets.values()
        for item in items
        for text in (item.prompt, item.answer, *item.questions, *item.paraphrases, *item.wrong)
    ]
